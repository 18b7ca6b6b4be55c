"""Our kernels as PyTorch operators (torch.library), and a module that uses them in place of what it was written with.

On CUDA the kernel runs; on the CPU the reference, so that the same module runs and is compiled everywhere. Types stay
as they are: results are rounded once, at the end.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from engines.plugins.last_steps import LastSteps
from engines.plugins.pixel_dcl import MAPS, PixelInterleave
from engines.plugins.pixel_dcl_maps import LEAST_CAPABILITY, LEAST_CHANNELS, PixelDclMaps
from engines.plugins.pixel_shuffle import PixelShuffleTail
from engines.plugins.ptx import launch


def use_kernels(module: Any) -> list[str]:
    """Replaces PixelShuffle and the end of pixel deconvolutions inside a torch.nn.Module on its device, in place.

    Whether TF32 is allowed is looked up now, and what is replaced can be compiled without a break.

    Returns:
        the layers that were replaced, by their names in the module.
    """
    import torch

    from reference_models.networks.pixel_dcn import IPixelCL, IPixelDCL, PixelDCL

    ops, products, found = operators(), _products(next(module.parameters()).device), []
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.PixelShuffle):
            layer.forward = partial(ops.pixel_shuffle, r=layer.upscale_factor)  # type: ignore[method-assign]
        elif isinstance(layer, PixelDCL | IPixelDCL | IPixelCL):
            layer.interleave = ops.pixel_interleave
            if isinstance(layer, PixelDCL) and layer.conv2.kernel_size == (3, 3):
                layer.forward = partial(_pixel_dcl, layer, ops.pixel_dcl, products)  # type: ignore[method-assign]
        else:
            continue
        found.append(name)
    return found


def _products(device: Any) -> frozenset[Any]:
    """Types that our kernel multiplies on this device; on the CPU, where the reference runs, as on a capable one."""
    import torch

    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if 10 * major + minor < LEAST_CAPABILITY:
            return frozenset()
    return frozenset({torch.float16, *((torch.float32,) if torch.backends.cudnn.allow_tf32 else ())})


def _pixel_dcl(layer: Any, fused: Any, products: frozenset[Any], x: Any) -> Any:
    """PixelDCL.forward with its masked convolution in our kernel where tensor cores take the type and the shape."""
    import torch

    a = layer.conv0(x)
    if layer.conv2.weight.shape[0] < LEAST_CHANNELS or a.dtype not in products:
        return layer.from_first(a)
    b, weight = layer.conv1(a), layer.conv2.weight.to(a.dtype)
    taps = weight[:, :, 1:2, ::2], weight[:, :, ::2, 1:2]
    if layer.activation is torch.relu:
        return fused(a, b, *taps, 0.0)
    y = fused(a, b, *taps, 1.0)
    return layer.activation(y) if layer.activation else y


def _word(tensor: Any) -> str:
    """Triton's word for a tensor's type."""
    import torch

    return {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int8: "i8"}[tensor.dtype]


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


@cache
def operators() -> Any:
    """`pixel_shuffle(x, r)`, `pixel_interleave(4 maps, slope)` and `pixel_dcl(a, b, row, column, slope)` in the
    namespace `fullres` of torch.ops; registered once per process."""
    import torch

    def fake_shuffle(x: torch.Tensor, r: int) -> torch.Tensor:
        return x.new_empty(PixelShuffleTail(r).output_shape(x.shape))

    def doubled(*maps: torch.Tensor) -> torch.Tensor:
        return maps[0].new_empty(PixelInterleave().output_shape(maps[0].shape))

    def pixel_shuffle(x: torch.Tensor, r: int) -> torch.Tensor:
        return PixelShuffleTail(r).reference(x)

    def pixel_interleave(
        top_left: torch.Tensor,
        top_right: torch.Tensor,
        bottom_left: torch.Tensor,
        bottom_right: torch.Tensor,
        slope: float = 1.0,
    ) -> torch.Tensor:
        return PixelInterleave(LastSteps(slope=slope)).reference(top_left, top_right, bottom_left, bottom_right)

    def pixel_dcl(
        a: torch.Tensor, b: torch.Tensor, row: torch.Tensor, column: torch.Tensor, slope: float = 1.0
    ) -> torch.Tensor:
        return PixelDclMaps(LastSteps(slope=slope)).reference(a, b, row, column)

    # Postponed annotations are text; the schema wants types.
    tensor = "Tensor"
    schemas: dict[str, tuple[str, Any, Any, Any]] = {
        "pixel_shuffle": (f"({tensor} x, int r) -> {tensor}", pixel_shuffle, launch_shuffle, fake_shuffle),
        "pixel_interleave": (
            f"({', '.join(f'{tensor} {name}' for name in MAPS)}, float slope=1.0) -> {tensor}",
            pixel_interleave, launch_interleave, lambda *maps, slope=1.0: doubled(*maps[:4]),
        ),
        "pixel_dcl": (
            f"({tensor} a, {tensor} b, {tensor} row, {tensor} column, float slope=1.0) -> {tensor}",
            pixel_dcl, launch_dcl, lambda *maps, slope=1.0: doubled(maps[0]),
        ),
    }  # fmt: skip
    for name, (schema, on_cpu, on_cuda, fake) in schemas.items():
        torch.library.define(f"fullres::{name}", schema)
        torch.library.impl(f"fullres::{name}", "cpu", on_cpu)
        torch.library.impl(f"fullres::{name}", "cuda", on_cuda)
        torch.library.register_fake(f"fullres::{name}", fake)
    return torch.ops.fullres


def launch_shuffle(x: Any, r: int, *, planned: bool = False) -> Any:
    """The kernel on a device's tensor, or through Triton's interpreter on any; `planned` as for launch."""
    x = x.contiguous()
    tail, word = PixelShuffleTail(r), _word(x)
    planes, height, width = x.shape[1:]
    y, variant = x.new_empty(tail.output_shape(x.shape)), tail.variant(word, word)
    given = {"x": x, "channels": planes // (r * r), "height": height, "width": width, "y": y}
    launch(variant, tail.grid(x.shape, variant.constants["BLOCK"], _cdiv), given, planned)
    return y


def launch_interleave(
    top_left: Any, top_right: Any, bottom_left: Any, bottom_right: Any, slope: float = 1.0, *, planned: bool = False
) -> Any:
    """As launch_shuffle."""
    maps = [m.contiguous() for m in (top_left, top_right, bottom_left, bottom_right)]
    tail, word = PixelInterleave(LastSteps(slope=slope)), _word(maps[0])
    y, variant = maps[0].new_empty(tail.output_shape(maps[0].shape)), tail.variant(word, word)
    given = {**dict(zip(MAPS, maps, strict=True)), "width": maps[0].shape[3], "y": y}
    launch(variant, tail.grid(maps[0].shape, variant.constants["BLOCK"], _cdiv), given, planned)
    return y


def launch_dcl(a: Any, b: Any, row: Any, column: Any, slope: float = 1.0, *, planned: bool = False) -> Any:
    """As launch_shuffle."""
    a, b, row, column = (t.contiguous() for t in (a, b, row, column))
    tail, word = PixelDclMaps(LastSteps(slope=slope)), _word(a)
    n, channels, height, width = a.shape
    y, variant = a.new_empty(tail.output_shape(a.shape)), tail.variant(word, word, channels)
    blocks = [-(-size // variant.constants[word]) for size, word in ((width, "BLOCK_W"), (channels, "BLOCK_C"))]
    given = {"a": a, "b": b, "row": row, "column": column, "height": height, "width": width, "y": y}
    launch(variant, (n * height, *blocks), given, planned)
    return y

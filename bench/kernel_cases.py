"""Own kernels × the layers of the registry that use them × types × sizes → inputs, what is launched, what it replaces.

A case knows shapes, bytes and products; `made` gives it tensors. Nothing is timed here. The kernel is judged against
its reference: permutations exactly, a picture to one level, a sum of products within TOLERANCE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from engines.plugins.last_steps import PICTURE, LastSteps
from engines.plugins.pixel_dcl import PixelInterleave
from engines.plugins.pixel_dcl_maps import LEAST_CAPABILITY, PixelDclMaps
from engines.plugins.pixel_shuffle import PixelShuffleTail
from engines.plugins.ptx import Variant, launch

TOLERANCE = 1e-2
"""Of pixel_dcl, whose outputs have about unit size and at most 6: TF32 and fp16 have 11 bits, so that a sum of products
is off by some 1e-3 and an fp16 result by another 2e-3; a tap in the wrong place is off by 0.5."""
PICTURE_OFF = 0.02
"""Share of a picture's elements that may be one level off: where a value lies between two, the last bit decides."""
SLOPE = 0.0
"""Pixel layers are measured with the ReLU that follows them."""
STEPS = LastSteps(slope=SLOPE)
WORDS = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "i8"}
"""Triton's words for what a precision's tensors hold."""
SIZE = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}
DTYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
CPU_SIZE = (21, 15)
"""Output that the interpreter makes: maps of odd sides, and of one column behind the deepest layer."""


@dataclass(frozen=True)
class Layer:
    """Where a network of the registry uses a kernel."""

    kernel: str
    network: str
    planes: int
    """Of the kernel's output."""
    r: int = 2
    """How many times as large its output's sides are as its input's."""
    shrink: int = 1
    """How many times as large the sides of the network's output are."""


TYPES = {
    "pixel_shuffle": ("fp32", "fp16", "bf16", "int8"),
    "pixel_shuffle_picture": ("fp32", "fp16", "int8"),
    "pixel_interleave": ("fp32", "fp16", "bf16", "int8"),
    "pixel_dcl": ("tf32", "fp16"),
}
"""Kernel → precisions that it has."""
LAYERS = (
    Layer("pixel_shuffle", "espcn_x3", 1, r=3),
    Layer("pixel_shuffle", "srgan_x4", 64),
    Layer("pixel_shuffle_picture", "espcn_x3", 1, r=3),
    Layer("pixel_interleave", "pixel_dcn", 16),
    *(Layer("pixel_dcl", "pixel_dcn", 16 << level, shrink=1 << level) for level in range(4)),
)
"""pixel_dcn's layers are those of pixel_vae, too."""


@dataclass(frozen=True)
class KernelCase:
    """One row."""

    kernel: str
    network: str
    precision: str
    resolution: str
    planes: int
    r: int
    height: int
    """Of the kernel's input, as `width`."""
    width: int

    @property
    def title(self) -> str:
        shape = "x".join(str(side) for side in self.output_shape[1:])
        return f"{self.kernel} {self.network} {shape} {self.precision}"

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W), of pictures too, which lie as (N, H, W, C)."""
        return 1, self.planes, self.height * self.r, self.width * self.r

    @property
    def min_bytes(self) -> int:
        """What must be read once and written once."""
        elements, size = math.prod(self.output_shape), SIZE[self.precision]
        if self.kernel == "pixel_shuffle_picture":
            return elements * (size + 1)
        if self.kernel == "pixel_dcl":  # two maps of a quarter, the taps, and the output
            return elements // 2 * size + 4 * self.planes**2 * size + elements * size
        return 2 * elements * size

    @property
    def flop(self) -> int:
        """Additions and multiplications of the products; 0 for kernels without any."""
        return 2 * 8 * self.planes**2 * self.height * self.width if self.kernel == "pixel_dcl" else 0

    @property
    def variant(self) -> Variant:
        """The kernel with its constants, as a plan embeds it."""
        word = WORDS[self.precision]
        if self.kernel == "pixel_interleave":
            return PixelInterleave(STEPS).variant(word, word)
        if self.kernel == "pixel_dcl":
            return PixelDclMaps(STEPS).variant(word, word, self.planes)
        return self.tail.variant(word, "u8" if self.tail.picture else word, channels=self.planes)

    @property
    def tail(self) -> PixelShuffleTail:
        """Of a shuffle. The picture's int8 is a picture of [-1, 1]."""
        if self.kernel != "pixel_shuffle_picture":
            return PixelShuffleTail(self.r)
        step = 1 / 127 if self.precision == "int8" else 1.0
        return PixelShuffleTail(self.r, LastSteps(input_step=step, output=PICTURE))

    def why_not(self, capability: int) -> str | None:
        """Why a device of this compute capability (an `sm_` number) does not run it; None where it does."""
        if self.kernel == "pixel_dcl" and capability < LEAST_CAPABILITY:
            return f"no kernel below compute capability {LEAST_CAPABILITY / 10:.1f}: Triton makes no products there"
        return None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def cases(
    kernels: Sequence[str], sizes: Sequence[tuple[str, int, int]], precisions: Sequence[str] = ()
) -> list[KernelCase]:
    """Every layer of these kernels, in each of its types that is asked for, at each size.

    Args:
        sizes: word, width and height of the network's output; what an input of whole pixels makes at least so large.
        precisions: empty: all.
    """
    return [
        KernelCase(
            layer.kernel, layer.network, precision, word, layer.planes, layer.r,
            -(-height // (layer.shrink * layer.r)), -(-width // (layer.shrink * layer.r)),
        )
        for layer in LAYERS
        for word, width, height in sizes
        for precision in TYPES[layer.kernel]
        if layer.kernel in kernels and (not precisions or precision in precisions)
    ]  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A case with tensors. Each function takes `inputs`."""

    inputs: tuple[Any, ...]
    kernel: Callable[..., Any]
    """With the keyword `planned`: as a plan embeds it."""
    native: Callable[..., Any]
    """What it replaces, by torch's own operators, as the networks are written."""
    reference: Callable[..., Any]


def made(case: KernelCase, device: str, seed: int) -> Made:
    """The case on a device, with inputs of its own: memory that an earlier one left must not hold the right answer.

    Raises:
        torch.OutOfMemoryError: they do not fit.
    """
    import torch

    from engines.plugins.torch_ops import launch_dcl, launch_interleave, launch_shuffle

    generator = torch.Generator(device).manual_seed(seed)
    dtype = getattr(torch, DTYPES[case.precision])

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Any:
        if dtype == torch.int8:
            return torch.randint(-128, 128, shape, generator=generator, device=device, dtype=dtype)
        return torch.randn(shape, generator=generator, device=device, dtype=dtype).mul_(scale).add_(shift)

    tail = case.tail
    large = (1, case.planes * case.r**2, case.height, case.width)
    if case.kernel == "pixel_shuffle":
        return Made(
            (normal(*large),), partial(launch_shuffle, r=case.r), partial(native_shuffle, r=case.r), tail.reference
        )
    if case.kernel == "pixel_shuffle_picture":
        x = normal(*large, scale=0.4, shift=0.5)
        return Made((x,), partial(launch_picture, tail), partial(native_picture, tail), tail.reference)
    small = (1, case.planes, case.height, case.width)
    if case.kernel == "pixel_interleave":
        maps = tuple(normal(*small) for _ in range(4))
        return Made(maps, partial(launch_interleave, slope=SLOPE), native_interleave, PixelInterleave(STEPS).reference)
    taps = [normal(case.planes, case.planes, *t, scale=(4 * case.planes) ** -0.5) for t in ((1, 2), (2, 1))]
    inputs = (normal(*small), normal(*small), *taps)
    return Made(inputs, partial(launch_dcl, slope=SLOPE), native_dcl, PixelDclMaps(STEPS).reference)


def launch_picture(tail: PixelShuffleTail, x: Any, planned: bool = False) -> Any:
    """The kernel with the displayable picture behind it: uint8 (N, H, W, C)."""
    import torch

    planes, height, width = x.shape[1:]
    channels = planes // tail.r**2
    word = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int8: "i8"}[x.dtype]
    variant = tail.variant(word, "u8", channels=channels)
    y = x.new_empty(tail.output_shape(x.shape), dtype=torch.uint8)
    given = {"x": x, "channels": channels, "height": height, "width": width, "y": y}
    launch(variant, tail.grid(x.shape, variant.constants["BLOCK"], lambda a, b: -(-a // b)), given, planned)
    return y


def native_shuffle(x: Any, r: int) -> Any:
    """As torch.nn.PixelShuffle."""
    import torch.nn.functional as F

    return F.pixel_shuffle(x, r)


def native_picture(tail: PixelShuffleTail, x: Any) -> Any:
    """Shuffle, clip, round to levels, planes last; int8 is scaled first."""
    import torch
    import torch.nn.functional as F

    y = x * tail.steps.input_step if x.dtype == torch.int8 else x
    levels = F.pixel_shuffle(y, tail.r).clamp(0, 1) * 255 + tail.steps.rounding
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def native_interleave(*maps: Any) -> Any:
    """As the pixel layers of the registry, with their ReLU."""
    from reference_models.networks.pixel_dcn import interleave

    return interleave(*maps).relu()


def native_dcl(a: Any, b: Any, row: Any, column: Any) -> Any:
    """What PixelDCL does behind its second map, with its ReLU; tensors as for PixelDclMaps.reference."""
    import torch.nn.functional as F

    from reference_models.networks.pixel_dcn import interleave

    top_right = F.conv2d(F.pad(a, (0, 1, 0, 0)), row) + F.conv2d(F.pad(b, (0, 0, 1, 0)), column)
    bottom_left = F.conv2d(F.pad(a, (0, 0, 0, 1)), column) + F.conv2d(F.pad(b, (1, 0, 0, 0)), row)
    return interleave(a, top_right, bottom_left, b).relu()


def fault(case: KernelCase, ready: Made, as_in_plan: bool = True) -> str | None:
    """What is wrong with the kernel's output; None where it is its reference's.

    Args:
        as_in_plan: whether the kernel as a plan embeds it is looked at, too.

    Raises:
        torch.OutOfMemoryError: it does not fit.
    """
    # The kernel first: what the reference leaves in freed memory would pass for an output that nobody wrote.
    found = {how: ready.kernel(*ready.inputs, planned=bool(how)) for how in ("", ", as in a plan")[: 1 + as_in_plan]}
    with full_fp32():
        wanted = ready.reference(*ready.inputs)
    for how, y in found.items():
        if wrong := _difference(case, y, wanted):
            return wrong + how
    return None


def _difference(case: KernelCase, y: Any, wanted: Any) -> str | None:
    if (y.shape, y.dtype) != (wanted.shape, wanted.dtype):
        return f"{tuple(y.shape)} {y.dtype} instead of {tuple(wanted.shape)} {wanted.dtype}"
    if case.kernel == "pixel_shuffle_picture":
        off = (y.short() - wanted.short()).abs()
        worst, share = int(off.max()), float((off > 0).float().mean())
        if worst > 1 or share > PICTURE_OFF:
            return f"{worst} levels off at most, {share:.2%} of the elements; allowed 1 level, {PICTURE_OFF:.0%}"
        return None
    if case.kernel == "pixel_dcl":
        maps = [(part[:, :, ::2, ::2], part[:, :, 1::2, 1::2]) for part in (y, wanted)]
        if not all((own == given).all() for own, given in zip(*maps, strict=True)):
            return "maps that are only moved are not what they were"
        worst_off = float((y.float() - wanted.float()).abs().max())
        return None if worst_off <= TOLERANCE else f"{worst_off:.3g} off at most; allowed {TOLERANCE:g}"
    different = int((y != wanted).sum())
    return f"{different} of {y.numel()} elements differ; all are only moved" if different else None


@contextmanager
def full_fp32() -> Iterator[None]:
    """Convolutions of torch without TF32."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before

"""Our kernels as TensorRT's quick-deployable plugins, each with an ahead-of-time kernel that the plan embeds.

The library reads the annotations of these functions as objects, so that this file may not postpone them; and it wants
every attribute in every function, a `tactic` in the last, and lists of int32 symbols for scalars.
"""
# ruff: noqa: PLR0917  the library passes every attribute by position

from collections.abc import Sequence
from typing import Any

from engines.plugins.pixel_dcl import MAPS, PixelInterleave
from engines.plugins.pixel_dcl_maps import LEAST_CAPABILITY, PixelDclMaps
from engines.plugins.pixel_shuffle import ACTIVATIONS, PixelShuffleTail
from engines.plugins.ptx import Variant, compile_ptx

NAMESPACE = "fullres"
"""Of the plugins and of the ONNX nodes that ask for them."""
PIXEL_SHUFFLE, PIXEL_SHUFFLE_TAIL, PIXEL_INTERLEAVE, PIXEL_DCL = (
    "FullresPixelShuffle",
    "FullresPixelShuffleTail",
    "FullresPixelInterleave",
    "FullresPixelDcl",
)
"""No operator of ONNX may have such a name: TensorRT's parser looks for operators without looking at the domain."""


def register_plugins(trt: Any, trtp: Any, capability: int) -> list[str]:
    """Makes the plugins known to this process's registry; returns their names. Once per process.

    Args:
        trt, trtp: `tensorrt` and `tensorrt.plugin`.
        capability: of the device that the plan is for, as an `sm_` number; PTX for it runs on later ones too.
    """
    _register_pixel_shuffle(trt, trtp, capability)
    _register_pixel_shuffle_tail(trt, trtp, capability)
    _register_pixel_interleave(trt, trtp, capability)
    _register_pixel_dcl(trt, trtp, max(capability, LEAST_CAPABILITY))
    return [f"{NAMESPACE}::{name}" for name in (PIXEL_SHUFFLE, PIXEL_SHUFFLE_TAIL, PIXEL_INTERLEAVE, PIXEL_DCL)]


def _register_kernel(trtp: Any, plugin: str, implement: Any) -> None:
    """As the decorator aot_impl, which wants to read literally what is returned."""
    returned = tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymExprs]
    implement.__annotations__["return"] = returned
    trtp.aot_impl(plugin)(implement)


def _word(trt: Any, dtype: Any) -> str:
    """Triton's word for a type of TensorRT's."""
    return {trt.float32: "fp32", trt.float16: "fp16", trt.bfloat16: "bf16", trt.int8: "i8", trt.uint8: "u8"}[dtype]


def _implementation(trtp: Any, variant: Variant, capability: int, grid: Sequence[Any], scalars: Sequence[Any]) -> Any:
    """Kernel, PTX, launch and scalars, in the form that the library takes.

    Args:
        grid: one to three symbolic numbers of blocks.
        scalars: symbolic values of the variant's scalars.
    """
    kernel = compile_ptx(variant, capability)
    launch = trtp.KernelLaunchParams()
    launch.grid_x, launch.grid_y, *rest = grid
    if rest:
        launch.grid_z = rest[0]
    launch.block_x, launch.shared_mem = kernel.threads, kernel.shared_bytes
    symbols = trtp.SymIntExprs.from_tuple([trtp.SymInt32(value) for value in scalars])
    return kernel.name, kernel.ptx, launch, symbols


def _shuffled(trtp: Any, variant: Variant, capability: int, shape: Any, picture: bool) -> Any:
    """The implementation of a pixel shuffle with an output of this symbolic shape."""
    n, *sides = shape
    channels, height, width = (sides[2], sides[0], sides[1]) if picture else sides
    blocks = trtp.cdiv(channels * height * width, variant.constants["BLOCK"])
    return _implementation(trtp, variant, capability, (blocks, n), (channels, height, width))


def _register_pixel_shuffle(trt: Any, trtp: Any, capability: int) -> None:
    plugin = f"{NAMESPACE}::{PIXEL_SHUFFLE}"

    @trtp.register(plugin)
    def describe(x: trtp.TensorDesc, r: int) -> trtp.TensorDesc:
        return trtp.from_shape_expr(PixelShuffleTail(r).output_shape(x.shape_expr), dtype=x.dtype)

    @trtp.autotune(plugin)
    def choose(x: trtp.TensorDesc, outputs: tuple[trtp.TensorDesc]) -> list[trtp.AutoTuneCombination]:
        return [trtp.AutoTuneCombination("FP32|FP16|BF16|INT8, FP32|FP16|BF16|INT8", "LINEAR")]

    def implement(x: trtp.TensorDesc, r: int, outputs: tuple[trtp.TensorDesc], tactic: int) -> Any:
        word = _word(trt, x.dtype)
        variant = PixelShuffleTail(r).variant(word, word)
        return _shuffled(trtp, variant, capability, outputs[0].shape_expr, picture=False)

    _register_kernel(trtp, plugin, implement)


def _register_pixel_shuffle_tail(trt: Any, trtp: Any, capability: int) -> None:
    plugin = f"{NAMESPACE}::{PIXEL_SHUFFLE_TAIL}"

    def tail(r: int, activation: int, slope: float, low: float, high: float, picture: int) -> PixelShuffleTail:
        word = ACTIVATIONS[activation]
        return PixelShuffleTail(r, 1.0, True, word, slope, low, high, bool(picture))

    @trtp.register(plugin)
    def describe(
        x: trtp.TensorDesc,
        bias: trtp.TensorDesc,
        r: int,
        activation: int,
        slope: float,
        low: float,
        high: float,
        picture: int,
    ) -> trtp.TensorDesc:
        shape = tail(r, activation, slope, low, high, picture).output_shape(x.shape_expr)
        return trtp.from_shape_expr(shape, dtype=trt.uint8 if picture else x.dtype)

    @trtp.autotune(plugin)
    def choose(
        x: trtp.TensorDesc, bias: trtp.TensorDesc, picture: int, outputs: tuple[trtp.TensorDesc]
    ) -> list[trtp.AutoTuneCombination]:
        target = "UINT8|UINT8" if picture else "FP32|FP16"
        return [trtp.AutoTuneCombination(f"FP32|FP16, FP32|FP16, {target}", "LINEAR")]

    def implement(
        x: trtp.TensorDesc,
        bias: trtp.TensorDesc,
        r: int,
        activation: int,
        slope: float,
        low: float,
        high: float,
        picture: int,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        word = _word(trt, x.dtype)
        variant = tail(r, activation, slope, low, high, picture).variant(word, word)
        return _shuffled(trtp, variant, capability, outputs[0].shape_expr, bool(picture))

    _register_kernel(trtp, plugin, implement)


def _register_pixel_interleave(trt: Any, trtp: Any, capability: int) -> None:
    plugin = f"{NAMESPACE}::{PIXEL_INTERLEAVE}"

    @trtp.register(plugin)
    def describe(
        top_left: trtp.TensorDesc,
        top_right: trtp.TensorDesc,
        bottom_left: trtp.TensorDesc,
        bottom_right: trtp.TensorDesc,
        slope: float,
    ) -> trtp.TensorDesc:
        return trtp.from_shape_expr(PixelInterleave().output_shape(top_left.shape_expr), dtype=top_left.dtype)

    @trtp.autotune(plugin)
    def choose(
        top_left: trtp.TensorDesc,
        top_right: trtp.TensorDesc,
        bottom_left: trtp.TensorDesc,
        bottom_right: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        return [trtp.AutoTuneCombination(", ".join(["FP32|FP16|BF16"] * (len(MAPS) + 1)), "LINEAR")]

    def implement(
        top_left: trtp.TensorDesc,
        top_right: trtp.TensorDesc,
        bottom_left: trtp.TensorDesc,
        bottom_right: trtp.TensorDesc,
        slope: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        variant = PixelInterleave(slope).variant(_word(trt, top_left.dtype))
        n, channels, height, width = top_left.shape_expr
        blocks = trtp.cdiv(width, variant.constants["BLOCK"])
        return _implementation(trtp, variant, capability, (n * channels * height, blocks), (width,))

    _register_kernel(trtp, plugin, implement)


def _register_pixel_dcl(trt: Any, trtp: Any, capability: int) -> None:
    plugin = f"{NAMESPACE}::{PIXEL_DCL}"

    @trtp.register(plugin)
    def describe(
        a: trtp.TensorDesc, b: trtp.TensorDesc, row: trtp.TensorDesc, column: trtp.TensorDesc, slope: float
    ) -> trtp.TensorDesc:
        return trtp.from_shape_expr(PixelDclMaps().output_shape(a.shape_expr), dtype=a.dtype)

    @trtp.autotune(plugin)
    def choose(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        return [trtp.AutoTuneCombination(", ".join(["FP32|FP16"] * 5), "LINEAR")]

    def implement(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        slope: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        variant = PixelDclMaps(slope).variant(_word(trt, a.dtype), int(row.shape[0]))
        n, channels, height, width = a.shape_expr
        blocks = (trtp.cdiv(width, variant.constants["BLOCK_W"]), trtp.cdiv(channels, variant.constants["BLOCK_C"]))
        return _implementation(trtp, variant, capability, (n * height, *blocks), (height, width))

    _register_kernel(trtp, plugin, implement)

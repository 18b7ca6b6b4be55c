"""Our kernels as TensorRT's quick-deployable plugins, each with an ahead-of-time kernel that the plan embeds.

The library reads the annotations of these functions as objects, so that this file may not postpone them; and it wants
every attribute in every function, a `tactic` in the last, and lists of int32 symbols for scalars.
"""
# ruff: noqa: PLR0917  the library passes every attribute by position

from collections.abc import Sequence
from typing import Any

from engines.plugins.last_steps import FLOAT, INT8, PICTURE, LastSteps
from engines.plugins.names import (
    NAMESPACE,
    PIXEL_DCL,
    PIXEL_DCL_INT8,
    PIXEL_DCL_OF_INT8,
    PIXEL_INTERLEAVE,
    PIXEL_INTERLEAVE_INT8,
    PIXEL_INTERLEAVE_OF_INT8,
    PIXEL_SHUFFLE,
    PLUGINS,
    TAILS,
    Tail,
)
from engines.plugins.pixel_dcl import MAPS, PixelInterleave
from engines.plugins.pixel_dcl_int8 import PixelDclOfInt8
from engines.plugins.pixel_dcl_maps import LEAST_CAPABILITY, PixelDclMaps
from engines.plugins.pixel_shuffle import OUTPUTS, PixelShuffleTail
from engines.plugins.ptx import Variant, compile_ptx

_FLOATS = "FP32|FP16|BF16"


def register_plugins(trt: Any, trtp: Any, capability: int) -> list[str]:
    """Makes the plugins known to this process's registry; returns their names. Once per process.

    Args:
        trt, trtp: `tensorrt` and `tensorrt.plugin`.
        capability: of the device that the plan is for, as an `sm_` number; PTX for it runs on later ones too.
    """
    _register_pixel_shuffle(trt, trtp, capability)
    for tail in TAILS.values():
        _register_tail(trt, trtp, capability, tail)
    _register_interleave(trt, trtp, capability)
    for name in (PIXEL_INTERLEAVE_INT8, PIXEL_INTERLEAVE_OF_INT8):
        _register_interleave_int8(trt, trtp, capability, name)
    _register_pixel_dcl(trt, trtp, max(capability, LEAST_CAPABILITY))
    _register_pixel_dcl_int8(trt, trtp, max(capability, LEAST_CAPABILITY))
    _register_pixel_dcl_of_int8(trt, trtp, max(capability, LEAST_CAPABILITY))
    return [f"{NAMESPACE}::{name}" for name in PLUGINS]


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


def _tied(trtp: Any, *types: str) -> list[Any]:
    """One combination of types per alternative (`|`), the same alternative everywhere."""
    return [trtp.AutoTuneCombination(", ".join(types), "LINEAR")]


def _shuffled(trtp: Any, tail: PixelShuffleTail, variant: Variant, capability: int, shape: Any) -> Any:
    """The implementation of a pixel shuffle with an input of this symbolic shape."""
    _, planes, height, width = shape
    grid = tail.grid(shape, variant.constants["BLOCK"], trtp.cdiv)
    return _implementation(trtp, variant, capability, grid, (planes // (tail.r * tail.r), height, width))


def _register_pixel_shuffle(trt: Any, trtp: Any, capability: int) -> None:
    plugin = f"{NAMESPACE}::{PIXEL_SHUFFLE}"

    @trtp.register(plugin)
    def describe(x: trtp.TensorDesc, r: int) -> trtp.TensorDesc:
        return trtp.from_shape_expr(PixelShuffleTail(r).output_shape(x.shape_expr), dtype=x.dtype)

    @trtp.autotune(plugin)
    def choose(x: trtp.TensorDesc, outputs: tuple[trtp.TensorDesc]) -> list[trtp.AutoTuneCombination]:
        return _tied(trtp, *[f"{_FLOATS}|INT8"] * 2)

    def implement(x: trtp.TensorDesc, r: int, outputs: tuple[trtp.TensorDesc], tactic: int) -> Any:
        word, tail = _word(trt, x.dtype), PixelShuffleTail(r)
        return _shuffled(trtp, tail, tail.variant(word, word), capability, x.shape_expr)

    _register_kernel(trtp, plugin, implement)


def _register_tail(trt: Any, trtp: Any, capability: int, tail: Tail) -> None:
    plugin = f"{NAMESPACE}::{tail.name}"
    output = OUTPUTS[tail.output]

    @trtp.register(plugin)
    def describe(
        x: trtp.TensorDesc,
        bias: trtp.TensorDesc,
        r: int,
        slope: float,
        low: float,
        high: float,
        taken: float,
        given: float,
        rounding: float,
        zero: float,
        gain: float,
    ) -> trtp.TensorDesc:
        numbers = (r, slope, low, high, taken, given, rounding, zero, gain)
        shape = PixelShuffleTail.of_node(tail, numbers).output_shape(x.shape_expr)
        types = {FLOAT: bias.dtype, INT8: trt.int8, PICTURE: trt.uint8}
        return trtp.from_shape_expr(shape, dtype=types[output])

    @trtp.autotune(plugin)
    def choose(
        x: trtp.TensorDesc, bias: trtp.TensorDesc, outputs: tuple[trtp.TensorDesc]
    ) -> list[trtp.AutoTuneCombination]:
        targets = {FLOAT: _FLOATS, INT8: "INT8|INT8|INT8", PICTURE: "UINT8|UINT8|UINT8"}
        return _tied(trtp, "INT8|INT8|INT8" if tail.of_int8 else _FLOATS, _FLOATS, targets[output])

    def implement(
        x: trtp.TensorDesc,
        bias: trtp.TensorDesc,
        r: int,
        slope: float,
        low: float,
        high: float,
        taken: float,
        given: float,
        rounding: float,
        zero: float,
        gain: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        numbers = (r, slope, low, high, taken, given, rounding, zero, gain)
        kernel = PixelShuffleTail.of_node(tail, numbers, int(bias.shape[0]))
        target = {FLOAT: _word(trt, bias.dtype), INT8: "i8", PICTURE: "u8"}[output]
        channels = int(x.shape[1]) // (r * r) if output == PICTURE else 0
        variant = kernel.variant(_word(trt, x.dtype), target, _word(trt, bias.dtype), channels)
        return _shuffled(trtp, kernel, variant, capability, x.shape_expr)

    _register_kernel(trtp, plugin, implement)


def _interleaved(trt: Any, trtp: Any, capability: int, steps: LastSteps, x: Any) -> Any:
    """The implementation of an interleaving whose first map is described so."""
    tail, word = PixelInterleave(steps), _word(trt, x.dtype)
    variant = tail.variant(word, word if steps.output == FLOAT else "i8")
    grid = tail.grid(x.shape_expr, variant.constants["BLOCK"], trtp.cdiv)
    return _implementation(trtp, variant, capability, grid, (x.shape_expr[3],))


def _register_interleave(trt: Any, trtp: Any, capability: int) -> None:
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
        return _tied(trtp, *[_FLOATS] * (len(MAPS) + 1))

    def implement(
        top_left: trtp.TensorDesc,
        top_right: trtp.TensorDesc,
        bottom_left: trtp.TensorDesc,
        bottom_right: trtp.TensorDesc,
        slope: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        return _interleaved(trt, trtp, capability, LastSteps(slope=slope), top_left)

    _register_kernel(trtp, plugin, implement)


def _register_interleave_int8(trt: Any, trtp: Any, capability: int, name: str) -> None:
    """Both with an int8 output; int8 maps have its step."""
    plugin, of_int8 = f"{NAMESPACE}::{name}", name == PIXEL_INTERLEAVE_OF_INT8

    @trtp.register(plugin)
    def describe(
        top_left: trtp.TensorDesc,
        top_right: trtp.TensorDesc,
        bottom_left: trtp.TensorDesc,
        bottom_right: trtp.TensorDesc,
        slope: float,
        step: float,
    ) -> trtp.TensorDesc:
        return trtp.from_shape_expr(PixelInterleave().output_shape(top_left.shape_expr), dtype=trt.int8)

    @trtp.autotune(plugin)
    def choose(
        top_left: trtp.TensorDesc,
        top_right: trtp.TensorDesc,
        bottom_left: trtp.TensorDesc,
        bottom_right: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        maps, target = ("INT8", "INT8") if of_int8 else (_FLOATS, "INT8|INT8|INT8")
        return _tied(trtp, *[maps] * len(MAPS), target)

    def implement(
        top_left: trtp.TensorDesc,
        top_right: trtp.TensorDesc,
        bottom_left: trtp.TensorDesc,
        bottom_right: trtp.TensorDesc,
        slope: float,
        step: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        steps = LastSteps(step if of_int8 else 1.0, slope=slope, output=INT8, step=step)
        return _interleaved(trt, trtp, capability, steps, top_left)

    _register_kernel(trtp, plugin, implement)


def _convolved(trt: Any, trtp: Any, capability: int, steps: LastSteps, ends: Sequence[Any]) -> Any:
    """The implementation of a deconvolution's end; ends: descriptions of the map a and of the weights of a row."""
    a, row = ends
    word, tail = _word(trt, a.dtype), PixelDclMaps(steps)
    variant = tail.variant(word, word if steps.output == FLOAT else "i8", int(row.shape[0]))
    return _of_maps(trtp, variant, capability, a.shape_expr)


def _of_maps(trtp: Any, variant: Variant, capability: int, shape: Any) -> Any:
    """The implementation of a kernel with products, for maps of this symbolic shape."""
    n, channels, height, width = shape
    blocks = (trtp.cdiv(width, variant.constants["BLOCK_W"]), trtp.cdiv(channels, variant.constants["BLOCK_C"]))
    return _implementation(trtp, variant, capability, (n * height, *blocks), (height, width))


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
        return _tied(trtp, *["FP32|FP16"] * 5)

    def implement(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        slope: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        return _convolved(trt, trtp, capability, LastSteps(slope=slope), (a, row))

    _register_kernel(trtp, plugin, implement)


def _register_pixel_dcl_int8(trt: Any, trtp: Any, capability: int) -> None:
    plugin = f"{NAMESPACE}::{PIXEL_DCL_INT8}"

    @trtp.register(plugin)
    def describe(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        slope: float,
        step: float,
    ) -> trtp.TensorDesc:
        return trtp.from_shape_expr(PixelDclMaps().output_shape(a.shape_expr), dtype=trt.int8)

    @trtp.autotune(plugin)
    def choose(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        return _tied(trtp, *["FP32|FP16"] * 4, "INT8|INT8")

    def implement(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        slope: float,
        step: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        steps = LastSteps(slope=slope, output=INT8, step=step)
        return _convolved(trt, trtp, capability, steps, (a, row))

    _register_kernel(trtp, plugin, implement)


def _register_pixel_dcl_of_int8(trt: Any, trtp: Any, capability: int) -> None:
    plugin = f"{NAMESPACE}::{PIXEL_DCL_OF_INT8}"

    @trtp.register(plugin)
    def describe(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        a_int8: trtp.TensorDesc,
        b_int8: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        row_step: trtp.TensorDesc,
        column_step: trtp.TensorDesc,
        slope: float,
        a_step: float,
        b_step: float,
    ) -> trtp.TensorDesc:
        return trtp.from_shape_expr(PixelDclMaps().output_shape(a.shape_expr), dtype=a.dtype)

    @trtp.autotune(plugin)
    def choose(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        a_int8: trtp.TensorDesc,
        b_int8: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        row_step: trtp.TensorDesc,
        column_step: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        return _tied(trtp, *["FP32|FP16"] * 2, *["INT8|INT8"] * 4, *["FP32|FP16"] * 3)

    def implement(
        a: trtp.TensorDesc,
        b: trtp.TensorDesc,
        a_int8: trtp.TensorDesc,
        b_int8: trtp.TensorDesc,
        row: trtp.TensorDesc,
        column: trtp.TensorDesc,
        row_step: trtp.TensorDesc,
        column_step: trtp.TensorDesc,
        slope: float,
        a_step: float,
        b_step: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> Any:
        variant = PixelDclOfInt8(a_step, b_step, slope).variant(_word(trt, a.dtype), int(row.shape[0]))
        return _of_maps(trtp, variant, capability, a.shape_expr)

    _register_kernel(trtp, plugin, implement)

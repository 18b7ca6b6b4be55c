"""PixelShuffle in one pass, with what follows it: bias, activation, clipping, and what the output stores.

The last layer of a network then writes each output element once. (N, C*r*r, H, W) of fp32, fp16, bf16 or int8 →
(N, C, H*r, W*r) of a float type or int8, or (N, H*r, W*r, C) or (H*r, W*r, C) uint8. Order of channels as
torch.nn.PixelShuffle.

What bounds these kernels is memory, so what counts is bytes per load and store instruction, and integer instructions
per element. Two kernels, since Triton's tiles have sides that are powers of two:
- r = 2 and 4: a thread loads 16/r bytes of each of r neighbouring planes and joins them in registers to 16 bytes of one
  row of the output: one store, and whole sectors of 32 bytes both ways.
- others, and pictures: lanes of a warp take neighbouring elements of a row, which lie in r planes (a picture's in C*r),
  and the sectors read are used up by the same program; results are exchanged in shared memory so that each thread
  stores 4 to 16 bytes, and a warp whole lines. Divisions are by constants, none by a width, and serve r rows at once.
Rows that no full vector divides go element by element.
"""
# ruff: noqa: N803, PLR0917  the kernels: Triton's constants are written in capitals, and go by position

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engines.plugins.last_steps import BYTES, FLOAT, INT8, PICTURE, VECTOR_BYTES, LastSteps, finished, vector
from engines.plugins.names import Tail
from engines.plugins.ptx import Variant, kernel_part

try:
    import triton.language as tl
except ModuleNotFoundError:  # shape rule and reference are usable without
    tl = None

THREADS = 128
JOINED = (2, 4)
"""Values of r that are joined in registers."""
OUTPUTS = {"float": FLOAT, "int8": INT8, "picture": PICTURE, "pictures": PICTURE}
"""Of a node's tail, as a kernel names them."""

_NONE = LastSteps()


@dataclass(frozen=True)
class PixelShuffleTail:
    """A shuffle and the steps behind it.

    An image of the input has less than 2^31 elements: offsets inside it are int32.
    """

    r: int
    steps: LastSteps = _NONE
    bias: bool = False
    """Whether there is one in front of the activation: (C*r*r,)."""
    batched: bool = True
    """Picture: whether the output has the batch axis; without it there is one image."""

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"r {self.r}: expected r >= 1")

    @classmethod
    def of_node(cls, tail: Tail, numbers: Sequence[float], biases: int = 1) -> PixelShuffleTail:
        """The kernel of a plugin's node.

        Args:
            numbers: the node's TAIL_ATTRIBUTES.
            biases: elements of its bias. One is the zero that stands for none: a shuffle has at least four planes.
        """
        r, slope, low, high, taken, given, rounding, zero, gain = numbers
        steps = LastSteps(taken, tail.tanh, slope, low, high, OUTPUTS[tail.output], given, rounding, zero, gain)
        return cls(int(r), steps, bias=biases > 1, batched=tail.output != "picture")

    @property
    def picture(self) -> bool:
        return self.steps.output == PICTURE

    def output_shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Of an input of this shape; the sides may be symbolic."""
        n, planes, height, width = shape
        channels = planes // (self.r * self.r)
        large = (height * self.r, width * self.r)
        if self.picture:
            return (n, *large, channels) if self.batched else (*large, channels)
        return n, channels, *large

    def grid(self, shape: Sequence[Any], block: int, cdiv: Callable[[Any, int], Any]) -> tuple[Any, Any]:
        """Programs for an input of this shape; the sides may be symbolic."""
        n, planes, height, width = shape
        channels = planes // (self.r * self.r)
        if self.picture:
            return n * height, cdiv(width * self.r * channels, block)
        if self.r in JOINED:
            return n * channels * height, cdiv(width, block)
        return n * channels * height, cdiv(width * self.r, block)

    def reference(self, x: Any, bias: Any = None, dtype: Any = None) -> Any:
        """The same by torch's own operators, in float32 until the last step.

        Args:
            x, bias: torch tensors.
            dtype: torch dtype of a float output; None: the input's.
        """
        import torch

        y = x.float() * self.steps.input_step
        if bias is not None:
            y = y + bias.float().view(1, -1, 1, 1)
        y = self.steps.reference(torch.nn.functional.pixel_shuffle(y, self.r), dtype or x.dtype)
        if not self.picture:
            return y
        y = y.permute(0, 2, 3, 1).contiguous()
        return y if self.batched else y.squeeze(0)

    def variant(self, source: str, target: str, beside: str = "", channels: int = 0, block: int = 0) -> Variant:
        """The kernel for these types (Triton's words); a picture's target is `u8`.

        Args:
            beside: type of the bias, which is a parameter even where it is not read; empty: the input's type, and no
                parameter where there is no bias.
            channels: of the output; needed for pictures.
            block: see `grid`; 0: chosen here.
        """
        beside = beside or (source if self.bias else "")
        pointers = {"x": source, **({"bias": beside} if beside else {}), "y": target}
        last = self.steps._replace(biased=self.bias).for_types(source, target)
        constants: dict[str, Any] = {"R": self.r, "LAST": last, **({} if beside else {"bias": None})}
        if self.r in JOINED and not self.picture:
            constants["VECTOR"] = vector(source, target, self.r)
            # Two vectors of the output a thread, so that enough bytes are on their way, and no more than 16 elements:
            # with 32 registers, or few more, every thread that a multiprocessor holds is at work.
            columns = min(2 * constants["VECTOR"], 16 // self.r)
            constants["BLOCK"] = block or columns * THREADS // self.r
            function: Callable[..., None] = joined_shuffle
        else:
            constants["CHANNELS"] = channels if self.picture else 0
            constants["VECTOR"] = VECTOR_BYTES // BYTES[target]
            # Four columns of r rows a thread: moves need 32 registers, tails few more.
            constants["BLOCK"] = block or 512
            function = gathered_shuffle
        return Variant(function, pointers, ("channels", "height", "width"), constants)


@kernel_part
def _joined_rows(
    x: tl.tensor,
    bias: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    R: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.arange(0, R)[:, None]
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    h = tl.program_id(0) % height
    image = (tl.program_id(0) // height).to(tl.int64)
    plane = height * width
    source = x + (image * (R * R) * height + h) * width + row * (R * plane) + column
    inside = column < width
    beside = ((image % channels).to(tl.int32) * R + row) * R
    # All loads stand before the first store, which could be to where they read for all that the compiler knows.
    a = finished(tl.load(source, mask=inside, other=0), bias, beside, y, LAST)
    b = finished(tl.load(source + plane, mask=inside, other=0), bias, beside + 1, y, LAST)
    if R == 4:
        c = finished(tl.load(source + 2 * plane, mask=inside, other=0), bias, beside + 2, y, LAST)
        d = finished(tl.load(source + 3 * plane, mask=inside, other=0), bias, beside + 3, y, LAST)
        wide = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    else:
        wide = tl.interleave(a, b)
    o = tl.program_id(1) * (BLOCK * R) + tl.arange(0, BLOCK * R)[None, :]
    target = y + ((image * height + h) * R) * (width * R) + row * (width * R) + o
    tl.store(target, wide, mask=o < width * R)


def joined_shuffle(
    x: tl.tensor,
    bias: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    R: tl.constexpr,
    LAST: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Triton kernel for r = 2 and 4; grid (N * C * H, cdiv(W, BLOCK)), C of the output, H and W of the input.

    A program makes R rows of the output from BLOCK columns of one row of R*R planes.
    """
    # The same twice: multiplied by VECTOR the width is known to be divisible, and every row begins at a full vector.
    if width % VECTOR == 0:
        _joined_rows(x, bias, channels, height, width // VECTOR * VECTOR, y, R, LAST, BLOCK)
    else:
        _joined_rows(x, bias, channels, height, width, y, R, LAST, BLOCK)


@kernel_part
def _gathered_rows(
    x: tl.tensor,
    bias: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    R: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    h = tl.program_id(0) % height
    image = (tl.program_id(0) // height).to(tl.int64)
    if CHANNELS > 0:
        length = width * (R * CHANNELS)
        pixel = o // CHANNELS
        plane = (o % CHANNELS) * (R * R) + pixel % R
        planes = CHANNELS * R * R
        beside = plane
    else:
        length = width * R
        pixel = o
        plane = pixel % R
        planes = R * R
        beside = (image % channels).to(tl.int32) * planes + plane
    source = x + (image * planes * height + h) * width + (plane * (height * width) + pixel // R)
    target = y + (image * height + h) * R * length + o
    inside = o < length
    # Where elements lie is computed once for all R rows, whose planes are R apart. All loads stand before the first
    # store, which could be to where they read for all that the compiler knows.
    loaded = ()
    for row in tl.static_range(R):
        value = tl.load(source + row * R * (height * width), mask=inside, other=0)
        loaded = loaded + (value,)  # type: ignore[assignment]  # noqa: RUF005  Triton has no starred tuples
    for row in tl.static_range(R):
        tl.store(target + row * length, finished(loaded[row], bias, beside + row * R, y, LAST), mask=inside)


def gathered_shuffle(
    x: tl.tensor,
    bias: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    R: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Triton kernel for every r; grid (rows of the input, of each output's plane or of pictures, cdiv(elements of a row
    of the output, BLOCK)). A program makes BLOCK elements of R rows of the output.

    CHANNELS: of a picture, whose row holds all of them; 0 for planes, one after the other.
    """
    if width % VECTOR == 0:
        _gathered_rows(x, bias, channels, height, width // VECTOR * VECTOR, y, R, LAST, CHANNELS, BLOCK)
    else:
        _gathered_rows(x, bias, channels, height, width, y, R, LAST, CHANNELS, BLOCK)

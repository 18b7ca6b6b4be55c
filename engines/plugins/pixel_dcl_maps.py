"""Pixel deconvolution behind its first two maps, in one pass: masked convolution, interleaving, activation.

(N, C, H, W) maps a of parity (0, 0) and b of (1, 1), of fp32 or fp16 → (N, C, 2H, 2W) of the same type or int8. The
masked 3x3 kernel meets nothing but zeros around a and b, which therefore stay as they are; each of the other two maps
is four products of channels per pixel: matrix products of (channels out, channels in) by (channels in, columns), on
tensor cores. Sums are FP32. Unfused, these are four convolutions, two additions, and the passes of pixel_dcl.py.
"""
# ruff: noqa: N803, PLR0917  the kernel: Triton's constants are written in capitals, and it has no keyword arguments

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.plugins.last_steps import LastSteps, finished
from engines.plugins.ptx import Variant

try:
    import triton.language as tl
except ModuleNotFoundError:  # shape rule and reference are usable without
    tl = None

LEAST_CHANNELS, LEAST_CAPABILITY = 16, 80
"""Fewer channels than a tensor core takes would leave most of it idle; Triton makes none of Turing's (7.5)."""


_NONE = LastSteps()


@dataclass(frozen=True)
class PixelDclMaps:
    """The last two maps of a pixel deconvolution and everything behind them."""

    steps: LastSteps = _NONE

    def output_shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Of maps of this shape; the sides may be symbolic."""
        n, channels, height, width = shape
        return n, channels, height * 2, width * 2

    def reference(self, a: Any, b: Any, row: Any, column: Any) -> Any:
        """The same by torch's own operators, in float32 until the last step.

        Args:
            a, b: torch tensors (N, C, H, W) of one type.
            row, column: (C, C, 1, 2) and (C, C, 2, 1) of the same type: the open taps of the kernel's middle row and
                middle column.
        """
        import torch
        import torch.nn.functional as F

        x, z, across, down = a.float(), b.float(), row.float(), column.float()
        top_right = F.conv2d(F.pad(x, (0, 1)), across) + F.conv2d(F.pad(z, (0, 0, 1, 0)), down)
        bottom_left = F.conv2d(F.pad(x, (0, 0, 0, 1)), down) + F.conv2d(F.pad(z, (1, 0)), across)
        rows = [torch.stack(maps, -1).flatten(-2) for maps in ((x, top_right), (bottom_left, z))]
        y = torch.stack(rows, -2).flatten(-3, -2)
        return self.steps.reference(y, a.dtype)

    def variant(self, kind: str, target: str, channels: int) -> Variant:
        """The kernel for these types of input and output (Triton's words) and number of channels.

        fp32 is multiplied in TF32: products of full fp32 have no tensor cores, and a library's convolutions are the
        better choice for them.
        """
        constants = {
            "C": channels,
            "LAST": self.steps.within_type(),
            "BLOCK_C": 16 if channels <= 16 else 32,
            "BLOCK_K": 16,
            "BLOCK_W": 32 if kind == "fp32" else 64,  # shared memory of 48 KiB, which every device grants
        }
        pointers = {**dict.fromkeys(("a", "b", "row", "column"), kind), "y": target}
        return Variant(pixel_dcl_maps, pointers, ("height", "width"), constants)


def pixel_dcl_maps(
    a: tl.tensor,
    b: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    C: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_W: tl.constexpr,
) -> None:
    """Triton kernel; grid (N * H, cdiv(width, BLOCK_W), cdiv(C, BLOCK_C)), sides of the maps.

    A program makes BLOCK_C planes of two rows of the output from BLOCK_W columns of one row of a and b and their
    neighbours; pairs are joined in registers, so that stores are contiguous.
    """
    image = (tl.program_id(0) // height).to(tl.int64)
    i = tl.program_id(0) % height + tl.full((1, 1), 0, tl.int32)
    j = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    plane = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    top_right = tl.zeros((BLOCK_C, BLOCK_W), tl.float32)
    bottom_left = tl.zeros((BLOCK_C, BLOCK_W), tl.float32)
    for first in range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        # (BLOCK_K, BLOCK_W): elements of a and b at this place, and of their neighbours, zeros beyond the border.
        place = ((image * C + k[:, None]) * height + i) * width + j
        known = (k < C)[:, None] & (j < width)
        a_here = tl.load(a + place, mask=known, other=0)
        a_right = tl.load(a + place + 1, mask=known & (j + 1 < width), other=0)
        a_below = tl.load(a + place + width, mask=known & (i + 1 < height), other=0)
        b_here = tl.load(b + place, mask=known, other=0)
        b_above = tl.load(b + place - width, mask=known & (i > 0), other=0)
        b_left = tl.load(b + place - 1, mask=known & (j > 0), other=0)
        # (BLOCK_C, BLOCK_K): the taps to the left, right, above and below of the kernel's middle.
        tap = (plane * C + k[None, :]) * 2
        fits = (plane < C) & (k < C)[None, :]
        left, right = tl.load(row + tap, mask=fits, other=0), tl.load(row + tap + 1, mask=fits, other=0)
        above, below = tl.load(column + tap, mask=fits, other=0), tl.load(column + tap + 1, mask=fits, other=0)
        # TF32 is asked for by name and does nothing to halves; fp32 without it has no tensor cores (see `variant`).
        top_right = tl.dot(left, a_here, top_right, input_precision="tf32")
        top_right = tl.dot(right, a_right, top_right, input_precision="tf32")
        top_right = tl.dot(above, b_above, top_right, input_precision="tf32")
        top_right = tl.dot(below, b_here, top_right, input_precision="tf32")
        bottom_left = tl.dot(above, a_here, bottom_left, input_precision="tf32")
        bottom_left = tl.dot(below, a_below, bottom_left, input_precision="tf32")
        bottom_left = tl.dot(left, b_left, bottom_left, input_precision="tf32")
        bottom_left = tl.dot(right, b_here, bottom_left, input_precision="tf32")
    own = (image * C + plane) * height
    inside = (plane < C) & (j < width)
    top_left = tl.load(a + (own + i) * width + j, mask=inside, other=0).to(tl.float32)
    bottom_right = tl.load(b + (own + i) * width + j, mask=inside, other=0).to(tl.float32)
    upper = finished(tl.interleave(top_left, top_right), None, 0, y, LAST)
    lower = finished(tl.interleave(bottom_left, bottom_right), None, 0, y, LAST)
    twice = tl.program_id(1) * (2 * BLOCK_W) + tl.arange(0, 2 * BLOCK_W)[None, :]
    written = (plane < C) & (twice < 2 * width)
    target = (own * 2 + 2 * i) * (2 * width) + twice
    tl.store(y + target, upper, mask=written)
    tl.store(y + target + 2 * width, lower, mask=written)

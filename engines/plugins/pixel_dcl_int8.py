"""As pixel_dcl_maps.py, with products of int8 on tensor cores: what quantised convolutions of a deconvolution compute.

Maps a and b come twice: as floats, which go out, and as int8, which is multiplied. Sums of int8 products are int32 and
exact; they become fp32 times a step of the map and one per channel of the weights.
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

_WHOLE = ("a_int8", "b_int8", "row", "column")


@dataclass(frozen=True)
class PixelDclOfInt8:
    """The last two maps of a quantised pixel deconvolution and everything behind them."""

    a_step: float
    b_step: float
    slope: float = 1.0
    """What elements below 0 are multiplied by: 1 leaves them, 0 is ReLU."""

    def output_shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Of maps of this shape; the sides may be symbolic."""
        n, channels, height, width = shape
        return n, channels, height * 2, width * 2

    def reference(self, maps: Sequence[Any], weights: Sequence[Any], steps: Sequence[Any]) -> Any:
        """The same by torch's own operators.

        Args:
            maps: a and b, torch tensors (N, C, H, W) of one float type, and both in int8.
            weights: (C, C, 1, 2) and (C, C, 2, 1) of int8: the open taps of the kernel's middle row and middle column.
            steps: of these weights, (C,) each.
        """
        import torch
        import torch.nn.functional as F

        a, b, x, z = maps[0].float(), maps[1].float(), maps[2].double(), maps[3].double()
        (across, down), (row, column) = (w.double() for w in weights), (s.float().view(1, -1, 1, 1) for s in steps)
        pads = {"right": (0, 1), "below": (0, 0, 0, 1), "above": (0, 0, 1, 0), "left": (1, 0)}
        sums = [
            F.conv2d(F.pad(source, pads[side]), taps).float()
            for source, side, taps in (
                (x, "right", across), (z, "above", down), (x, "below", down), (z, "left", across)
            )
        ]  # fmt: skip
        top_right = sums[0] * (row * self.a_step) + sums[1] * (column * self.b_step)
        bottom_left = sums[2] * (column * self.a_step) + sums[3] * (row * self.b_step)
        rows = [torch.stack(pair, -1).flatten(-2) for pair in ((a, top_right), (bottom_left, b))]
        y = torch.stack(rows, -2).flatten(-3, -2)
        return F.leaky_relu(y, self.slope).to(maps[0].dtype)

    def variant(self, kind: str, channels: int) -> Variant:
        """The kernel for maps and steps of this float type (Triton's word) and this number of channels."""
        constants = {
            "C": channels,
            "A_STEP": self.a_step,
            "B_STEP": self.b_step,
            "LAST": LastSteps(slope=self.slope),
            "BLOCK_C": 16 if channels <= 16 else 32,
            "BLOCK_K": 32,  # of int8 a tensor core takes 32 at once
            "BLOCK_W": 32,  # four sums of twice the columns would leave each multiprocessor two programs
        }
        pointers = {
            "a": kind,
            "b": kind,
            **dict.fromkeys(_WHOLE, "i8"),
            "row_step": kind,
            "column_step": kind,
            "y": kind,
        }
        return Variant(pixel_dcl_int8, pointers, ("height", "width"), constants)


def pixel_dcl_int8(
    a: tl.tensor,
    b: tl.tensor,
    a_int8: tl.tensor,
    b_int8: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    row_step: tl.tensor,
    column_step: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    C: tl.constexpr,
    A_STEP: tl.constexpr,
    B_STEP: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_W: tl.constexpr,
) -> None:
    """Triton kernel; grid (N * H, cdiv(width, BLOCK_W), cdiv(C, BLOCK_C)), sides of the maps.

    As pixel_dcl_maps, with a sum per map and source: their steps differ.
    """
    image = (tl.program_id(0) // height).to(tl.int64)
    i = tl.program_id(0) % height + tl.full((1, 1), 0, tl.int32)
    j = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    plane = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    right_of_a = tl.zeros((BLOCK_C, BLOCK_W), tl.int32)
    right_of_b = tl.zeros((BLOCK_C, BLOCK_W), tl.int32)
    below_of_a = tl.zeros((BLOCK_C, BLOCK_W), tl.int32)
    below_of_b = tl.zeros((BLOCK_C, BLOCK_W), tl.int32)
    for first in range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        place = ((image * C + k[:, None]) * height + i) * width + j
        known = (k < C)[:, None] & (j < width)
        a_here = tl.load(a_int8 + place, mask=known, other=0)
        a_right = tl.load(a_int8 + place + 1, mask=known & (j + 1 < width), other=0)
        a_below = tl.load(a_int8 + place + width, mask=known & (i + 1 < height), other=0)
        b_here = tl.load(b_int8 + place, mask=known, other=0)
        b_above = tl.load(b_int8 + place - width, mask=known & (i > 0), other=0)
        b_left = tl.load(b_int8 + place - 1, mask=known & (j > 0), other=0)
        tap = (plane * C + k[None, :]) * 2
        fits = (plane < C) & (k < C)[None, :]
        left, right = tl.load(row + tap, mask=fits, other=0), tl.load(row + tap + 1, mask=fits, other=0)
        above, below = tl.load(column + tap, mask=fits, other=0), tl.load(column + tap + 1, mask=fits, other=0)
        right_of_a = tl.dot(left, a_here, right_of_a)
        right_of_a = tl.dot(right, a_right, right_of_a)
        right_of_b = tl.dot(above, b_above, right_of_b)
        right_of_b = tl.dot(below, b_here, right_of_b)
        below_of_a = tl.dot(above, a_here, below_of_a)
        below_of_a = tl.dot(below, a_below, below_of_a)
        below_of_b = tl.dot(left, b_left, below_of_b)
        below_of_b = tl.dot(right, b_here, below_of_b)
    across = tl.load(row_step + plane, mask=plane < C, other=0).to(tl.float32)
    down = tl.load(column_step + plane, mask=plane < C, other=0).to(tl.float32)
    top_right = right_of_a.to(tl.float32) * (across * A_STEP) + right_of_b.to(tl.float32) * (down * B_STEP)
    bottom_left = below_of_a.to(tl.float32) * (down * A_STEP) + below_of_b.to(tl.float32) * (across * B_STEP)
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

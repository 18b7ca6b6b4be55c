"""Pixel deconvolution's last step in one pass: four maps interleaved, activated, and stored as the output wants it.

(N, C, H, W) maps of fp32, fp16, bf16, or int8 with one step → (N, C, 2H, 2W) of the same float type or int8. The maps
themselves are convolutions, which the library's own kernels compute; what this replaces is Concat, Gather,
DepthToSpace, the activation behind them and the quantiser behind that: up to five passes.
"""
# ruff: noqa: N803, PLR0917  the kernel: Triton's constants are written in capitals, and go by position

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engines.plugins.last_steps import LastSteps, finished, vector
from engines.plugins.ptx import Variant, kernel_part

try:
    import triton.language as tl
except ModuleNotFoundError:  # shape rule and reference are usable without
    tl = None

MAPS = ("top_left", "top_right", "bottom_left", "bottom_right")
"""Of parity (0, 0), (0, 1), (1, 0), (1, 1) of the output's row and column."""


THREADS = 128
_NONE = LastSteps()


@dataclass(frozen=True)
class PixelInterleave:
    """Four maps of one shape → one of twice the side, every element through the steps."""

    steps: LastSteps = _NONE

    def output_shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Of maps of this shape; the sides may be symbolic."""
        n, channels, height, width = shape
        return n, channels, height * 2, width * 2

    def reference(self, top_left: Any, top_right: Any, bottom_left: Any, bottom_right: Any, dtype: Any = None) -> Any:
        """The same by torch's own operators, in float32 until the last step.

        Args:
            dtype: torch dtype of a float output; None: the maps'.
        """
        import torch

        rows = [torch.stack(pair, -1).flatten(-2) for pair in ((top_left, top_right), (bottom_left, bottom_right))]
        y = torch.stack(rows, -2).flatten(-3, -2)
        return self.steps.reference(y.float() * self.steps.input_step, dtype or y.dtype)

    def grid(self, shape: Sequence[Any], block: int, cdiv: Callable[[Any, int], Any]) -> tuple[Any, Any]:
        """Programs for maps of this shape; the sides may be symbolic."""
        n, channels, height, width = shape
        return n * channels * height, cdiv(width, block)

    def variant(self, source: str, target: str, block: int = 0) -> Variant:
        """The kernel for these types (Triton's words); block: see `grid`, 0: chosen here."""
        joined = vector(source, target, 2)
        constants = {
            "LAST": self.steps.for_types(source, target),
            "VECTOR": joined,
            "BLOCK": block or joined * THREADS,
        }
        return Variant(interleave, {**dict.fromkeys(MAPS, source), "y": target}, ("width",), constants)


@kernel_part
def _interleaved_rows(
    top_left: tl.tensor,
    top_right: tl.tensor,
    bottom_left: tl.tensor,
    bottom_right: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64)
    inside = column < width
    source = row * width + column
    a = finished(tl.load(top_left + source, mask=inside, other=0), None, 0, y, LAST)
    b = finished(tl.load(top_right + source, mask=inside, other=0), None, 0, y, LAST)
    c = finished(tl.load(bottom_left + source, mask=inside, other=0), None, 0, y, LAST)
    d = finished(tl.load(bottom_right + source, mask=inside, other=0), None, 0, y, LAST)
    twice = tl.program_id(1) * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    written = twice < 2 * width
    target = row * 4 * width + twice
    tl.store(y + target, tl.interleave(a, b), mask=written)
    tl.store(y + target + 2 * width, tl.interleave(c, d), mask=written)


def interleave(
    top_left: tl.tensor,
    top_right: tl.tensor,
    bottom_left: tl.tensor,
    bottom_right: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    LAST: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Triton kernel; grid (N * C * H, cdiv(W, BLOCK)), all of the maps.

    A program reads BLOCK elements of one row of all four maps and writes two rows of twice the length. A thread joins
    half a vector of two maps to a whole one of the output in registers; where no vector divides a row, it goes element
    by element.
    """
    # The same twice: multiplied by VECTOR the width is known to be divisible, and every row begins at a full vector.
    if width % VECTOR == 0:
        _interleaved_rows(top_left, top_right, bottom_left, bottom_right, width // VECTOR * VECTOR, y, LAST, BLOCK)
    else:
        _interleaved_rows(top_left, top_right, bottom_left, bottom_right, width, y, LAST, BLOCK)

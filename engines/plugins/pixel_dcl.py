"""Pixel deconvolution's last step in one pass: four maps interleaved and activated.

(N, C, H, W) maps of fp32, fp16 or bf16 → (N, C, 2H, 2W). The maps themselves are convolutions, which the library's own
kernels compute; what this replaces is Concat, Gather, DepthToSpace and the activation behind them: four passes.
"""
# ruff: noqa: N803, PLR0917  the kernel: Triton's constants are written in capitals, and it has no keyword arguments

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.plugins.ptx import Variant

try:
    import triton.language as tl
except ModuleNotFoundError:  # shape rule and reference are usable without
    tl = None

MAPS = ("top_left", "top_right", "bottom_left", "bottom_right")
"""Of parity (0, 0), (0, 1), (1, 0), (1, 1) of the output's row and column."""


@dataclass(frozen=True)
class PixelInterleave:
    """Four maps of one shape → one of twice the side, every element activated."""

    slope: float = 1.0
    """What elements below 0 are multiplied by: 1 leaves them, 0 is ReLU."""

    def output_shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Of maps of this shape; the sides may be symbolic."""
        n, channels, height, width = shape
        return n, channels, height * 2, width * 2

    def reference(self, top_left: Any, top_right: Any, bottom_left: Any, bottom_right: Any) -> Any:
        """The same by torch's own operators."""
        import torch

        rows = [torch.stack(pair, -1).flatten(-2) for pair in ((top_left, top_right), (bottom_left, bottom_right))]
        y = torch.stack(rows, -2).flatten(-3, -2)
        return torch.nn.functional.leaky_relu(y, self.slope)

    def variant(self, kind: str, block: int = 512) -> Variant:
        """The kernel for this type (Triton's word)."""
        constants = {"SLOPE": self.slope, "BLOCK": block}
        return Variant(interleave, dict.fromkeys((*MAPS, "y"), kind), ("width",), constants)


def interleave(
    top_left: tl.tensor,
    top_right: tl.tensor,
    bottom_left: tl.tensor,
    bottom_right: tl.tensor,
    width: tl.tensor,
    y: tl.tensor,
    SLOPE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Triton kernel; grid (N * C * H, cdiv(width, BLOCK)), all of the maps.

    A program reads BLOCK elements of one row of all four maps and writes two rows of twice the length: pairs are
    joined in registers, so that loads and stores are contiguous.
    """
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64)
    inside = column < width
    source = row * width + column
    upper = tl.interleave(
        tl.load(top_left + source, mask=inside, other=0), tl.load(top_right + source, mask=inside, other=0)
    )
    lower = tl.interleave(
        tl.load(bottom_left + source, mask=inside, other=0), tl.load(bottom_right + source, mask=inside, other=0)
    )
    if SLOPE != 1.0:
        upper, lower = upper.to(tl.float32), lower.to(tl.float32)
        upper = tl.where(upper < 0, upper * SLOPE, upper)
        lower = tl.where(lower < 0, lower * SLOPE, lower)
    twice = tl.program_id(1) * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    written = twice < 2 * width
    target = row * 4 * width + twice
    tl.store(y + target, upper.to(y.dtype.element_ty), mask=written)
    tl.store(y + target + 2 * width, lower.to(y.dtype.element_ty), mask=written)

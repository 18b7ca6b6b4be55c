"""One side of a window of the picture, followed through a network: which positions of a tensor are those of the whole
picture's tensor. Exact integer arithmetic, one axis at a time; knows no operators of ONNX.

A window begins and ends inside the picture here. Where an end of it is the picture's own border nothing is lost, since
the network pads there as it would for the whole picture.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor


class NotTileableError(Exception):
    """No tiling of this graph is known to be exact; the message says why, without the node's name."""


@dataclass(frozen=True)
class Span:
    """A tensor's axis that runs along one side of the picture."""

    side: int
    """0: the height, 1: the width."""
    scale: Fraction
    """Positions per pixel of the network's input."""
    size: int
    """Positions that the window has."""
    first: int
    """First position that is equal to the whole picture's."""
    last: int
    """One behind the last such position; `first` or less: there is none."""

    def clipped(self) -> Span:
        return replace(self, first=min(max(self.first, 0), self.size), last=max(min(self.last, self.size), 0))


def met(a: Span, b: Span) -> Span:
    """Both at once, position by position.

    Raises:
        NotTileableError: they do not lie over each other.
    """
    if a.side != b.side:
        raise NotTileableError("joins rows with columns of the picture")
    if (a.scale, a.size) != (b.scale, b.size):
        raise NotTileableError(f"joins {a.size} with {b.size} positions along one side")
    return replace(a, first=max(a.first, b.first), last=min(a.last, b.last))


def convolved(span: Span, taps: Taps) -> Span:
    """Out of a convolution or a pooling: position i reads from stride i - before, `reach` further."""
    size = taps.out_size(span.size)
    first = -(-(span.first + taps.before) // taps.stride)
    last = (span.last - 1 + taps.before - taps.reach) // taps.stride + 1
    return Span(span.side, span.scale / taps.stride, size, first, last).clipped()


def deconvolved(span: Span, taps: Taps, extra: int) -> Span:
    """Out of a transposed convolution: input i reaches stride i - before, and up to `reach` further.

    Args:
        extra: positions that `output_padding` adds at the end.
    """
    stride, reach, before = taps.stride, taps.reach, taps.before
    size = (span.size - 1) * stride + reach + 1 + extra - before - taps.after
    first, last = (span.first - 1) * stride + reach - before + 1, span.last * stride - before
    return Span(span.side, span.scale * stride, size, first, last).clipped()


@dataclass(frozen=True)
class Taps:
    """How a convolution or a pooling reads along one side."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    """Padding; may be negative."""
    after: int = 0
    round_up: bool = False
    """ceil_mode of poolings."""

    @property
    def reach(self) -> int:
        return self.dilation * (self.kernel - 1)

    def out_size(self, size: int) -> int:
        free = size + self.before + self.after - self.reach - 1
        out = (-(-free // self.stride) if self.round_up else free // self.stride) + 1
        # A window of a pooling that would begin in the padding behind the picture is left out.
        return out - 1 if self.round_up and (out - 1) * self.stride >= size + self.before else out

    def same(self, size: int, upper: bool) -> Taps:
        """With auto_pad SAME_UPPER or SAME_LOWER for an axis of this size."""
        total = max((-(-size // self.stride) - 1) * self.stride + self.reach + 1 - size, 0)
        small, large = total // 2, total - total // 2
        return replace(self, before=small if upper else large, after=large if upper else small)


def cut(span: Span, start: int, step: int, size: int) -> Span:
    """Every `step`-th position from `start` on."""
    first, last = -(-(span.first - start) // step), (span.last - 1 - start) // step + 1
    return Span(span.side, span.scale / step, size, first, last).clipped()


def padded(span: Span, before: int, after: int) -> Span:
    """With positions added (or, negative, taken away) at both ends."""
    size = span.size + before + after
    return Span(span.side, span.scale, size, span.first + before, span.last + before).clipped()


def spread(span: Span, factor: int) -> Span:
    """Every position becomes `factor` neighbours, as in DepthToSpace."""
    return Span(span.side, span.scale * factor, span.size * factor, span.first * factor, span.last * factor)


def gathered(span: Span, factor: int) -> Span:
    """Every `factor` neighbours become one position, as in SpaceToDepth."""
    if span.size % factor:
        raise NotTileableError(f"takes {span.size} positions of a side in groups of {factor}")
    return replace(
        span,
        scale=span.scale / factor,
        size=span.size // factor,
        first=-(-span.first // factor),
        last=span.last // factor,
    )


Reads = Callable[[int], tuple[int, int]]
"""Position that comes out → first and last position that it reads."""


def resized(span: Span, size: int, reads: Reads) -> Span:
    """Out of a resampling to `size` positions; what `reads` says must not fall from one position to the next."""
    scale = Fraction(size, span.size)
    positions = range(size)
    first = bisect_left(positions, True, key=lambda i: reads(i)[0] >= span.first)
    last = bisect_left(positions, True, key=lambda i: reads(i)[1] >= span.last)
    return Span(span.side, span.scale * scale, size, first, last).clipped()


def resampling(scale: Fraction, mode: str, transform: str, rounding: str, antialias: bool) -> Reads:
    """What a Resize of this scale reads.

    Raises:
        NotTileableError: positions depend on the picture's size, or are rounded differently in a tile.

    Source: Resize in https://onnx.ai/onnx/operators/onnx__Resize.html
    """
    if transform not in {"half_pixel", "pytorch_half_pixel", "asymmetric"}:
        raise NotTileableError(f"places its samples by the whole picture's size ({transform})")
    if mode == "nearest" and 1 not in (scale.numerator, scale.denominator):
        raise NotTileableError(f"takes nearest samples at a scale of {scale}, rounded differently in a tile")
    if mode != "nearest" and scale.numerator & (scale.numerator - 1):
        raise NotTileableError(f"interpolates at a scale of {scale}, whose positions a tile rounds differently")
    shift = Fraction(0) if transform == "asymmetric" else Fraction(1, 2)
    wide = 1 / scale if antialias and scale < 1 else Fraction(1)

    def at(i: int) -> Fraction:
        return (i + shift) / scale - shift

    def reads(i: int) -> tuple[int, int]:
        x = at(i)
        if mode == "nearest":
            return (_nearest(x, rounding),) * 2
        if mode == "linear" and wide == 1:
            return floor(x), ceil(x)
        radius = wide * (1 if mode == "linear" else 2)
        return (floor(x - radius), ceil(x + radius)) if wide > 1 else (floor(x) - 1, floor(x) + 2)

    return reads


def _nearest(x: Fraction, rounding: str) -> int:
    half = Fraction(1, 2)
    return {
        "floor": lambda: floor(x),
        "ceil": lambda: ceil(x),
        "round_prefer_floor": lambda: ceil(x - half),
        "round_prefer_ceil": lambda: floor(x + half),
    }[rounding]()

"""Spans: every rule against the same arithmetic carried out on numbers that say where they came from."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from export.spans import (
    NotTileableError,
    Span,
    Taps,
    convolved,
    cut,
    deconvolved,
    gathered,
    met,
    padded,
    resampling,
    resized,
    spread,
)

WINDOW = Span(0, Fraction(1), 40, 3, 35)


def read_by_convolution(taps: Taps, size: int) -> list[set[int]]:
    """What every position that comes out reads, padding included."""
    return [
        {i * taps.stride - taps.before + taps.dilation * k for k in range(taps.kernel)}
        for i in range(taps.out_size(size))
    ]


@pytest.mark.parametrize(
    "taps",
    [Taps(3, 1, 1, 1, 1), Taps(3, 1, 8, 8, 8), Taps(3, 2, 1, 1, 1), Taps(2, 2), Taps(5, 3, 2, 4, 1), Taps(1)],
)
def test_a_convolution_keeps_exactly_the_positions_that_read_right_ones(taps: Taps) -> None:
    out = convolved(WINDOW, taps)
    right = set(range(WINDOW.first, WINDOW.last))
    expected = [i for i, reads in enumerate(read_by_convolution(taps, WINDOW.size)) if reads <= right]
    assert (out.first, out.last, out.scale) == (expected[0], expected[-1] + 1, Fraction(1, taps.stride))


@pytest.mark.parametrize(("kernel", "stride", "before"), [(2, 2, 0), (4, 2, 1), (3, 1, 1), (3, 2, 1), (5, 3, 0)])
def test_a_transposed_convolution_keeps_exactly_what_no_wrong_or_missing_input_reaches(
    kernel: int, stride: int, before: int
) -> None:
    out = deconvolved(WINDOW, Taps(kernel, stride, 1, before, before), 0)
    reached = {i * stride - before + k for i in range(-9, 60) if not 3 <= i < 35 for k in range(kernel)}
    expected = [i for i in range(out.size) if i not in reached]
    assert (out.first, out.last) == (expected[0], expected[-1] + 1)


def test_cutting_padding_spreading_and_gathering() -> None:
    assert cut(WINDOW, 1, 2, 20) == Span(0, Fraction(1, 2), 20, 1, 17)
    assert padded(WINDOW, 2, 5) == Span(0, Fraction(1), 47, 5, 37)
    assert padded(WINDOW, -4, -10) == Span(0, Fraction(1), 26, 0, 26)
    assert spread(WINDOW, 3) == Span(0, Fraction(3), 120, 9, 105)
    assert gathered(WINDOW, 4) == Span(0, Fraction(1, 4), 10, 1, 8)
    with pytest.raises(NotTileableError, match="in groups of 3"):
        gathered(WINDOW, 3)


def test_tensors_that_do_not_lie_over_each_other_are_refused() -> None:
    assert met(WINDOW, Span(0, Fraction(1), 40, 5, 40)) == Span(0, Fraction(1), 40, 5, 35)
    with pytest.raises(NotTileableError, match="40 with 41"):
        met(WINDOW, Span(0, Fraction(1), 41, 5, 40))
    with pytest.raises(NotTileableError, match="rows with columns"):
        met(WINDOW, Span(1, Fraction(1), 40, 5, 40))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scale", [Fraction(2), Fraction(4), Fraction(1, 2)])
def test_a_resampling_reads_no_further_than_it_says(mode: str, scale: Fraction) -> None:
    torch = pytest.importorskip("torch")
    reads = resampling(scale, mode, "half_pixel", "", antialias=False)
    size = int(40 * scale)
    out = resized(WINDOW, size, reads)
    x = torch.zeros(1, 1, 40, 40)
    y = x.clone()
    y[:, :, :3], y[:, :, 35:] = 1.0, 1.0
    kind = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    a, b = (torch.nn.functional.interpolate(v, scale_factor=float(scale), mode=kind) for v in (x, y))
    changed = np.flatnonzero((a != b).numpy().any(axis=(0, 1, 3)))
    kept = np.setdiff1d(np.arange(size), changed)
    assert (out.first, out.last) == (kept[0], kept[-1] + 1)


def test_resampling_that_a_tile_would_round_or_place_differently_is_refused() -> None:
    with pytest.raises(NotTileableError, match="scale of 3"):
        resampling(Fraction(3), "linear", "half_pixel", "", antialias=False)
    with pytest.raises(NotTileableError, match="align_corners"):
        resampling(Fraction(2), "linear", "align_corners", "", antialias=False)
    assert resampling(Fraction(3), "nearest", "asymmetric", "floor", antialias=False)(8) == (2, 2)

"""Pencil drawing: strokes along the edges of a picture, over its tones as a pencil would shade them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.operator import Operator
from reference_models.pictures import Picture

Plane = NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LEAST_STROKE = 1e-3
"""Sums along lines that differ by less are those of a picture of one colour."""
_TONES = (76, 22, 2)
"""Weights of bright, middle and dark tones. Source: table 1 of the paper, third group, that of bright drawings."""


def draw(
    picture: Picture, length_px: int, directions: int, darkness: float, tone_window_px: int
) -> NDArray[np.float32]:
    """The drawing, grey (H, W, 3) in [0, 1]: strokes times tones.

    Args:
        length_px: strokes reach this far to both sides.
        directions: of the strokes, evenly over half a turn.
        darkness: exponent of the strokes' lightness.
        tone_window_px: side of the square over which tones are averaged, which hides the steps of their histogram.

    Source: Lu, Xu, Jia, sections 3.1 and 3.2.1. Their pencil texture (3.2.2) is left out: it is a scan of somebody's.
    """
    from scipy.ndimage import median_filter, uniform_filter

    luma = (picture @ _LUMA) / np.float32(255)
    strokes = _strokes(median_filter(luma, 3, mode="nearest"), length_px, directions) ** np.float32(darkness)
    tones = uniform_filter(_toned(luma), tone_window_px, mode="nearest")
    return (strokes * tones)[..., None].repeat(3, axis=2)


def _strokes(luma: Plane, length_px: int, directions: int) -> Plane:
    """(H, W) in [0, 1], 0 where strokes are densest: every edge pixel is drawn out along the direction in which most
    edges lie around it."""
    from scipy.signal import oaconvolve

    edges = np.zeros_like(luma)
    edges[:, :-1] += np.abs(np.diff(luma, axis=1))
    edges[:-1] += np.abs(np.diff(luma, axis=0))
    lines = [_line(length_px, np.pi * n / directions) for n in range(directions)]
    best = np.argmax([oaconvolve(edges, line, mode="same") for line in lines], axis=0)
    total = sum(oaconvolve(np.where(best == n, edges, 0), line, mode="same") for n, line in enumerate(lines))
    drawn: Plane = np.asarray(total, np.float32)
    low, high = drawn.min(), drawn.max()
    if high - low < _LEAST_STROKE:
        return np.ones_like(drawn)
    return 1 - (drawn - low) / (high - low)


def _line(length_px: int, angle: float) -> Plane:
    """A line of one pixel's width through the middle of a square, antialiased."""
    steps = np.arange(-length_px, length_px + 1)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    along = x * np.cos(angle) - y * np.sin(angle)
    across = x * np.sin(angle) + y * np.cos(angle)
    return (np.clip(1 - np.abs(across), 0, 1) * (np.abs(along) <= length_px)).astype(np.float32)


def _toned(luma: Plane) -> Plane:
    """Luma with its histogram brought to that of pencil drawings."""
    wanted = np.cumsum(tone_histogram())
    levels = np.clip(luma * 255 + 0.5, 0, 255).astype(np.uint8)
    found = np.cumsum(np.bincount(levels.ravel(), minlength=256)) / levels.size
    table = np.searchsorted(wanted, found - 1e-9).clip(0, 255) / np.float32(255)
    return table.astype(np.float32)[levels]


def tone_histogram() -> NDArray[np.float64]:
    """Share of each of 256 levels in drawings: white paper, even middle tones, and dark strokes around one depth.

    Source: equations 5 to 9 and table 1 of the paper.
    """
    level = np.arange(256)
    bright = np.exp((level - 255) / 9) / 9
    middle = ((level >= 105) & (level <= 225)) / 120
    dark = np.exp(-((level - 90) ** 2) / (2 * 11**2)) / np.sqrt(2 * np.pi * 11)
    total = sum(weight * part for weight, part in zip(_TONES, (bright, middle, dark), strict=True))
    return np.asarray(total / total.sum())


OPERATOR = Operator(
    name="pencil",
    title="Pencil drawing",
    source="Lu, Xu, Jia: Combining Sketch and Tone for Pencil Drawing Production, NPAR 2012, "
    "https://doi.org/10.2312/PE/NPAR/NPAR12/065-073",
    parameters={"length_px": 8, "directions": 8, "darkness": 1.5, "tone_window_px": 10},
    compute=draw,
)

"""Local Laplacian filters: every difference to a reference intensity sent through a curve, without halos at edges.

A grey plane in, a grey plane out. Two operators of this folder are built on it; it is none by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_TAPS = np.array([0.05, 0.25, 0.4, 0.25, 0.05], np.float32)
"""Source: Burt, Adelson: The Laplacian Pyramid as a Compact Image Code, IEEE Trans. Commun. 31(4), 1983, a = 0.4."""


def local_laplacian(plane: Plane, curve: Callable[[Plane, float], Plane], references: int) -> Plane:
    """A plane (H, W) in [0, 1], filtered.

    The Laplacian pyramid of the result is interpolated between those of `references` wholly remapped planes.

    Args:
        curve: (plane, reference) → what is added to the plane around this reference intensity.
        references: intensities, evenly from 0 to 1; 2 or more.

    Source: Paris, Hasinoff, Kautz: Local Laplacian Filters, SIGGRAPH 2011, section 4; fast form by Aubry, Paris,
        Hasinoff, Kautz, Durand: Fast Local Laplacian Filters: Theory and Applications, ACM TOG 33(5), 2014, section 4.
    """
    levels = math.ceil(math.log(max(1, min(plane.shape))) - math.log(2)) + 2
    gaussian = gaussian_pyramid(plane, max(1, levels))
    made = laplacian_pyramid(gaussian)
    step = 1 / (references - 1)
    for number in range(references):
        added = laplacian_pyramid(gaussian_pyramid(curve(plane, number * step), len(gaussian)))
        for level, (target, detail) in enumerate(zip(made[:-1], added[:-1], strict=True)):
            share = np.clip(1 - np.abs(gaussian[level] - np.float32(number * step)) / np.float32(step), 0, None)
            np.add(target, share * detail, out=target)
    out = made[-1]
    for detail in reversed(made[:-1]):
        out = detail + _enlarged(out, detail.shape)
    return out


def gaussian_pyramid(plane: Plane, levels: int) -> list[Plane]:
    """The plane, and at most `levels` - 1 times half of it; fewer where one pixel is reached."""
    pyramid = [plane]
    while len(pyramid) < levels and max(pyramid[-1].shape) > 1:
        pyramid.append(_blurred(pyramid[-1])[::2, ::2])
    return pyramid


def laplacian_pyramid(gaussian: list[Plane]) -> list[Plane]:
    """Per level what the next one lacks; the last one as it is."""
    finer = [here - _enlarged(below, here.shape) for here, below in pairwise(gaussian)]
    return [*finer, gaussian[-1].copy()]


def _blurred(plane: Plane) -> Plane:
    from scipy.ndimage import correlate1d

    for axis in (0, 1):
        plane = correlate1d(plane, _TAPS, axis, mode="nearest")
    return plane


def _enlarged(plane: Plane, shape: tuple[int, ...]) -> Plane:
    """Twice the size: every second pixel given, the others interpolated; the weights present are brought to 1."""
    spread, present = np.zeros((2, *shape), np.float32)
    spread[::2, ::2] = plane
    present[::2, ::2] = 1
    out: Plane = _blurred(spread) / _blurred(present)
    return out

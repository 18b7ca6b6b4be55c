"""Pictures that need no download and no licence: dead leaves and gradients of any size, from a seed. NumPy alone.

Dead leaves: discs, rectangles and stripes of random size cover each other as leaves on the ground. With sizes
distributed as r^-3 such pictures share with photographs the statistics of edges, contrast and scale; they have what a
photograph may lack: perfectly sharp edges, flat areas, and gradients without noise.

Source: Lee, Mumford, Huang: Occlusion Models for Natural Images, IJCV 41, 2001, section 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_models.pictures import Picture

LEAVES = 700
"""Shapes on a picture; the last ones lie on top."""
SMALLEST, LARGEST = 0.006, 0.35
"""Radius of a leaf as a share of the shorter side; the smallest is two pixels at least."""


def scene(width: int, height: int, seed: int) -> Picture:
    """One picture, uint8 (height, width, 3) RGB: leaves over a gradient, a little blurred and noisy in two of three.

    The same seed and size give the same picture.
    """
    rng = np.random.default_rng([seed, width, height])
    planes = gradient(width, height, rng)
    for _ in range(int(rng.integers(LEAVES // 10, LEAVES))):
        _put_leaf(planes, rng)
    return photographed(planes, rng)


def gradient(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(3, height, width): a colour in each corner, what lies between by bilinear interpolation."""
    corners = rng.random((3, 2, 2), np.float32)
    y, x = (np.linspace(0, 1, side, dtype=np.float32) for side in (height, width))
    rows = corners[:, 0, None, :] * (1 - y[:, None]) + corners[:, 1, None, :] * y[:, None]
    return np.asarray(rows[:, :, :1] * (1 - x) + rows[:, :, 1:] * x, np.float32)


def _radius(side: int, rng: np.random.Generator) -> float:
    """Distributed as r^-3 between the smallest and the largest, which leaves the same look at every zoom."""
    low, high = max(2.0, SMALLEST * side), max(3.0, LARGEST * side)
    share = rng.random()
    return float((low**-2 * (1 - share) + high**-2 * share) ** -0.5)


def _put_leaf(planes: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Draws one shape in place, within the box that holds it."""
    radius = _radius(min(planes.shape[1:]), rng)
    box, u, v = turned_box(planes, radius, rng)
    inside = _inside(u, v, rng)
    colour = rng.random((3, 1, 1), np.float32)
    slope = rng.normal(0, 0.15, (3, 1, 1)).astype(np.float32) if rng.random() < 0.5 else np.float32(0)
    np.copyto(planes[box], colour + slope * u, where=inside)


def turned_box(
    planes: NDArray[np.float32], radius: float, rng: np.random.Generator
) -> tuple[tuple[slice, ...], NDArray[np.float32], NDArray[np.float32]]:
    """A random place for a leaf: the part of (C, height, width) that holds it, and turned coordinates (h, w) there,
    which are 0 in its middle and 1 at the radius."""
    height, width = planes.shape[1:]
    cy, cx = rng.random() * height, rng.random() * width
    top, left = max(0, int(cy - 1.5 * radius)), max(0, int(cx - 1.5 * radius))
    bottom, right = min(height, int(cy + 1.5 * radius) + 1), min(width, int(cx + 1.5 * radius) + 1)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(cy)
    x = np.arange(left, right, dtype=np.float32) - np.float32(cx)
    turn = rng.random() * np.pi
    cos, sin = (np.float32(f(turn) / radius) for f in (np.cos, np.sin))
    u, v = np.asarray(x * cos + y * sin, np.float32), np.asarray(y * cos - x * sin, np.float32)
    return np.s_[:, top:bottom, left:right], u, v


def _inside(u: NDArray[np.float32], v: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which pixels of the box a disc, a rectangle, or stripes over a disc cover; u and v are 1 at the radius."""
    kind, flat = rng.integers(3), np.float32(rng.uniform(0.3, 1))
    if kind == 1:
        return (np.abs(u) < 1) & (np.abs(v) < flat)
    disc = u * u + (v / flat) ** 2 < 1
    if kind == 2:
        disc &= np.sin(u * np.float32(rng.uniform(5, 40))) > 0
    return disc


def photographed(planes: NDArray[np.float32], rng: np.random.Generator) -> Picture:
    """As a camera sees it, uint8 (height, width, 3): as it is, a little out of focus, or with noise."""
    kind = rng.integers(3)
    if kind == 1:
        from scipy.ndimage import gaussian_filter

        sigma = float(rng.uniform(0.4, 1.2))
        planes = np.stack([gaussian_filter(plane, sigma) for plane in planes])
    if kind == 2:
        planes = planes + np.float32(rng.uniform(0.004, 0.03)) * rng.standard_normal(planes.shape, np.float32)
    return np.ascontiguousarray((np.clip(planes, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))

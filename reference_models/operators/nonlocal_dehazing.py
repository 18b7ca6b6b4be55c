"""Non-local dehazing: pixels of one true colour lie on a line to the air's light; the farthest along it is clearest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.dark_channel import air_light
from reference_models.operators.grid_equation import Grid, solve
from reference_models.operators.operator import Operator, unit_from_picture
from reference_models.pictures import Picture

Plane = NDArray[np.float32]

_LEAST_SQUARE = np.float32(1e-5)
"""Added to the guide's squared differences. Source: the authors' wls_optimization.m."""
_ENOUGH_PIXELS = 50
"""A line of fewer is trusted in proportion. Source: equation 15 of the paper."""
_PATCH_PX = 15


def dehaze(
    picture: Picture, *, lines: int, smoothness: float, least: float, haze_left: float, stretched: float
) -> NDArray[np.float32]:
    """The picture as it would be in clear air, its contrast stretched: (H, W, 3) float32 near [0, 1].

    Args:
        lines: directions from the air's light into which colours are sorted.
        smoothness: lambda of the transmission between neighbours of one brightness.
        least: transmission that no pixel is taken to be below.
        haze_left: factor of the transmission, above 1: distance should still be seen.
        stretched: share of the pixels that may become black, and as many white.

    Source: Berman, Treibitz, Avidan, section 3. The paper takes the air's light as given; here it is that of the dark
        channel. Weights, `haze_left` and the stretching as in the authors' program.
    """
    from scipy.ndimage import minimum_filter

    values = unit_from_picture(picture)
    light = air_light(values, minimum_filter(values.min(2), _PATCH_PX))
    rays = haze_lines(values - light, lines)
    nearest = 1 - (values / light).min(2)  # no clear colour is below black
    transmission = np.maximum(np.clip(rays.share, least, 1), nearest)
    transmission = _regular(transmission, rays.trust, values.mean(2), smoothness)
    clear = (values - (1 - haze_left * transmission)[..., None] * light) / np.maximum(transmission, least)[..., None]
    return _stretched(np.clip(clear, 0, 1), stretched)


@dataclass(frozen=True)
class Rays:
    """What the lines say of each pixel, planes (H, W)."""

    share: Plane
    """Distance from the air's light, as a share of the farthest on its line."""
    trust: Plane
    """0 to 1: of lines with many pixels at different distances."""


def haze_lines(offsets: NDArray[np.float32], lines: int) -> Rays:
    """Sorts the colours less the air's light, (H, W, 3), by their directions, the nearest of `lines` on a sphere."""
    from scipy.spatial import KDTree

    distance = np.sqrt((offsets**2).sum(2))
    directions = offsets / np.maximum(distance, np.float32(1e-6))[..., None]
    line = KDTree(sphere(lines)).query(directions.reshape(-1, 3), workers=_workers())[1]
    flat = distance.ravel().astype(np.float64)
    farthest = np.zeros(lines)
    np.maximum.at(farthest, line, flat)
    count = np.bincount(line, minlength=lines)
    mean, square = (np.bincount(line, v, lines) / np.maximum(count, 1) for v in (flat, flat**2))
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    spread = deviation / max(deviation.max(), 1e-12)
    trust = np.minimum(1, count / _ENOUGH_PIXELS) * np.minimum(1, 3 * np.maximum(0.001, spread - 0.1))
    share = np.where(farthest[line] > 0, flat / np.maximum(farthest[line], 1e-12), 1)
    shape = distance.shape
    return Rays(share.reshape(shape).astype(np.float32), trust[line].reshape(shape).astype(np.float32))


def sphere(count: int) -> NDArray[np.float64]:
    """Nearly even directions, (count, 3) of length 1: a spiral whose turns differ by the golden angle.

    Source: González: Measurement of Areas on a Sphere Using Fibonacci and Latitude-Longitude Lattices, 2010.
    """
    number = np.arange(count) + 0.5
    height, turn = 1 - 2 * number / count, number * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


def _workers() -> int:
    import scipy.fft

    return int(scipy.fft.get_workers())


def _regular(transmission: Plane, trust: Plane, guide: Plane, smoothness: float) -> Plane:
    """The transmission, smooth where the guide is, near what trusted pixels say."""
    trust = (trust - trust.min()) / (np.ptp(trust) + np.float32(1e-5))
    if not trust.any():
        return transmission

    # The sky is at the top: a column that nobody is sure of begins with its haziest value.
    unsure = trust[0] < 0.6
    transmission[0, unsure] = transmission.min(0)[unsure]
    trust[0, unsure] = 0.8
    down, right = (np.float32(smoothness) / (np.diff(guide, axis=axis) ** 2 + _LEAST_SQUARE) for axis in (0, 1))
    return solve(Grid(trust, down, right), transmission, tolerance=2e-3)


def _stretched(values: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Contrast stretched to black and white, mostly by the same limits in all channels, so that colours hold."""
    values = values - values.min()
    values = values / max(values.max(), np.float32(1e-6))
    low, high = np.quantile(values.reshape(-1, 3), [share, 1 - share], axis=0)
    high = np.maximum(high, 0.2)
    high = 0.2 * high + 0.8 * np.maximum(high, high.mean())
    low = 0.2 * low + 0.8 * np.minimum(low, low.mean())
    return np.asarray((values - low) / np.maximum(high - low, 1e-3), np.float32)


OPERATOR = Operator(
    name="nonlocal_dehazing",
    title="Non-local dehazing",
    source="Berman, Treibitz, Avidan: Non-Local Image Dehazing, CVPR 2016, https://doi.org/10.1109/CVPR.2016.185",
    parameters={"lines": 1000, "smoothness": 0.1, "least": 0.1, "haze_left": 1.06, "stretched": 0.005},
    compute=dehaze,
)

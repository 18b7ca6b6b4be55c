"""Structure from texture by relative total variation: gradients that agree are edges, those that cancel are texture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.grid_equation import Grid, solve
from reference_models.operators.operator import Operator
from reference_models.pictures import Picture

_LEAST_SUM = np.float32(1e-3)
"""Of a windowed gradient. Source: epsilon in equation 9 of the paper, as in the authors' tsmooth.m."""


def structure(picture: Picture, weight: float, scale: float, sharpness: float, rounds: int) -> NDArray[np.float32]:
    """The picture without its texture, (H, W, 3) float32 near [0, 1].

    Each round solves a linear equation whose smoothness is weak where gradients around a pixel agree in direction.

    Args:
        weight: lambda.
        scale: sigma of the window in pixels, the largest size of texture that goes; halved each round down to 0.5.
        sharpness: epsilon_s, the least gradient that counts as one.

    Source: Xu, Yan, Xia, Jia, section 3.2; the windowed sums and the limits as in the authors' tsmooth.m.
    """
    planes = np.divide(picture.transpose(2, 0, 1), 255, dtype=np.float32, order="C")
    made = planes
    for _ in range(rounds):
        down, right = _texture_weights(made, scale, sharpness)
        half = np.float32(weight / 2)
        made = solve(Grid(np.ones_like(planes[0]), half * down, half * right), planes, tolerance=2e-4)
        scale = max(scale / 2, 0.5)
    return made.transpose(1, 2, 0)


def _texture_weights(planes: NDArray[np.float32], scale: float, sharpness: float) -> list[NDArray[np.float32]]:
    from scipy.ndimage import gaussian_filter1d

    slopes = [np.diff(planes, axis=axis) for axis in (1, 2)]
    length = np.zeros(planes.shape, np.float32)
    length[:, :-1] += slopes[0] ** 2
    length[:, :, :-1] += slopes[1] ** 2
    steepness = np.maximum(np.sqrt(length).mean(0), np.float32(sharpness))
    radius = round(5 * scale) // 2
    blurred = planes
    for axis in (1, 2):
        blurred = gaussian_filter1d(blurred, scale, axis, mode="constant", radius=radius)
    weights = []
    for axis in (1, 2):
        windowed = np.maximum(np.abs(np.diff(blurred, axis=axis)).mean(0), _LEAST_SUM)
        here = steepness[:-1] if axis == 1 else steepness[:, :-1]
        weights.append(1 / (windowed * here))
    return weights


OPERATOR = Operator(
    name="rtv",
    title="Relative total variation",
    source="Xu, Yan, Xia, Jia: Structure Extraction from Texture via Relative Total Variation, SIGGRAPH Asia 2012, "
    "https://doi.org/10.1145/2366145.2366158",
    parameters={"weight": 0.01, "scale": 3.0, "sharpness": 0.02, "rounds": 4},
    compute=structure,
)

"""Multiscale tone manipulation: detail of two scales, and the base below them, each boosted or compressed by itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.grid_equation import Grid, solve
from reference_models.operators.operator import Operator
from reference_models.pictures import Picture

_LEAST_GRADIENT = np.float32(1e-4)
_MIDDLE = 56
"""Lightness that the base's curve leaves as it is."""


@dataclass(frozen=True)
class Curves:
    """One version of the picture."""

    fine: float
    """Steepness of the curve that the finest detail goes through; 1 leaves it nearly as it is."""
    medium: float
    base: float
    exposure: float
    """Factor of the base's lightness."""


VERSIONS = (Curves(25, 1, 1, 1.0), Curves(1, 40, 1, 1.0), Curves(4, 1, 15, 1.1))
"""Fine, medium and coarse detail boosted. Source: the authors' demo program, which averages the three."""


def manipulate(picture: Picture, fine: float, coarse: float, sensitivity: float, saturation: float) -> NDArray[Any]:
    """The mean of VERSIONS, (H, W, 3) in [0, 1].

    Lightness is smoothed twice, keeping edges. What the first takes away is fine detail, what the second takes away
    beyond it medium detail, and what stays is the base.

    Args:
        fine: lambda of the first smoothing.
        coarse: lambda of the second.
        sensitivity: alpha; the larger, the sharper edges stay.
        saturation: factor of a* and b*.
    """
    from skimage.color import lab2rgb, rgb2lab

    lab = rgb2lab(picture / np.float32(255)).astype(np.float32)
    lightness = lab[..., 0].copy()
    lab[..., 1:] *= saturation
    finer, coarser = (smoothed(lightness, weight, sensitivity) for weight in (fine, coarse))
    total = np.zeros(picture.shape, np.float32)
    for curves in VERSIONS:
        lab[..., 0] = curve(lightness - finer, curves.fine) + curve(finer - coarser, curves.medium)
        lab[..., 0] += curve(curves.exposure * coarser - _MIDDLE, curves.base) + _MIDDLE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # colours outside of sRGB, which are clipped
            total += np.clip(lab2rgb(lab), 0, 1)
    return total / len(VERSIONS)


def curve(values: NDArray[np.float32], steepness: float) -> NDArray[np.float32]:
    """A sigmoid of differences of lightness through 0 that leaves ±50 where they are: the steeper, the more small ones
    grow."""
    out: NDArray[np.float32] = np.tanh(values * np.float32(steepness / 200)) * np.float32(50 / np.tanh(steepness / 4))
    return out


def smoothed(lightness: NDArray[np.float32], weight: float, sensitivity: float) -> NDArray[np.float32]:
    """Lightness (H, W) from 0 to 100 by weighted least squares: smooth but where its logarithm has an edge.

    Source: Farbman, Fattal, Lischinski, Szeliski, section 3; the logarithm and the least gradient as in the authors'
        wlsFilter.m.
    """
    logarithm = np.log(lightness + np.finfo(np.float64).eps).astype(np.float32)

    def weights(axis: int) -> NDArray[np.float32]:
        slope = np.abs(np.diff(logarithm, axis=axis))
        return (np.float32(weight) / (slope ** np.float32(sensitivity) + _LEAST_GRADIENT)).astype(np.float32)

    return solve(Grid(np.ones_like(lightness), weights(0), weights(1)), lightness, tolerance=0.02)


OPERATOR = Operator(
    name="multiscale_tone",
    title="Multiscale tone manipulation",
    source="Farbman, Fattal, Lischinski, Szeliski: Edge-Preserving Decompositions for Multi-Scale Tone and Detail "
    "Manipulation, SIGGRAPH 2008, https://doi.org/10.1145/1360612.1360666",
    parameters={"fine": 0.125, "coarse": 0.5, "sensitivity": 1.2, "saturation": 1.1},
    compute=manipulate,
)

"""The model of Rudin, Osher and Fatemi: the nearest picture of little total variation. Noise goes, edges stay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.operator import Operator
from reference_models.pictures import Picture


def denoise(picture: Picture, weight: float, rounds: int, tolerance: float) -> NDArray[Any]:
    """Per channel the S that minimises TV(S) + |S - I|² / (2 · weight), (H, W, 3) float32 near [0, 1].

    Args:
        weight: the larger, the smoother.
        rounds: of the iteration, at most.
        tolerance: it also ends where the energy changes by less than this share.

    Source: Rudin, Osher, Fatemi; solved as Chambolle: An Algorithm for Total Variation Minimization and Applications,
        JMIV 20, 2004, by scikit-image.
    """
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(
        denoise_tv_chambolle(
            picture / np.float32(255), weight=weight, eps=tolerance, max_num_iter=rounds, channel_axis=-1
        )
    )


OPERATOR = Operator(
    name="rof",
    title="Rudin-Osher-Fatemi denoising",
    source="Rudin, Osher, Fatemi: Nonlinear total variation based noise removal algorithms, Physica D 60, 1992, "
    "https://doi.org/10.1016/0167-2789(92)90242-F",
    parameters={"weight": 0.1, "rounds": 100, "tolerance": 1e-4},
    compute=denoise,
)

"""Multiscale detail manipulation: differences smaller than edges are amplified, by local Laplacian filtering."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.local_laplacian import local_laplacian
from reference_models.operators.operator import Operator, unit_from_picture
from reference_models.pictures import Picture

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLACK = np.float32(1e-3)


def amplify(picture: Picture, edge: float, gain: float, references: int) -> NDArray[np.float32]:
    """The picture with more detail, (H, W, 3) float32 that may leave [0, 1]; colours keep their ratios.

    Args:
        edge: sigma, deviation of the differences that count as detail, on the scale of 0 to 1.
        gain: what is added to the smallest differences, in multiples of them.
        references: intensities of the fast form.

    Source: Paris, Hasinoff, Kautz, with the curve of Aubry et al., Fast Local Laplacian Filters, equation 3.
    """
    values = unit_from_picture(picture)
    luma = values @ _LUMA

    def curve(plane: NDArray[np.float32], reference: float) -> NDArray[np.float32]:
        difference = plane - np.float32(reference)
        out: NDArray[np.float32] = np.float32(gain) * difference * np.exp(-(difference**2) / np.float32(2 * edge**2))
        return out

    made = local_laplacian(luma, curve, references)
    return values * (made / np.maximum(luma, _BLACK))[..., None]


OPERATOR = Operator(
    name="detail_manipulation",
    title="Multiscale detail manipulation",
    source="Paris, Hasinoff, Kautz: Local Laplacian Filters, SIGGRAPH 2011, https://doi.org/10.1145/1964921.1964963",
    parameters={"edge": 0.1, "gain": 5.0, "references": 10},
    compute=amplify,
)

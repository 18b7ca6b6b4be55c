"""Total variation with L1 fidelity: small structures go whatever their contrast, large ones keep theirs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.operator import Operator
from reference_models.pictures import Picture

_STEP = np.float32(1 / np.sqrt(8))
"""Of both variables: the gradient's squared norm is at most 8."""


def restore(picture: Picture, fidelity: float, rounds: int) -> NDArray[np.float32]:
    """Per channel the S that minimises TV(S) + fidelity · |S - I|₁, (H, W, 3) float32 in [0, 1].

    Args:
        fidelity: lambda; discs of a radius below 2 / fidelity pixels vanish.
        rounds: of the iteration, which approaches the minimum.

    Source: the model: Nikolova, A Variational Approach to Remove Outliers and Impulse Noise, JMIV 20, 2004; the
        iteration: Chambolle, Pock: A First-Order Primal-Dual Algorithm for Convex Problems with Applications to
        Imaging, JMIV 40, 2011, algorithm 1 and section 6.2.2.
    """
    wanted = np.divide(picture.transpose(2, 0, 1), 255, dtype=np.float32, order="C")
    made = wanted.copy()
    for plane, target in zip(made, wanted, strict=True):
        _minimise(plane, target, np.float32(fidelity), rounds)
    return made.transpose(1, 2, 0)


def _minimise(plane: NDArray[np.float32], wanted: NDArray[np.float32], fidelity: np.float32, rounds: int) -> None:
    """One channel (H, W), in place."""
    down, right = np.zeros((2, *plane.shape), np.float32)
    ahead, back = plane.copy(), np.empty_like(plane)
    for _ in range(rounds):
        down[:-1] += _STEP * (ahead[1:] - ahead[:-1])
        right[:, :-1] += _STEP * (ahead[:, 1:] - ahead[:, :-1])
        length = np.maximum(np.sqrt(down * down + right * right), 1)
        down /= length
        right /= length
        np.add(down, right, out=back)
        back[1:] -= down[:-1]
        back[:, 1:] -= right[:, :-1]
        back *= _STEP
        back += plane
        back -= wanted
        # The proximal map of fidelity · |S - I|₁ shrinks the difference.
        back -= np.clip(back, -_STEP * fidelity, _STEP * fidelity)
        back += wanted
        np.multiply(back, 2, out=ahead)
        ahead -= plane
        plane[:] = back


OPERATOR = Operator(
    name="tvl1",
    title="Total variation with L1 fidelity",
    source="Nikolova: A Variational Approach to Remove Outliers and Impulse Noise, JMIV 20, 2004, "
    "https://doi.org/10.1023/B:JMIV.0000011920.58935.9c",
    parameters={"fidelity": 1.0, "rounds": 100},
    compute=restore,
)

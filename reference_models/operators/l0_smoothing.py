"""L0 smoothing: a picture → the nearest one with few non-zero gradients. Strong edges stay, faint texture goes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_models.operators.operator import Operator
from reference_models.pictures import Picture

_BETA_MAX = 1e5
"""Source: section 3.2 of the paper."""


def smooth(picture: Picture, weight: float, growth: float) -> NDArray[np.float32]:
    """The picture S that minimises |S - I|² + weight · #(pixels where S has a gradient), (H, W, 3) float32 near [0, 1].

    A gradient is the differences to the next pixel down and to the right, around the border, in all three channels
    together. By half-quadratic splitting: with beta from 2 · weight on, times `growth` each round, gradients below the
    threshold weight / beta are cut, then S follows in closed form in the Fourier domain.

    Args:
        weight: lambda; the larger, the fewer gradients stay.
        growth: kappa, above 1; the closer to 1, the more rounds.

    Source: Xu, Lu, Xu, Jia: Image Smoothing via L0 Gradient Minimization, SIGGRAPH Asia 2011, algorithm 1.
    """
    from scipy import fft

    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)
    planes /= 255
    height, width = planes.shape[1:]
    spectrum = fft.rfft2(planes)
    response = laplacian_response(height, width)
    beta = 2 * weight
    while beta < _BETA_MAX:
        mixed = fft.rfft2(_divergence_of_kept_gradients(planes, weight / beta), overwrite_x=True)
        mixed *= np.float32(beta)
        mixed += spectrum
        mixed /= 1 + np.float32(beta) * response
        planes = fft.irfft2(mixed, s=(height, width), overwrite_x=True)
        beta *= growth
    return planes.transpose(1, 2, 0)


def laplacian_response(height: int, width: int) -> NDArray[np.float32]:
    """|F(d/dx)|² + |F(d/dy)|² of differences around the border, for a real transform: (height, width // 2 + 1)."""
    down = 2 - 2 * np.cos(2 * np.pi * np.arange(height) / height)
    right = 2 - 2 * np.cos(2 * np.pi * np.arange(width // 2 + 1) / width)
    return (down[:, None] + right).astype(np.float32)


def _divergence_of_kept_gradients(planes: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Planes (C, H, W) → minus the divergence of those gradients whose square, over all planes, reaches the threshold.

    In bands of rows, which stay in the processor's cache; a band also needs the row above its own.
    """
    count, height, width = planes.shape
    out = np.empty_like(planes)
    rows = max(1, 2**15 // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = planes.take(range(top - 1, bottom + 1), axis=1, mode="wrap")
        down, right = band[:, 1:] - band[:, :-1], np.empty((count, bottom - top + 1, width), np.float32)
        np.subtract(band[:, :-1, 1:], band[:, :-1, :-1], out=right[..., :-1])
        np.subtract(band[:, :-1, 0], band[:, :-1, -1], out=right[..., -1])
        kept = np.einsum("chw,chw->hw", down, down) + np.einsum("chw,chw->hw", right, right) >= threshold
        down *= kept
        right *= kept
        target = out[:, top:bottom]
        np.subtract(down[:, :-1], down[:, 1:], out=target)
        target -= right[:, 1:]
        target[..., 1:] += right[:, 1:, :-1]
        target[..., 0] += right[:, 1:, -1]
    return out


OPERATOR = Operator(
    name="l0_smoothing",
    title="L0 gradient minimisation",
    source="Xu, Lu, Xu, Jia: Image Smoothing via L0 Gradient Minimization, SIGGRAPH Asia 2011, "
    "https://doi.org/10.1145/2024156.2024208",
    # lambda and kappa. The authors' program has 2 for kappa; the released CAN24 reproduces 8 best, of 17 settings.
    parameters={"weight": 0.02, "growth": 8.0},
    compute=smooth,
)

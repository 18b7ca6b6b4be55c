"""The CAN network and its adaptive normalisation: float32 NCHW planes B, G, R in [0, 1] → the same, not clipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-3
"""slim.batch_norm's default; the release does not set another."""
THUMBNAIL_SCALE = 4
"""`thumbnail` statistics come from the picture reduced by this factor on each side, by area."""


def picture_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every plane over the picture: (N, C, H, W) → two of (N, C, 1, 1).

    Rows first, then the column of row results: no running sum is longer than a side of the picture, so float32 keeps
    its precision at 4K. One sum over millions of pixels would lose 10 to 20 dB of the network's output. Deviations
    are squared after the mean is taken off; E[x²] - E[x]² cancels where a plane is nearly constant. The root of the
    sum of squares is one reduction (ReduceL2), which reads the picture without writing its square.
    """
    mean = x.mean(3, keepdim=True).mean(2, keepdim=True)
    row = torch.linalg.vector_norm(x - mean, dim=3, keepdim=True)
    return mean, (row * row).mean(2, keepdim=True) / x.shape[3]


class AdaptiveNorm(nn.Module):
    """scale_identity * x + scale_norm * BN(x), BN with the picture's own statistics, no gamma, epsilon 1e-3.

    Source: section 3 of the paper, equation 3; BN as released runs in training mode at test time, so its moving
    averages are never used.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_identity = nn.Parameter(torch.ones(()))
        self.scale_norm = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(width))

    def affine(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The normalisation as x * scale + offset, given (N, C, 1, 1) statistics; both of the same shape."""
        gain = self.scale_norm * torch.rsqrt(variance + EPSILON)
        return self.scale_identity + gain, self.scale_norm * self.beta.view(1, -1, 1, 1) - gain * mean

    def forward(self, x: Tensor) -> Tensor:
        scale, offset = self.affine(*picture_statistics(x))
        return x * scale + offset

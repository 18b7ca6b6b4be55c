"""The CAN network and its adaptive normalisation: float32 NCHW planes B, G, R in [0, 1] → the same, not clipped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-3
"""slim.batch_norm's default; the release does not set another."""
NEGATIVE_SLOPE = 0.2


def _plane_mean(x: Tensor) -> Tensor:
    """Mean of every plane: (N, C, H, W) → (N, C, 1, 1).

    torch sums pairwise. ONNX engines keep one running sum per lane, which at 4K adds a million float32 numbers and
    costs 10 to 20 dB of the network's output; so the exported graph takes rows first and then the column of their
    means: no sum is longer than a side of the picture. Sum and division for the column, since OpenVINO merges two
    ReduceMean into one.
    """
    if torch.compiler.is_exporting():
        return x.mean(3, keepdim=True).sum(2, keepdim=True) / x.shape[2]
    return x.mean((2, 3), keepdim=True)


def picture_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every plane over the picture: (N, C, H, W) → two of (N, C, 1, 1).

    Deviations are squared after the mean is taken off: E[x²] - E[x]² cancels where a plane is nearly constant.
    """
    mean = _plane_mean(x)
    deviation = x - mean
    return mean, _plane_mean(deviation * deviation)


def affine(
    mean: Tensor, variance: Tensor, scale_identity: Tensor, scale_norm: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """Adaptive normalisation as x * scale + offset, for tensors that broadcast with each other: (scale, offset)."""
    gain = scale_norm * torch.rsqrt(variance + EPSILON)
    return scale_identity + gain, scale_norm * beta - gain * mean


class AdaptiveNorm(nn.Module):
    """scale_identity * x + scale_norm * BN(x): BN with the picture's own statistics, no gamma, epsilon 1e-3.

    Source: section 3 of the paper, equation 3. As released, BN runs in training mode at test time too, so its moving
    averages are never used.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_identity = nn.Parameter(torch.ones(()))
        self.scale_norm = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x, *picture_statistics(x))

    def normalised(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """(N, C, H, W) planes normalised with the given (N, C, 1, 1) statistics."""
        scale, offset = affine(mean, variance, self.scale_identity, self.scale_norm, self.beta.view(1, -1, 1, 1))
        return x * scale + offset


def _identity_(weight: Tensor) -> None:
    """Sets an OIHW kernel so that plane i of the output is plane i of the input, where both exist."""
    nn.init.zeros_(weight)
    for plane in range(min(weight.shape[:2])):
        weight.data[plane, plane, weight.shape[2] // 2, weight.shape[3] // 2] = 1


class Can(nn.Module):
    """Dilated 3x3 convolutions without bias, adaptive normalisation, leaky ReLU; then a 1x1 convolution with bias.

    Input and output: (N, 3, H, W) float32, planes B, G, R in [0, 1], output not clipped. Any H, W >= 1.
    Untrained weights are the release's initialisation: identity kernels, scale_identity 1, scale_norm 0, and a
    Xavier-uniform last layer (fixed seed, so that two runs measure the same network).
    Statistics are taken per picture of the batch.

    Source: section 3 and appendix of the paper; CAN24_AN/demo.py of the release.
    """

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        planes = [3, *[width] * len(dilations)]
        self.convs = nn.ModuleList(
            nn.Conv2d(planes[i], width, 3, padding=d, dilation=d, bias=False) for i, d in enumerate(dilations)
        )
        self.norms = nn.ModuleList(AdaptiveNorm(width) for _ in dilations)
        self.last = nn.Conv2d(width, 3, 1)
        for weight in (conv.weight for conv in self.convs):
            assert isinstance(weight, Tensor)
            _identity_(weight)
        nn.init.xavier_uniform_(self.last.weight, generator=torch.Generator().manual_seed(0))
        self.last.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), NEGATIVE_SLOPE)
        return self.last(x)

    def statistics(self, x: Tensor) -> Tensor:
        """Mean and variance that every normalisation sees for these pictures: (N, 3, H, W) → (N, layers, 2, width)."""
        found = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(norm, AdaptiveNorm)
            x = conv(x)
            mean, variance = picture_statistics(x)
            found.append(torch.stack((mean, variance), 1).flatten(2))
            x = F.leaky_relu(norm.normalised(x, mean, variance), NEGATIVE_SLOPE)
        return torch.stack(found, 1)

    def affines(self, statistics: Tensor) -> Tensor:
        """Scale and offset of every layer for given statistics: (N, layers, 2, width) → the same shape."""
        identity, gain, beta = (
            torch.stack([getattr(norm, name) for norm in self.norms])
            for name in ("scale_identity", "scale_norm", "beta")
        )
        mean, variance = statistics.unbind(2)
        return torch.stack(affine(mean, variance, identity[:, None], gain[:, None], beta), 2)

    def folded(self) -> FoldedCan:
        """This network with normalisation left to the convolutions, folded for scale 1 and offset 0."""
        return FoldedCan(self)


class FoldedCan(nn.Module):
    """CAN for fixed statistics: conv, leaky ReLU and nothing between. The same tensors as Can, and one bias a layer.

    scale * conv(x, w) + offset = conv(x, scale * w) + offset, exactly; `refit_rule` names the tensors for that.
    """

    def __init__(self, can: Can) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_with_bias(conv) for conv in can.convs)
        self.last = can.last

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.leaky_relu(conv(x), NEGATIVE_SLOPE)
        return self.last(x)

    @property
    def refit_rule(self) -> tuple[tuple[str, str], ...]:
        """Per layer the names of its weight (times scale, along axis 0) and of its bias (which becomes offset)."""
        return tuple((f"convs.{i}.weight", f"convs.{i}.bias") for i in range(len(self.convs)))


def _with_bias(conv: nn.Module) -> nn.Conv2d:
    assert isinstance(conv, nn.Conv2d)
    d = conv.dilation[0]
    out = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=d, dilation=d)
    out.weight.data.copy_(conv.weight.data)
    nn.init.zeros_(out.bias)  # type: ignore[arg-type]
    return out

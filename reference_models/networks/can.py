"""CAN, with adaptive, batch or no normalisation: float32 NCHW planes B, G, R in [0, 1] → the same, not clipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

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
    # Under autocast planes are bf16 or fp16, and a mean of these may not be.
    return x.mean((2, 3), keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))


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


class BatchNorm(AdaptiveNorm):
    """BN(x) alone, as slim.batch_norm computes it in the release: the picture's own statistics, no gamma, epsilon 1e-3.

    Source: the paper's ablation CAN32+BN; the form of BN is that of the released adaptive normalisation.
    """

    def __init__(self, width: int) -> None:
        nn.Module.__init__(self)
        self.beta = nn.Parameter(torch.zeros(width))

    @property
    def scale_identity(self) -> Tensor:  # type: ignore[override]
        return torch.full((), 0.0, device=self.beta.device)

    @property
    def scale_norm(self) -> Tensor:  # type: ignore[override]
        return torch.full((), 1.0, device=self.beta.device)


NORMS = {"adaptive": AdaptiveNorm, "batch": BatchNorm}


def conv2d(planes: int, width: int, kernel_size: int, *, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size (zeros around), its tensors not yet set: torch's own way takes random numbers
    that belong to the caller, and seconds for large layers."""
    return skip_init(
        nn.Conv2d, planes, width, kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation, bias=bias,
        device=torch.get_default_device(),
    )  # fmt: skip


def _identity_(weight: Tensor) -> None:
    """Sets an OIHW kernel so that plane i of the output is plane i of the input, where both exist."""
    nn.init.zeros_(weight)
    for plane in range(min(weight.shape[:2])):
        weight.data[plane, plane, weight.shape[2] // 2, weight.shape[3] // 2] = 1


def _dilated(width: int, dilations: Sequence[int], planes: int, bias: bool) -> nn.ModuleList:
    """The 3x3 convolutions with identity kernels and biases 0, as the release initialises them."""
    convs = [conv2d(planes if i == 0 else width, width, 3, dilation=d, bias=bias) for i, d in enumerate(dilations)]
    for conv in convs:
        _identity_(conv.weight)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    return nn.ModuleList(convs)


def _projection(width: int) -> nn.Conv2d:
    """The last layer: 1x1 to three planes, Xavier-uniform with a fixed seed, bias 0."""
    last = conv2d(width, 3, 1)
    assert last.bias is not None
    nn.init.xavier_uniform_(last.weight, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(last.bias)
    return last


class Can(nn.Module):
    """Dilated 3x3 convolutions without bias, normalisation, leaky ReLU; then a 1x1 convolution with bias.

    Input: (N, planes, H, W) float32, planes B, G, R in [0, 1], then constant planes if any. Output: (N, 3, H, W) B, G,
    R, not clipped. Any H, W >= 1.
    Untrained weights are the release's initialisation: identity kernels, scale_identity 1, scale_norm 0, and a
    Xavier-uniform last layer (fixed seed, so that two runs measure the same network).
    Statistics are taken per picture of the batch.

    Source: section 3 and appendix of the paper; CAN24_AN/demo.py, Single_Network/combined.py (13 planes) and
    Parameterized_Network/parameterized.py (4 planes) of the release. The paper's equation 2 has a bias in front of the
    normalisation; the release has none, and under the picture's own statistics it would only act through the identity.
    """

    def __init__(
        self,
        width: int,
        dilations: Sequence[int],
        planes: int = 3,
        normalisation: Literal["adaptive", "batch"] = "adaptive",
    ) -> None:
        super().__init__()
        self.convs = _dilated(width, dilations, planes, bias=False)
        self.norms = nn.ModuleList(NORMS[normalisation](width) for _ in dilations)
        self.last = _projection(width)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), NEGATIVE_SLOPE)
        return self.last(x)

    def statistics(self, x: Tensor) -> Tensor:
        """Mean and variance that every normalisation sees for these pictures: (N, C, H, W) → (N, layers, 2, width)."""
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


class CanWithoutNorm(nn.Module):
    """CAN without normalisation: 3x3 convolutions with bias and leaky ReLU, then 1x1. Input and output as `Can`.

    Untrained: identity kernels, biases 0, the same last layer as `Can`.

    Source: the paper's CAN32 (its CAN32+AN is our can32), equation 2 with the normalisation left out. With nothing to
    normalise, slim.conv2d adds a bias, and so does the equation.
    """

    def __init__(self, width: int, dilations: Sequence[int], planes: int = 3) -> None:
        super().__init__()
        self.convs = _dilated(width, dilations, planes, bias=True)
        self.last = _projection(width)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.leaky_relu(conv(x), NEGATIVE_SLOPE)
        return self.last(x)


class FoldedCan(CanWithoutNorm):
    """CAN for fixed statistics: conv, leaky ReLU and nothing between. The same tensors as Can, and one bias a layer.

    scale * conv(x, w) + offset = conv(x, scale * w) + offset, exactly; `refit_rule` names the tensors for that.
    """

    def __init__(self, can: Can) -> None:
        convs = [conv for conv in can.convs if isinstance(conv, nn.Conv2d)]
        super().__init__(convs[0].out_channels, [conv.dilation[0] for conv in convs], convs[0].in_channels)
        for own, conv in zip(self.convs, convs, strict=True):
            assert isinstance(own, nn.Conv2d)
            own.weight.data.copy_(conv.weight.data)
        self.last = can.last

    @property
    def refit_rule(self) -> tuple[tuple[str, str], ...]:
        """Per layer the names of its weight (times scale, along axis 0) and of its bias (which becomes offset)."""
        return tuple((f"convs.{i}.weight", f"convs.{i}.bias") for i in range(len(self.convs)))

"""Networks in the form in which they train fastest on a CPU: the same function of the same tensors.

CAN: activations in channels-last order, normalisation by torch's own batch norm of one picture at a time, which is the
picture's own statistics, and with autocast channels padded to a multiple of 16. What that gave is in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.networks.can import EPSILON, NEGATIVE_SLOPE, AdaptiveNorm, Can

BLOCK = 16
"""Channels to whose multiples bfloat16 is padded on a CPU. PyTorch 2.13 (oneDNN) dies of a segmentation fault in the
gradient of a dilated bfloat16 convolution of 20, 24 or 40 channels in channels-last order; padded is faster, too."""

Forward = Callable[[Tensor], Tensor]


def training_form(model: nn.Module) -> Forward:
    """A function that computes what `model` does, forth and back, on (N, C, H, W) float32; it may change the order of
    its weights in memory."""
    if isinstance(model, Can):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return lambda x: torch.cat([_can(model, picture[None]) for picture in x])
    return model


def _can(can: Can, x: Tensor) -> Tensor:
    """One picture (1, C, H, W) through CAN. The last layer, 1x1, is computed in float32 whatever the autocast."""
    x = x.contiguous(memory_format=torch.channels_last)
    for conv, norm in zip(can.convs, can.norms, strict=True):
        assert isinstance(norm, AdaptiveNorm)
        beta: Tensor = norm.beta
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            x, beta = _padded(conv, x), F.pad(beta, (0, -len(beta) % BLOCK))
        else:
            x = conv(x)
        gain = torch.ones_like(beta) if x.is_cuda else None  # CUDA's kernels want both or none
        normalised = F.batch_norm(x, None, None, gain, beta, training=True, eps=EPSILON)
        x = F.leaky_relu(norm.scale_identity * x + norm.scale_norm * normalised, NEGATIVE_SLOPE)
    with torch.autocast(x.device.type, enabled=False):
        return can.last(x[:, : can.last.in_channels].float())


def _padded(conv: nn.Module, x: Tensor) -> Tensor:
    """What the convolution makes of x (1, C, H, W), with as many planes of zeros behind as make up a multiple of BLOCK;
    x may have such planes too."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is None  # noqa: PT018
    outputs = -conv.out_channels % BLOCK
    weight = F.pad(conv.weight, (0, 0, 0, 0, 0, x.shape[1] - conv.in_channels, 0, outputs))
    weight = weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation)

"""Networks in the form in which they train fastest on a CPU: the same function of the same tensors.

CAN: activations in channels-last order, normalisation by torch's own batch norm of one picture at a time, which is the
picture's own statistics, and with autocast channels padded (BLOCK). What that gave is in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.networks.can import EPSILON, NEGATIVE_SLOPE, AdaptiveNorm, Can

BLOCK = 16
"""Channels above it are padded to its multiples, in bfloat16 on a CPU. In PyTorch 2.13 (oneDNN) the gradient of a
dilated bfloat16 convolution in channels-last order ends in a segmentation fault (tried with 20, 24, 28, 40 and 56
channels) or is NaN (20 that go in); with 8, 12, 16, 32 and 48 it is right."""

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
    padded = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if padded:
        x = F.pad(x, (0, 0, 0, 0, 0, _beyond(x.shape[1])))
    x = x.contiguous(memory_format=torch.channels_last)
    for conv, norm in zip(can.convs, can.norms, strict=True):
        assert isinstance(norm, AdaptiveNorm)
        beta: Tensor = norm.beta
        if padded:
            x, beta = _padded(conv, x), F.pad(beta, (0, _beyond(len(beta))))
        else:
            x = conv(x)
        gain = torch.ones_like(beta) if x.is_cuda else None  # CUDA's kernels want both or none
        normalised = F.batch_norm(x, None, None, gain, beta, training=True, eps=EPSILON)
        x = F.leaky_relu(norm.scale_identity * x + norm.scale_norm * normalised, NEGATIVE_SLOPE)
    with torch.autocast(x.device.type, enabled=False):
        return can.last(x[:, : can.last.in_channels].float())


def _beyond(channels: int) -> int:
    """Planes of zeros that stand behind so many channels."""
    return -channels % BLOCK if channels > BLOCK else 0


def _padded(conv: nn.Module, x: Tensor) -> Tensor:
    """What the convolution makes of x (1, C, H, W), behind whose planes zeros may stand, with zeros behind it."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is None
    assert conv.groups == 1
    outputs = _beyond(conv.out_channels)
    weight = F.pad(conv.weight, (0, 0, 0, 0, 0, x.shape[1] - conv.in_channels, 0, outputs))
    weight = weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation)

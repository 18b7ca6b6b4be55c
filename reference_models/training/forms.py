"""Networks in the form in which they train fastest on a CPU: the same function of the same tensors.

CAN: activations in channels-last order, and normalisation by torch's own batch norm of one picture at a time, which is
the picture's own statistics. What that gave is in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.networks.can import EPSILON, NEGATIVE_SLOPE, AdaptiveNorm, Can

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
        x = conv(x)
        gain = torch.ones_like(norm.beta) if x.is_cuda else None  # CUDA's kernels want both or none
        normalised = F.batch_norm(x, None, None, gain, norm.beta, training=True, eps=EPSILON)
        x = F.leaky_relu(norm.scale_identity * x + norm.scale_norm * normalised, NEGATIVE_SLOPE)
    with torch.autocast(x.device.type, enabled=False):
        return can.last(x.float())

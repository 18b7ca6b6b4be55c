"""Networks in the form in which they train fastest on a CPU: the same function of the same tensors.

CAN: normalisation by torch's own batch norm of one picture at a time, which is the picture's own statistics. On a CPU
in float32 dilated convolutions are plain ones of pictures split into phases (`_split`); with autocast, and on a GPU,
activations are in channels-last order, with autocast channels padded (BLOCK). What that gave is in docs/training.md.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.networks.can import EPSILON, NEGATIVE_SLOPE, AdaptiveNorm, Can

BLOCK = 16
"""Channels above it are padded to its multiples, in bfloat16 on a CPU. In PyTorch 2.13 (oneDNN) the gradient of a
dilated bfloat16 convolution in channels-last order ends in a segmentation fault (tried with 20, 24, 28, 40 and 56
channels) or is NaN (20 that go in); with 8, 12, 16, 32 and 48 it is right."""

PHASES = 8
"""Sides that are a multiple of it are worth splitting: dilations up to 8 become plain, larger ones smaller."""

Forward = Callable[[Tensor], Tensor]


def training_form(model: nn.Module) -> Forward:
    """A function that computes what `model` does, forth and back, on (N, C, H, W) float32; it may change the order of
    its weights in memory."""
    if not isinstance(model, Can):
        return model
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(x: Tensor) -> Tensor:
        plain = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        one = _can_in_phases if plain and not (x.shape[2] % PHASES or x.shape[3] % PHASES) else _can
        order = torch.contiguous_format if one is _can_in_phases else torch.channels_last
        model.to(memory_format=order)  # type: ignore[call-overload]
        return torch.cat([one(model, picture[None]) for picture in x])

    return forward


def _can_in_phases(can: Can, x: Tensor) -> Tensor:
    """One picture (1, C, H, W) through CAN: a convolution of dilation d is one without dilation of the d * d pictures
    that every d-th row and column make. Statistics do not ask where a pixel lies, so that phases stay apart until a
    smaller dilation comes; where the sides are no multiple the convolution is dilated as ever."""
    factors: list[int] = []
    for conv, norm in zip(can.convs, can.norms, strict=True):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, AdaptiveNorm)
        dilation = int(conv.dilation[0])
        while dilation % math.prod(factors):
            x = _merged(x, factors.pop())
        factor = dilation // math.prod(factors)
        if factor > 1 and not (x.shape[2] % factor or x.shape[3] % factor):
            x = _split(x, factor)
            factors.append(factor)
        with _dilated(conv, dilation // math.prod(factors)):
            x = _activated(norm, conv(x), norm.beta)
    while factors:
        x = _merged(x, factors.pop())
    return can.last(x)


def _activated(norm: AdaptiveNorm, x: Tensor, beta: Tensor) -> Tensor:
    """The normalisation by x's own statistics, all of x being one picture, and the leaky ReLU behind it."""
    gain = torch.ones_like(beta) if x.is_cuda else None  # CUDA's kernels want both or none
    normalised = F.batch_norm(x, None, None, gain, beta, training=True, eps=EPSILON)
    return F.leaky_relu(norm.scale_identity * x + norm.scale_norm * normalised, NEGATIVE_SLOPE)


@contextlib.contextmanager
def _dilated(conv: nn.Conv2d, dilation: int) -> Iterator[None]:
    """The layer with another dilation for a moment: it is the layer that is called, and what hooks of it do."""
    kept = conv.padding, conv.dilation
    conv.padding = conv.dilation = (dilation, dilation)
    try:
        yield
    finally:
        conv.padding, conv.dilation = kept


def _split(x: Tensor, factor: int) -> Tensor:
    """(N, C, H, W) → (factor^2 * N, C, H / factor, W / factor): every factor-th row and column in a picture of its
    own."""
    n, c, h, w = x.shape
    phases = x.reshape(n, c, h // factor, factor, w // factor, factor).permute(3, 5, 0, 1, 2, 4)
    return phases.reshape(factor * factor * n, c, h // factor, w // factor)


def _merged(x: Tensor, factor: int) -> Tensor:
    """What `_split` was given."""
    n, c, h, w = x.shape
    n //= factor * factor
    rows = x.reshape(factor, factor, n, c, h, w).permute(2, 3, 4, 0, 5, 1)
    return rows.reshape(n, c, h * factor, w * factor)


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
        x = _activated(norm, x, beta)
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

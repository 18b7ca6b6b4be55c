"""The SRCNN network: float32 NCHW luma in [0, 1], already enlarged → the same size, refined, not clipped."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Border = Literal["replicate", "zeros"]


class Srcnn(nn.Module):
    """Convolutions 9x9 (64), k x k (32) and 5x5 (1) with biases, ReLU after the first two.

    Input and output: (N, 1, H, W) float32 luma, any H, W >= 1.

    Border: the networks were trained on patches with convolutions that lose their border. The published test code
    (SRCNN.m) keeps the size by repeating the border of the maps before every convolution, which is followed here; the
    ECCV paper speaks of zeros and a division by the number of pixels seen. `border="zeros"`: plain zeros, as most
    later implementations.

    Untrained weights (fixed seed): those of `pass_picture_`. The paper's initialisation (deviation 0.001) is one to
    train from: it gives a black picture.

    Source: section 3 of the paper; section 4.3 for k = 1 and k = 5.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(self, mapping: int = 1, border: Border = "replicate") -> None:
        super().__init__()
        self.conv1 = _conv(1, 64, 9, border)
        self.conv2 = _conv(64, 32, mapping, border)
        self.conv3 = _conv(32, 1, 5, border)
        generator = torch.Generator().manual_seed(0)
        for conv in (self.conv1, self.conv2, self.conv3):
            pass_picture_(conv, generator)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return self.conv3(x)


def _conv(planes_in: int, planes_out: int, size: int, border: Border) -> nn.Conv2d:
    # A 1x1 kernel sees no border, and torch would export padding by nothing.
    return nn.Conv2d(planes_in, planes_out, size, padding=size // 2, padding_mode=border if size > 1 else "zeros")


@torch.no_grad()
def pass_picture_(
    conv: nn.Conv2d, generator: torch.Generator, planes: int = 1, copies: int = 1, value: float = 1.0
) -> None:
    """Sets untrained weights that let a picture through: random ones of unit gain, and biases of 0.

    The first planes * copies output planes are the first input planes, each `copies` times and times `value`, plus a
    tenth of what random weights give. So the output is a picture, in its range, on which every weight has a say.
    """
    weight, centre = conv.weight, conv.kernel_size[0] // 2
    weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
    for plane in range(planes * copies):
        weight[plane] *= 0.1
        weight[plane, plane // copies, centre, centre] += value
    if conv.bias is not None:
        conv.bias.zero_()

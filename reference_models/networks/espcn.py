"""The ESPCN network: float32 NCHW luma in [0, 1] → luma `scale` times as high and wide, not clipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference_models.networks.srcnn import pass_picture_

_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class Espcn(nn.Module):
    """Convolutions 5x5 (64), 3x3 (32) and 3x3 (scale²) with biases, tanh or ReLU after the first two; PixelShuffle.

    Input: (N, 1, H, W) float32 luma, any H, W >= 1. Output: (N, 1, scale * H, scale * W).
    Plane scale * i + j of the last convolution gives the pixels of row i and column j of every scale x scale square.

    The paper does not say what stands beyond the border (its sub-images are laid out for convolutions that lose it);
    zeros here, which keep the size. Much of what is called ESPCN has four layers or a sigmoid at the end: not this.

    Untrained weights (fixed seed): those of `pass_picture_`, white staying white.

    Source: section 2 of the paper, equations 2 to 4; section 3.2 for the sizes and the activation.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(self, scale: int = 3, activation: str = "tanh") -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(1, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        generator = torch.Generator().manual_seed(0)
        white = float(self.activation(self.activation(torch.ones((), device="cpu"))))
        pass_picture_(self.conv1, generator)
        pass_picture_(self.conv2, generator)
        pass_picture_(self.conv3, generator, copies=scale**2, value=1 / white)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.conv1(x))
        x = self.activation(self.conv2(x))
        return self.shuffle(self.conv3(x))

"""RED-Net: float32 NCHW planes in [0, 1] → the same size, restored, not clipped."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Deconvolution(nn.ConvTranspose2d):
    """3x3 deconvolution of stride 1 that keeps the size; weight (in, out, 3, 3), as torch and Caffe store it.

    At stride 1 it is the convolution with the kernel turned by 180 degrees and its first two axes exchanged, and is
    run as that. ONNX Runtime's ConvTranspose on the CPU would need nine copies of the input planes: 5 GB at 1080p.
    """

    def __init__(self, planes_in: int, planes_out: int) -> None:
        super().__init__(planes_in, planes_out, 3, padding=1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv2d(input, self.weight.flip(2, 3).transpose(0, 1), self.bias, padding=1)


class RedNet(nn.Module):
    """depth / 2 convolutions, then as many deconvolutions, 3x3 of `width` planes, stride 1, zero padding, biases.

    Input and output: (N, planes, H, W) float32 in [0, 1]; any H, W >= 1.

    - Skips: with n = depth / 2, the map behind convolution i is added to that behind deconvolution n - i, for
      i = 2, 4, … below n. The input (i = 0) is added to the last deconvolution, so that the network learns the
      corruption.
    - ReLU: after every convolution, and after every deconvolution but the last, before its skip is added. The paper
      rectifies once more after the sum; both summands are >= 0, so that changes nothing and is left out.
    - The last deconvolution has no ReLU: what is added to the picture may be negative. Nothing follows the sum.
    - Untrained: He's initialisation of fan-in and biases 0, from a fixed seed; the last layer's is divided by n, which
      keeps the output near the picture (skips add up, so planes grow about linearly with the number of skips).

    Source: the paper's architecture, in short: rectification after each convolution and deconvolution; skips every two
    layers from convolutional to mirrored deconvolutional feature maps, summed element-wise and passed on after
    rectification. The released test code (netforward.m) adds the input to what the Caffe network gives. Copies of the
    released Caffe definition (30 layers) have 128 planes, the paper 64.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(self, depth: int, planes: int = 1, width: int = 64) -> None:
        super().__init__()
        n = depth // 2
        self.convs = nn.ModuleList(nn.Conv2d(planes if i == 0 else width, width, 3, padding=1) for i in range(n))
        self.deconvs = nn.ModuleList(Deconvolution(width, planes if i == n - 1 else width) for i in range(n))
        generator = torch.Generator().manual_seed(0)
        for layer in (*self.convs, *self.deconvs):
            assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            assert layer.bias is not None
            gain = 1 / n if layer is self.deconvs[-1] else 1.0
            layer.weight.data.normal_(0, gain * (2 / (9 * layer.in_channels)) ** 0.5, generator=generator)
            layer.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        kept = [x]
        for i, conv in enumerate(self.convs, 1):
            x = F.relu(conv(x))
            if i % 2 == 0 and i < len(self.convs):
                kept.append(x)
        for i, deconv in enumerate(self.deconvs, 1):
            x = deconv(x)
            if i < len(self.deconvs):
                x = F.relu(x)
            if (len(self.deconvs) - i) % 2 == 0:
                x = x + kept.pop()
        return x

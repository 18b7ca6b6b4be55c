"""The baselines that the CAN paper compares with: float32 NCHW planes B, G, R in [0, 1] → the same, not clipped.

No code of them was published, so both follow the papers that the CAN paper names. Their sizes are kept by zeros around
each convolution; height and width must be multiples of their coarsest grid, to which pictures are padded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from reference_models.networks.can import conv2d


def _up_convolution(planes: int, width: int, kernel_size: int, stride: int, *, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution to `stride` times the size, its tensors not yet set."""
    return skip_init(
        nn.ConvTranspose2d, planes, width, kernel_size, stride=stride, padding=(kernel_size - stride) // 2, bias=bias,
        device=torch.get_default_device(),
    )  # fmt: skip


class _Twice(nn.Module):
    """Two 3x3 convolutions, each followed by ReLU."""

    def __init__(self, planes: int, width: int) -> None:
        super().__init__()
        self.conv0 = conv2d(planes, width, 3)
        self.conv1 = conv2d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv1(F.relu(self.conv0(x))))


class EncoderDecoder(nn.Module):
    """U-Net with half the kernels: 32 to 512 channels on five scales, up-convolutions 2x2, skips by concatenation.

    Input and output: (N, 3, H, W), H and W multiples of 16. U-Net's own convolutions are without padding and its output
    is smaller than its input; the CAN paper resizes the output to the input. Here zeros around every convolution keep
    the size, so that pixels stay in their places and nothing is left to resize. Its dropout acts in training alone.
    Untrained: normal of variance 2 / fan-in before ReLU (U-Net, section 3), 1 / fan-in elsewhere, biases 0, fixed seed.

    Source: section 4 of the CAN paper; Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, section 2 and figure 1,
    https://arxiv.org/abs/1505.04597.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**scale for scale in range(5)]
        self.encoder = nn.ModuleList(_Twice(a, b) for a, b in zip([3, *widths], widths, strict=False))
        downwards = widths[-2::-1]
        self.up = nn.ModuleList(_up_convolution(2 * w, w, 2, 2, bias=True) for w in downwards)
        self.decoder = nn.ModuleList(_Twice(2 * w, w) for w in downwards)
        self.last = conv2d(width, 3, 1)
        generator = torch.Generator().manual_seed(0)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                # Of the 2x2 taps of an up-convolution one meets an output pixel: its fan-in is its planes.
                taps = module.weight[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
                variance = (2 if "conv" in name else 1) / (module.in_channels * taps)
                _normal_(module, variance**0.5, generator)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for encode in self.encoder[:-1]:
            x = encode(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.encoder[-1](x)
        for up, decode, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = decode(torch.cat((skip, up(x)), 1))
        return self.last(x)


_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3x3 convolutions of each block; a 2x2 maximum follows each block. Source: Simonyan and Zisserman,
configuration D, https://arxiv.org/abs/1409.1556."""


class Fcn8s(nn.Module):
    """FCN-8s: VGG-16 made convolutional, scores of its strides 32, 16 and 8 summed and enlarged, three planes out.

    Input and output: (N, 3, H, W), H and W multiples of 32. The authors' code pads 100 pixels around the picture and
    crops afterwards; here the 7x7 layer is padded by 3 and the up-convolutions by what centres them, which gives the
    same grid for every size without the margin. Its dropout acts in training alone.
    Untrained: normal of variance 2 / fan-in before ReLU and 1 / fan-in for the scores (which its authors set to 0,
    starting from a trained VGG: the output would be constant), biases 0, fixed seed; up-convolutions bilinear.

    Args:
        divisor: of all hidden channels, for tests: 134 million parameters need half a gigabyte.

    Source: section 4 of the CAN paper, three planes in place of the classes; Shelhamer, Long, Darrell: Fully
    Convolutional Networks for Semantic Segmentation, section 4, https://arxiv.org/abs/1605.06211.
    """

    def __init__(self, divisor: int = 1) -> None:
        super().__init__()
        widths = [[width // divisor for width in block] for block in _VGG16]
        starts = [3, *(block[-1] for block in widths)]
        self.blocks = nn.ModuleList(
            nn.ModuleList(conv2d(a, b, 3) for a, b in zip([start, *block], block, strict=False))
            for start, block in zip(starts, widths, strict=False)
        )
        hidden = 4096 // divisor
        self.fc6 = conv2d(widths[4][-1], hidden, 7)
        self.fc7 = conv2d(hidden, hidden, 1)
        self.score_fr = conv2d(hidden, 3, 1)
        self.score_pool4 = conv2d(widths[3][-1], 3, 1)
        self.score_pool3 = conv2d(widths[2][-1], 3, 1)
        self.upscore2 = _up_convolution(3, 3, 4, 2, bias=False)
        self.upscore_pool4 = _up_convolution(3, 3, 4, 2, bias=False)
        self.upscore8 = _up_convolution(3, 3, 16, 8, bias=False)
        generator = torch.Generator().manual_seed(0)
        for name, module in self.named_modules():
            if isinstance(module, nn.ConvTranspose2d):
                _bilinear_(module.weight)
            elif isinstance(module, nn.Conv2d):
                fan_in = module.in_channels * module.weight[0, 0].numel()
                _normal_(module, ((1 if "score" in name else 2) / fan_in) ** 0.5, generator)

    def forward(self, x: Tensor) -> Tensor:
        pools = []
        for block in self.blocks:
            assert isinstance(block, nn.ModuleList)
            for conv in block:
                x = F.relu(conv(x))
            x = F.max_pool2d(x, 2)
            pools.append(x)
        x = self.score_fr(F.relu(self.fc7(F.relu(self.fc6(x)))))
        x = self.upscore2(x) + self.score_pool4(pools[3])
        x = self.upscore_pool4(x) + self.score_pool3(pools[2])
        return self.upscore8(x)


def _normal_(module: nn.Conv2d | nn.ConvTranspose2d, deviation: float, generator: torch.Generator) -> None:
    assert module.bias is not None
    nn.init.normal_(module.weight, 0, deviation, generator=generator)
    nn.init.zeros_(module.bias)


def _bilinear_(weight: Tensor) -> None:
    """Sets an up-convolution's (planes, planes, k, k) kernel to bilinear interpolation of every plane by itself.

    Source: the initialisation in section 4 of the FCN paper.
    """
    side = weight.shape[-1]
    centre = (side - 1) / 2
    taps = 1 - (torch.arange(side, dtype=torch.float32) - centre).abs() / (side / 2)
    nn.init.zeros_(weight)
    for plane in range(weight.shape[0]):
        weight.data[plane, plane] = torch.outer(taps, taps)

"""Pixel deconvolution: the layers PixelDCL, IPixelDCL and IPixelCL, and the plain deconvolution that they replace.

float32 NCHW in and out. Padding is TensorFlow's SAME; convolutions have no bias and no activation between them; the
activation, if any, comes last. "Parity" (p, q) is that of the output's row and column, (0, 0) the top left pixel.

Source: Gao, Yuan, Wang, Ji: Pixel Deconvolutional Networks, 2017, https://arxiv.org/abs/1705.06820; order
of the maps, mask and interleaving as in utils/pixel_dcn.py of https://github.com/HongyangGao/PixelDCN.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
KernelSize = int | tuple[int, int]


def pair(kernel_size: KernelSize) -> tuple[int, int]:
    """Rows and columns of a kernel."""
    return (kernel_size, kernel_size) if isinstance(kernel_size, int) else (kernel_size[0], kernel_size[1])


def same_padding(taps: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis under TensorFlow's SAME, its length being a multiple of the stride.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2.
    """
    total = max(taps - stride, 0)
    return total // 2, total - total // 2


def _conv(x: Tensor, weight: Tensor, rows: tuple[int, int], columns: tuple[int, int], stride: int = 1) -> Tensor:
    """Convolution with these zeros before and after each axis; negative numbers cut the map."""
    if rows[0] == rows[1] >= 0 and columns[0] == columns[1] >= 0:
        return F.conv2d(x, weight, stride=stride, padding=(rows[0], columns[0]))
    return F.conv2d(F.pad(x, (*columns, *rows)), weight, stride=stride)


class SameConv(nn.Conv2d):
    """Convolution without bias and with TensorFlow's SAME padding; stride 2 takes even H and W only."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: KernelSize, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, pair(kernel_size), stride=stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = (same_padding(taps, self.stride[0]) for taps in self.kernel_size)
        return _conv(input, self.weight, rows, columns, self.stride[0])


def interleave(top_left: Tensor, top_right: Tensor, bottom_left: Tensor, bottom_right: Tensor) -> Tensor:
    """Four (N, C, H, W) maps, of parities (0, 0), (0, 1), (1, 0), (1, 1) → (N, C, 2H, 2W).

    The exported graph orders the channels by Gather, as fast as a Reshape in ONNX Runtime, and holds no arithmetic on
    shapes: Concat, Gather, DepthToSpace. torch itself is faster with the other form.
    """
    maps = (top_left, top_right, bottom_left, bottom_right)
    if torch.compiler.is_exporting():
        channels = torch.arange(4 * top_left.shape[1], device=top_left.device).view(4, -1).t().flatten()
        return F.pixel_shuffle(torch.cat(maps, 1).index_select(1, channels), 2)
    return F.pixel_shuffle(torch.stack(maps, 2).flatten(1, 2), 2)


def is_open(row: int, column: int, rows: int) -> bool:
    """Whether PixelDCL's mask is 1 at this tap: odd in column-major order, the top left tap being number 0.

    A checkerboard for kernels with an odd number of rows; rows 1, 3, 5, … for an even number.

    Source: `get_mask` of the published code, which numbers the taps in Fortran order.
    """
    return (row + rows * column) % 2 == 1


def _every_second_tap(taps: int, parity_out: int, parity_in: int) -> tuple[int, int, int]:
    """First tap that reads entries of `parity_in` for output of `parity_out`, and zeros before and after the half-size
    axis on which the taps first, first + 2, … are a convolution of stride 1."""
    before, _ = same_padding(taps, 1)
    first = (parity_in - parity_out + before) % 2
    last = first + (taps - 1 - first) // 2 * 2
    lowest, highest = ((parity_out - parity_in + tap - before) // 2 for tap in (first, last))
    return first, -lowest, highest


class _Interleaving(nn.Module):
    """A layer that ends by interleaving its maps."""

    interleave: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = staticmethod(interleave)
    """Four maps to one; engines with a kernel of their own set it."""


class PixelDCL(_Interleaving):
    """Pixel deconvolutional layer: (N, in, H, W) → (N, out, 2H, 2W).

    a = conv0(x) goes to parity (0, 0), b = conv1(a) to (1, 1), zeros elsewhere; to this grid its convolution with the
    masked kernel of conv2 is added, everywhere. `conv2.weight` is stored unmasked.

    The grid is half empty and the mask is constant wherever a kernel meets one parity of it, so the masked convolution
    is done on a and b themselves, exactly: for a 3x3 kernel with 8 products of channels per input pixel instead of 36.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: KernelSize, activation: Activation | None = None
    ) -> None:
        super().__init__()
        self.conv0 = SameConv(in_channels, out_channels, kernel_size)
        self.conv1 = SameConv(out_channels, out_channels, kernel_size)
        self.conv2 = SameConv(out_channels, out_channels, kernel_size)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.from_first(self.conv0(x))

    def from_first(self, a: Tensor) -> Tensor:
        """The output that follows from conv0's map."""
        b = self.conv1(a)
        parities = ((0, 0), (0, 1), (1, 0), (1, 1))
        maps: dict[tuple[int, int], list[Tensor]] = {parity: self._masked(a, b, parity) for parity in parities}
        maps[0, 0].append(a)
        maps[1, 1].append(b)
        y = self.interleave(*(_sum(maps[parity], like=a) for parity in parities))
        return self.activation(y) if self.activation else y

    def _masked(self, a: Tensor, b: Tensor, parity: tuple[int, int]) -> list[Tensor]:
        """What the masked kernel makes of a and of b at one parity of the output; left out where that is 0."""
        rows, columns = self.conv2.kernel_size
        found = []
        for own, x in enumerate((a, b)):
            row, *row_zeros = _every_second_tap(rows, parity[0], own)
            column, *column_zeros = _every_second_tap(columns, parity[1], own)
            if row < rows and column < columns and is_open(row, column, rows):
                weight = self.conv2.weight[:, :, row::2, column::2]
                found.append(_conv(x, weight, (row_zeros[0], row_zeros[1]), (column_zeros[0], column_zeros[1])))
        return found


def _sum(maps: list[Tensor], like: Tensor) -> Tensor:
    if not maps:
        return torch.zeros_like(like)
    total = maps[0]
    for other in maps[1:]:
        total = total + other
    return total


class IPixelDCL(_Interleaving):
    """Input pixel deconvolutional layer: (N, in, H, W) → (N, out, 2H, 2W).

    a = conv1(x) at parity (0, 0), b = conv2([x, a]) at (1, 1); conv3([x, a, b]) has 2 * out channels, the first half
    for (1, 0), the second for (0, 1).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: KernelSize, activation: Activation | None = None
    ) -> None:
        super().__init__()
        self.conv1 = SameConv(in_channels, out_channels, kernel_size)
        self.conv2 = SameConv(in_channels + out_channels, out_channels, kernel_size)
        self.conv3 = SameConv(in_channels + 2 * out_channels, 2 * out_channels, kernel_size)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv1(x)
        seen = torch.cat((x, a), 1)
        b = self.conv2(seen)
        bottom_left, top_right = self.conv3(torch.cat((seen, b), 1)).chunk(2, 1)
        y = self.interleave(a, top_right, bottom_left, b)
        return self.activation(y) if self.activation else y


class IPixelCL(_Interleaving):
    """Input pixel convolutional layer: (N, in, H, W) → (N, out, H, W), H and W even.

    Four convolutions of stride 2, each of the input alone: conv1 at parity (0, 0), conv2 at (1, 1), conv4 at (1, 0),
    conv5 at (0, 1). The published code has no conv3, and feeds the earlier maps to none of the later convolutions.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: KernelSize, activation: Activation | None = None
    ) -> None:
        super().__init__()
        self.conv1 = SameConv(in_channels, out_channels, kernel_size, stride=2)
        self.conv2 = SameConv(in_channels, out_channels, kernel_size, stride=2)
        self.conv4 = SameConv(in_channels, out_channels, kernel_size, stride=2)
        self.conv5 = SameConv(in_channels, out_channels, kernel_size, stride=2)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.interleave(self.conv1(x), self.conv5(x), self.conv4(x), self.conv2(x))
        return self.activation(y) if self.activation else y


class Deconvolution(nn.ConvTranspose2d):
    """What the pixel layers replace, conv2d_transpose of stride 2 under SAME: (N, in, H, W) → (N, out, 2H, 2W).

    `weight` is (in, out, kh, kw); kernels of at least 2x2. The output is cut where SAME pads the convolution whose
    transpose this is: for 3x3, the last row and column.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: KernelSize, activation: Activation | None = None
    ) -> None:
        kernel = pair(kernel_size)
        before = (same_padding(kernel[0], 2)[0], same_padding(kernel[1], 2)[0])
        super().__init__(in_channels, out_channels, kernel, stride=2, padding=before, bias=False)
        self.activation = activation

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        y = super().forward(input)
        if self.kernel_size[0] % 2:
            y = y[:, :, :-1]
        if self.kernel_size[1] % 2:
            y = y[:, :, :, :-1]
        return self.activation(y) if self.activation else y


class ResizedIPixelCL(IPixelCL):
    """IPixelCL behind an enlargement by repeating pixels: (N, in, H, W) → (N, out, 2H, 2W).

    Ours: the published code uses IPixelCL in place of the convolution that follows an up-sampling layer, never as one.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


UPSAMPLING: dict[str, type[nn.Module]] = {
    "deconvolution": Deconvolution,
    "pixel_dcl": PixelDCL,
    "ipixel_dcl": IPixelDCL,
    "ipixel_cl": ResizedIPixelCL,
}
"""Layers that double the size, by the word of the option `upsampling`."""

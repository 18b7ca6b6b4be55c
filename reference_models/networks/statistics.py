"""Where a network's normalisation statistics come from: its own picture, a calibration set, or a thumbnail.

`image` is the network as published. `frozen` and `thumbnail` fold given statistics into the convolutions, which is
exact for those statistics; what they lose is that the statistics are not the picture's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

THUMBNAIL_SCALE = 4
"""`thumbnail` reduces the picture by this factor on each side, by area."""


@runtime_checkable
class Foldable(Protocol):
    """What a network with picture statistics offers besides forward()."""

    def statistics(self, x: Tensor) -> Tensor:
        """(N, C, H, W) pictures → (N, layers, 2, width): mean and variance seen by every normalisation."""

    def affines(self, statistics: Tensor) -> Tensor:
        """(N, layers, 2, width) statistics → scale and offset of every normalisation, same shape."""

    def folded(self) -> nn.Module:
        """The network without normalisation; its `refit_rule` names what scale and offset are folded into."""


class ThumbnailAffines(nn.Module):
    """(1, C, H, W) picture → (layers, 2, width): scale and offset from the statistics of its thumbnail."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        model = cast(Foldable, self.model)
        return model.affines(model.statistics(thumbnail(x)))[0]


def thumbnail(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, ceil(H / 4), ceil(W / 4)): the mean over squares of THUMBNAIL_SCALE pixels; squares cut by
    the border average what is there. Equal to avg_pool2d with ceil_mode.

    A dense convolution with as many steps: for pooling OpenVINO pads three planes to sixteen first, which on the whole
    picture took as long as all of the thumbnail's own convolutions.
    """
    scale, planes = THUMBNAIL_SCALE, x.shape[1]
    height, width = x.shape[2:]
    # A constant square of ones for each plane; built here, so that states hold the network's tensors alone.
    square = torch.eye(planes, dtype=x.dtype, device=x.device)[:, :, None, None].expand(-1, -1, scale, scale)
    padded = F.pad(x, (0, -width % scale, 0, -height % scale))
    sums = F.conv2d(padded, square, stride=scale)
    rows, columns = (_counts(side, scale, x) for side in (height, width))
    return sums / (rows[:, None] * columns)


def _counts(side: int, scale: int, like: Tensor) -> Tensor:
    """How many of `scale` neighbouring pixels there are, for each step along a side."""
    starts = torch.arange(0, side, scale, device=like.device)
    return (side - starts).clamp(max=scale).to(like.dtype)


def calibrated_affines(model: nn.Module, pictures: Iterable[Tensor]) -> Tensor:
    """(layers, 2, width): scale and offset for the average statistics of a calibration set.

    Args:
        model: a Foldable network.
        pictures: (1, C, H, W) float32 tensors, one after the other; sizes may differ, every picture counts the same.
    """
    foldable = cast(Foldable, model)
    with torch.inference_mode():
        found = [foldable.statistics(picture).double() for picture in pictures]
        return foldable.affines(torch.stack(found).mean(0).float())[0]


def fold_(folded: nn.Module, affines: Tensor) -> nn.Module:
    """Folds (layers, 2, width) scales and offsets into a network just made by `folded()`, in place; returns it."""
    tensors = dict(folded.named_parameters())
    with torch.no_grad():
        for (weight, bias), (scale, offset) in zip(folded.refit_rule, affines, strict=True):  # type: ignore[arg-type]
            tensors[weight].mul_(scale.view(-1, 1, 1, 1))
            tensors[bias].copy_(offset)
    return folded.eval()

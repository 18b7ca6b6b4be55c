"""Losses of the papers, as far as nothing pretrained is needed (adversarial.py has the rest): output and target planes
→ a scalar.

Where the target is NaN nothing is judged: what lies there depends on pixels that the crop does not show.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reference_models.training.labelled import VOID
from reference_models.training.pairs import UNKNOWN

LEAST_MSE = 1e-5
SCENE_SHARE = 1 / 300
"""Of the classification beside the colours: alpha of the loss that section 3.3 of "Let there be Color!" defines."""


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error: CAN (equation 1), SRCNN (4), ESPCN (5), VDSR, RED-Net, SRResNet; colours of colorization."""
    error, count = _judged(output, target)
    return error.square().sum() / count


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error: of no paper here, but it follows the median, which keeps edges sharper."""
    error, count = _judged(output, target)
    return error.abs().sum() / count


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Minus the mean of the crops' PSNR in dB, what tables of super-resolution show: of no paper here. Against `mse`, a
    crop that nothing can do much about no longer outweighs all others.

    Crops above 50 dB count little: an empty sky would otherwise have the largest gradient.
    """
    known = ~target.isnan()
    squared = torch.where(known, output - target, 0.0).square().flatten(1).sum(1)
    count = known.flatten(1).sum(1).clamp(min=1)
    return torch.log(squared / count + LEAST_MSE).mean() * (10 / math.log(10))


def _judged(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The error where it counts, 0 elsewhere, and the number of values that count."""
    known = ~target.isnan()
    return torch.where(known, output - target, 0.0), known.sum().clamp(min=1)


def with_scenes(colours: Tensor, scores: Tensor, target: Tensor, scenes: Tensor) -> Tensor:
    """Squared error of the colours, and a 300th of the cross-entropy of the scenes: "Let there be Color!", section 3.3.

    The paper writes the sum over the planes; here it is the mean, as in its framework's criterion, so that the share
    means the same for every crop.

    Args:
        scores: (N, classes), before softmax.
        scenes: (N,) int64, UNKNOWN where nobody named it: then colours alone count.
    """
    named = (scenes != UNKNOWN).sum().clamp(min=1)
    wrong = F.cross_entropy(scores, scenes, ignore_index=UNKNOWN, reduction="sum") / named
    return mse(colours, target) + SCENE_SHARE * wrong


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the classes, the mean over the pixels whose class is known.

    Source: PixelDCN's published code, network.py (softmax cross-entropy over all pixels).

    Args:
        scores: (N, classes, H, W), before softmax.
        target: (N, 1, H, W) float32, numbers of classes.
    """
    numbers = target[:, 0].nan_to_num(VOID).long()
    known = (numbers != VOID).sum().clamp(min=1)
    return F.cross_entropy(scores, numbers, ignore_index=VOID, reduction="sum") / known


LOSSES = {"mse": mse, "l1": l1, "psnr": psnr, "cross-entropy": cross_entropy}

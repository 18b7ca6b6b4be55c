"""Losses of the papers, as far as nothing pretrained is needed: output and target planes → a scalar."""

from __future__ import annotations

import torch
from torch import Tensor


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error: CAN (equation 1), SRCNN (4), ESPCN (5), VDSR, RED-Net, SRResNet; colours of colorization."""
    return torch.nn.functional.mse_loss(output, target)


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error: of no paper here, but it follows the median, which keeps edges sharper."""
    return torch.nn.functional.l1_loss(output, target)


LOSSES = {"mse": mse, "l1": l1}

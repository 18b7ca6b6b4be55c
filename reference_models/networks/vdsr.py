"""The VDSR network: float32 NCHW luma in [0, 1], already enlarged → the same size, refined, not clipped.

And the tensors of its published re-implementation → our names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.errors import UserError
from reference_models.weights import mismatch

if TYPE_CHECKING:
    import numpy as np


class Vdsr(nn.Module):
    """3x3 convolutions with ReLU between them, zeros beyond the border; the input is added to what the last one gives.

    Input and output: (N, 1, H, W) float32 luma, any H, W >= 1.

    No biases: the published weights, of a re-implementation, have none, and so load exactly. The authors' own
    MatConvNet model has one per filter (1,217 more parameters); weights of that kind do not fit.

    Untrained weights: He's initialisation, as the paper says (fixed seed).

    Source: section 3.1 of the paper; section 4.2 for the initialisation.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(self, depth: int = 20, width: int = 64) -> None:
        super().__init__()
        planes = [1, *[width] * (depth - 1), 1]
        self.convs = nn.ModuleList(nn.Conv2d(planes[i], planes[i + 1], 3, padding=1, bias=False) for i in range(depth))
        generator = torch.Generator().manual_seed(0)
        for weight in (conv.weight for conv in self.convs):
            assert isinstance(weight, Tensor)
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        missing = x
        for conv in list(self.convs)[:-1]:
            missing = F.relu(conv(missing))
        return x + self.convs[-1](missing)


def state_from_released(tensors: Mapping[str, np.ndarray], depth: int, width: int) -> dict[str, np.ndarray]:
    """Our name → float32 array (OIHW), from the state dict of https://github.com/twtygqyy/pytorch-vdsr.

    Args:
        tensors: `input.weight`, `residual_layer.0.conv.weight` and so on, `output.weight`.
        depth: convolutions, the first and the last included.
        width: channels between them.

    Raises:
        UserError: tensors are missing, misshapen, not float, not finite, or belong to no layer; all are named.
    """
    import numpy as np

    names = ["input.weight", *(f"residual_layer.{i}.conv.weight" for i in range(depth - 2)), "output.weight"]
    planes = [1, *[width] * (depth - 1), 1]
    problem = mismatch(tensors, {name: (planes[i + 1], planes[i], 3, 3) for i, name in enumerate(names)})
    if problem:
        raise UserError(
            problem,
            f"the {depth} tensors of a VDSR of {depth} layers of {width} channels, as released for PyTorch",
            "Check that this file belongs to the model asked for",
        )
    return {f"convs.{i}.weight": np.array(tensors[name], np.float32, order="C") for i, name in enumerate(names)}

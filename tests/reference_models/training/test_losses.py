"""Losses: their values on planes that one can reckon by hand."""

from __future__ import annotations

import math

import pytest
import torch

from reference_models.training.losses import LOSSES, SCENE_SHARE, mse, with_scenes
from reference_models.training.pairs import UNKNOWN


def test_losses_by_hand() -> None:
    output, target = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 2.0, 7.0])
    assert float(LOSSES["mse"](output, target)) == 4
    assert float(LOSSES["l1"](output, target)) == 1


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cross-entropy"])
def test_what_is_not_known_is_not_judged(name: str) -> None:
    output = torch.tensor([[1.0, 5.0]], requires_grad=True)
    loss = LOSSES[name](output, torch.tensor([[0.0, torch.nan]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(LOSSES[name](output.detach()[:, :1], torch.zeros(1, 1)))
    assert output.grad is not None
    assert (output.grad != 0).tolist() == [[True, False]]


def test_psnr_is_the_mean_of_the_crops_own() -> None:
    output = torch.zeros(2, 1, 4, 4)
    target = torch.stack([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.01)])
    assert float(LOSSES["psnr"](output, target)) == pytest.approx(-(20 + 40) / 2, abs=0.3)


def test_cross_entropy_is_the_mean_over_the_known_pixels() -> None:
    """Two pixels of three known: -log of a probability of 1/2, and of 1/4."""
    scores = torch.tensor([[[[0.0, 0.0, 9.0]], [[0.0, math.log(3), 0.0]]]], requires_grad=True)
    loss = LOSSES["cross-entropy"](scores, torch.tensor([[[[1.0, 0.0, torch.nan]]]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert scores.grad is not None
    assert (scores.grad[0, :, 0, 2] == 0).all()


def test_scenes_weigh_a_300th_and_unnamed_ones_nothing() -> None:
    colours, target = torch.zeros(2, 2, 4, 4), torch.full((2, 2, 4, 4), 0.5)
    scores = torch.tensor([[2.0, 0.0, 0.0], [5.0, 1.0, 3.0]], requires_grad=True)
    loss = with_scenes(colours, scores, target, torch.tensor([0, UNKNOWN]))
    assert float(loss.detach()) == pytest.approx(0.25 + math.log(1 + 2 * math.exp(-2)) / 300)
    loss.backward()
    assert scores.grad is not None
    assert (scores.grad != 0).any(1).tolist() == [True, False]
    unnamed = with_scenes(colours, scores, target, torch.tensor([UNKNOWN, UNKNOWN]))
    assert float(unnamed.detach()) == float(mse(colours, target))
    assert pytest.approx(1 / 300) == SCENE_SHARE

"""Losses: their values on planes that one can reckon by hand."""

from __future__ import annotations

import pytest
import torch

from reference_models.training.losses import LOSSES


def test_losses_by_hand() -> None:
    output, target = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 2.0, 7.0])
    assert float(LOSSES["mse"](output, target)) == 4
    assert float(LOSSES["l1"](output, target)) == 1


@pytest.mark.parametrize("name", LOSSES)
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

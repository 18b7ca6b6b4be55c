"""Forms to train in compute what the network computes, forth and back."""

from __future__ import annotations

import pytest
import torch

from reference_models import get, module_from_factory
from reference_models.networks.can import Can
from reference_models.training.forms import training_form


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("normalisation", ["adaptive", "batch"])
def test_can_trains_on_each_pictures_own_statistics(normalisation: str) -> None:
    model = randomised(Can(6, (1, 2, 4, 1), normalisation=normalisation))  # type: ignore[arg-type]
    x = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    x[1] *= 0.2
    wanted = model(x)
    wanted.square().mean().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    found = training_form(model)(x)
    found.square().mean().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def test_other_networks_train_as_they_are() -> None:
    spec = get("espcn_x3")
    model = module_from_factory(spec.factory, spec.options)
    assert training_form(model) is model

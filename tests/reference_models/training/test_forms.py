"""Forms to train in compute what the network computes, forth and back."""

from __future__ import annotations

import pytest
import torch

from reference_models import get, module_from_factory
from reference_models.networks.can import Can
from reference_models.training import forms
from reference_models.training.fake_quantisation import pretend_int8_
from reference_models.training.forms import training_form


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("normalisation", ["adaptive", "batch"])
@pytest.mark.parametrize(
    ("sides", "dilations", "split"),
    [((20, 24), (1, 2, 4, 1), []), ((24, 32), (1, 2, 4, 1), [2, 2]), ((40, 48), (1, 4, 16, 32, 2, 3, 1), [4, 2])],
    ids=str,
)
def test_can_trains_on_each_pictures_own_statistics(
    normalisation: str,
    sides: tuple[int, int],
    dilations: tuple[int, ...],
    split: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`split`: into how many phases rows and columns are, one layer after the other. Of 40 rows 16 phases cannot be."""
    factors: list[int] = []
    real = forms._split
    monkeypatch.setattr(forms, "_split", lambda x, factor: (factors.append(factor), real(x, factor))[1])
    model = randomised(Can(6, dilations, normalisation=normalisation))  # type: ignore[arg-type]
    x = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(1))
    x = torch.cat((x, 0.2 * x.flip(3)))
    wanted = model(x)
    wanted.square().mean().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    found = training_form(model)(x)
    assert factors == split * 2  # two pictures
    found.square().mean().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "planes", "dilations"), [(12, 3, (1, 2, 4)), (24, 3, (1, 2, 4, 1)), (20, 20, (2, 4))]
)
def test_with_autocast_can_computes_and_learns_nearly_the_same(
    width: int, planes: int, dilations: tuple[int, ...]
) -> None:
    """In bfloat16, whose step is 2^-8. Unpadded, PyTorch 2.13 dies of widths of 20 and 24; of 20 planes comes NaN."""
    model = randomised(Can(width, dilations, planes))
    x = torch.rand(1, planes, 40, 44, generator=torch.Generator().manual_seed(1))
    wanted = model(x)
    (wanted * x[:, :3]).mean().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        found = training_form(model)(x)
    (found * x[:, :3]).mean().backward()
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert (parameter.grad - gradient).norm() <= 0.1 * gradient.norm()


def test_layers_that_pretend_to_be_int8_do_so_in_phases_too() -> None:
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain, pretending = (randomised(Can(6, (1, 2, 4, 1))) for _ in range(2))
    pretend_int8_(pretending)
    wanted = pretending(x)  # sees the ranges
    pretending.eval()
    torch.testing.assert_close(training_form(pretending)(x), wanted, rtol=1e-4, atol=1e-5)
    assert (training_form(plain)(x) - wanted).abs().max() > 1e-3
    assert [conv.dilation for conv in pretending.convs] == [(1, 1), (2, 2), (4, 4), (1, 1)]


def test_other_networks_train_as_they_are() -> None:
    spec = get("espcn_x3")
    model = module_from_factory(spec.factory, spec.options)
    assert training_form(model) is model

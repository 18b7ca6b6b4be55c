"""SRGAN's losses by hand: what VGG and discriminator are shown, and who learns from whom."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from reference_models import get
from reference_models.networks.srgan import VggContentLoss, _vgg
from reference_models.training.adversarial import Pictures, losses
from reference_models.training.loop import Lesson, Settings, start, train_to


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> VggContentLoss:
    monkeypatch.setattr(VggContentLoss, "STAGES", ((4, 2), (4, 2), (4, 4), (4, 4), (4, 4)))
    torch.manual_seed(0)
    return VggContentLoss({f"features.{n}": t for n, t in _vgg(VggContentLoss.STAGES).state_dict().items()})


def test_pictures_are_brought_to_the_range_and_the_order_of_vgg() -> None:
    output = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    target = torch.tensor([1.0, torch.nan, 0.0]).view(1, 3, 1, 1)
    made, wanted = Pictures(replace(get("can32"), output="rgb", output_range=(0.0, 1.0)))(output, target)
    assert made.flatten().tolist() == [-1, 0, 1]
    assert wanted.flatten().tolist() == [1, 0, -1]
    made, wanted = Pictures(replace(get("can32"), output="bgr", output_range=(-1.0, 1.0)))(output, target)
    assert made.flatten().tolist() == [1, 0, 0]
    assert wanted.flatten().tolist() == [0, 0, 1]


def test_the_generator_pays_for_what_is_seen_through(content: VggContentLoss) -> None:
    loss, critic = losses("adversarial", get("srgan_x4"), content, 16, 1e-3)
    plain, nobody = losses("perceptual", get("srgan_x4"), content, 16, 1e-3)
    assert critic is not None
    assert nobody is None
    made, target = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    logits = critic.module.logits(made)  # type: ignore[operator]
    torch.testing.assert_close(loss(made, target), plain(made, target) + 1e-3 * F.softplus(-logits).mean())
    real = critic.module.logits(target)  # type: ignore[operator]
    expected = 0.5 * (F.softplus(-real).mean() + F.softplus(logits).mean())
    torch.testing.assert_close(critic.loss_of(made, target), expected)


def test_the_discriminator_learns_and_the_generators_loss_does_not_move_it(content: VggContentLoss) -> None:
    """Real pictures are noise, made ones are flat: told apart after some steps."""
    loss, critic = losses("adversarial", get("srgan_x4"), content, 16, 1e-3)
    assert critic is not None
    generator = torch.nn.Conv2d(3, 3, 1)
    state = start(generator, Settings(steps=100, rate=1e-4))
    state.critic = critic

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1
        return noise[..., :1, :1].expand_as(noise), noise

    train_to(state, 30, Settings(steps=100, rate=1e-3), Lesson(batch, loss))
    assert len(critic.losses) == len(state.losses) == 30
    assert max(critic.losses[-5:]) < 0.3 < critic.losses[0]
    x, target = batch(99)
    state.optimiser.zero_grad()
    critic.optimiser.zero_grad()
    loss(generator(x), target).backward()
    assert all(parameter.grad is None for parameter in critic.module.parameters())
    assert generator.weight.grad is not None
    assert float(generator.weight.grad.abs().max()) > 0
    # Without the content's share there is still something to learn: what the discriminator says.
    state.optimiser.zero_grad()
    (
        loss(generator(x), target) - losses("perceptual", get("srgan_x4"), content, 16, 1e-3)[0](generator(x), target)
    ).backward()
    assert float(generator.weight.grad.abs().max()) > 1e-7

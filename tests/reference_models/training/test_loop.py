"""The loop: it learns, its rate, its average, its clock, and what happens when it diverges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reference_models.training.loop import LAST_SHARE, WARM_UP, Lesson, Settings, State, rate_at, start, train_to
from reference_models.training.losses import mse

WANTED = torch.tensor([[2.0, -1.0]])


def batch(step: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(16, 2, generator=torch.Generator().manual_seed(step))
    return x, x @ WANTED.T


def begun(settings: Settings) -> State:
    torch.manual_seed(0)
    return start(torch.nn.Linear(2, 1), settings)


def test_it_learns_and_its_average_too() -> None:
    settings = Settings(steps=400, rate=0.05)
    state = begun(settings)
    loss = train_to(state, 400, settings, Lesson(batch, mse))
    assert loss < state.losses[0] / 2
    assert state.losses[-1] < 1e-2 * state.losses[0]
    for model in (state.model, state.average):
        torch.testing.assert_close(model.weight.data, WANTED, atol=0.2, rtol=0)  # type: ignore[union-attr]


def test_two_halves_make_the_whole() -> None:
    settings = Settings(steps=60, rate=0.05)
    whole, halves = begun(settings), begun(settings)
    train_to(whole, 60, settings, Lesson(batch, mse))
    train_to(halves, 31, settings, Lesson(batch, mse))
    train_to(halves, 60, settings, Lesson(batch, mse))
    assert whole.losses == halves.losses
    assert halves.step == 60


def test_the_rate_rises_and_falls_along_half_a_cosine() -> None:
    settings = Settings(steps=1000, rate=0.1)
    rates = [rate_at(step, settings) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1 / WARM_UP)
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert rates[500] == pytest.approx(0.1 * (LAST_SHARE + (1 - LAST_SHARE) / 2))
    assert rates[-1] == pytest.approx(0.1 * LAST_SHARE, rel=0.01)
    assert all(a > b for a, b in zip(rates[WARM_UP:], rates[WARM_UP + 1 :], strict=False))


def test_dropout_draws_the_same_numbers_after_a_break() -> None:
    settings = Settings(steps=20, rate=0.05)

    def run(breaks: list[int]) -> list[float]:
        torch.manual_seed(0)
        state = start(
            torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)), settings
        )
        for until in breaks:
            torch.rand(until)  # what else may draw in between
            train_to(state, until, settings, Lesson(batch, mse))
        return state.losses

    assert run([20]) == run([7, 20])


def test_seconds_are_those_of_the_clock() -> None:
    ticks = iter([10.0, 12.5])
    state = begun(Settings(steps=2))
    train_to(state, 2, Settings(steps=2), Lesson(batch, mse), clock=lambda: next(ticks))
    assert state.seconds == 2.5


def test_clipping_bounds_what_a_step_sees() -> None:
    settings = Settings(steps=1, clip=0.5)
    state = begun(settings)
    train_to(state, 1, settings, Lesson(lambda step: (torch.full((4, 2), 100.0), torch.zeros(4, 1)), mse))
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in state.model.parameters() if p.grad is not None))
    assert norm == pytest.approx(0.5, rel=1e-3)


def test_autocast_computes_in_bfloat16_and_keeps_float32() -> None:
    settings = Settings(steps=1, autocast=True)
    state, seen = begun(settings), []

    def forward(x: Tensor) -> Tensor:
        y: Tensor = state.model(x)
        seen.append(y.dtype)
        return y

    train_to(state, 1, settings, Lesson(batch, mse, forward))
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    state = begun(Settings(steps=3))
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        train_to(
            state, 3, Settings(steps=3), Lesson(lambda step: (torch.full((1, 2), math.nan), torch.zeros(1, 1)), mse)
        )

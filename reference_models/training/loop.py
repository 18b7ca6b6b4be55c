"""The training loop, as plain functions: a module, a function from step to batch, and settings → trained tensors.

It knows no tasks, no files and no pictures, so that anything can be trained with it, such as a network whose layers
pretend to be int8, or two networks against each other.
"""

from __future__ import annotations

import contextlib
import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
"""What goes in, then what the loss compares with: the target, and what else there is, such as labels."""
WARM_UP = 50
"""Steps over which the rate rises from nothing."""
LAST_SHARE = 0.01
"""Of the rate, that its half cosine ends with."""
EMA_DECAY = 0.998
"""Of the moving average of weights; lower in the first steps, so that it forgets how the network began."""


@dataclass(frozen=True)
class Settings:
    """How one run trains. The same settings, batches and machine give the same weights."""

    steps: int
    rate: float = 1e-3
    """Adam's highest; it rises over WARM_UP steps and falls along half a cosine."""
    autocast: bool = False
    """Convolutions in bfloat16; weights, their updates and the loss stay float32."""
    clip: float = 0.0
    """Largest norm of all gradients of the network together; 0: not clipped. A critic's are not."""
    seed: int = 0


@dataclass
class Critic:
    """A second network, which learns to judge what the first one makes: a discriminator."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    loss_of: Callable[[Tensor, Tensor], Tensor]
    """What the first network made, without gradients, and the target → a scalar."""
    losses: list[float] = field(default_factory=list)
    """Of every step."""


@dataclass
class State:
    """All that a run needs to go on: `step` steps are done."""

    model: nn.Module
    average: nn.Module
    """The moving average of its weights: what is judged and kept."""
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Of every step."""
    figures: list[tuple[int, float]] = field(default_factory=list)
    """Steps done, and what was reached on the validation pictures then: PSNR in dB, or mean IoU in percent."""
    critic: Critic | None = None
    whole: bool = True
    """No step has been left in the middle, such as by an error: what it holds can be gone on with."""


@dataclass(frozen=True)
class Lesson:
    """What is learned."""

    batch_of: Callable[[int], Batch]
    """From the step to the batch; a pure function of the step, so that a run can go on."""
    loss_of: Callable[..., Tensor]
    """Outputs, then all of the batch but what went in → a scalar."""
    forward: Callable[[Tensor], Tensor | tuple[Tensor, ...]] | None = None
    """What computes the model, where that is not the model itself (forms.py); it may have several outputs."""


def start(model: nn.Module, settings: Settings) -> State:
    """A run that has not begun."""
    optimiser = torch.optim.Adam(model.parameters(), settings.rate, foreach=True)
    return State(model, copy.deepcopy(model).requires_grad_(False), optimiser)


def rate_at(step: int, settings: Settings) -> float:
    """Adam's rate of step `step`, from 0."""
    rising = min(1.0, (step + 1) / WARM_UP)
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return settings.rate * rising * (LAST_SHARE + (1 - LAST_SHARE) * falling)


def train_to(
    state: State, until: int, settings: Settings, lesson: Lesson, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Trains in place until `until` steps are done; returns the mean loss of the steps made.

    Raises:
        FloatingPointError: the loss is not a number: the rate is too high.
    """
    begun, first = clock(), len(state.losses)
    state.model.train()
    try:
        while state.step < until:
            with _undivided():
                state.whole = False
                state.losses.append(_step(state, settings, lesson))
                state.step += 1
                state.whole = True
    finally:
        state.seconds += clock() - begun
    made = state.losses[first:]
    return sum(made) / len(made) if made else math.nan


@contextlib.contextmanager
def _undivided() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of a step: half a step cannot be gone on with."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    asked: list[int] = []
    for number, handler in handlers.items():
        if callable(handler):  # else the signal is ignored, or ends the process at once
            signal.signal(number, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if asked and callable(first := handlers[signal.Signals(asked[0])]):
        first(asked[0], None)


def _step(state: State, settings: Settings, lesson: Lesson) -> float:
    torch.manual_seed(settings.seed * 1_000_003 + state.step)  # for dropout; nothing of it has to be stored
    rate = rate_at(state.step, settings)
    x, *expected = lesson.batch_of(state.step)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=settings.autocast):
        made = (lesson.forward or state.model)(x)
    outputs = [output.float() for output in (made if isinstance(made, tuple) else (made,))]
    if state.critic is not None:
        _judge_(state.critic, state.step, rate, outputs[0].detach(), expected[0])
    loss = lesson.loss_of(*outputs, *expected)
    found = _number(loss, "the loss", state.step)
    _update_(state.optimiser, rate, loss, settings.clip)
    _average_(state)
    return found


def _judge_(critic: Critic, step: int, rate: float, made: Tensor, target: Tensor) -> None:
    """One step of the critic; after it, its weights take no gradients until the next one."""
    critic.module.requires_grad_(True)
    loss = critic.loss_of(made, target)
    critic.losses.append(_number(loss, "the discriminator's loss", step))
    _update_(critic.optimiser, rate, loss, 0.0)
    critic.module.requires_grad_(False)


def _number(loss: Tensor, name: str, step: int) -> float:
    found = float(loss.detach())
    if not math.isfinite(found):
        raise FloatingPointError(f"{name} is {found} at step {step}")
    return found


def _update_(optimiser: torch.optim.Optimizer, rate: float, loss: Tensor, clip: float) -> None:
    optimiser.zero_grad()
    loss.backward()
    for group in optimiser.param_groups:
        group["lr"] = rate
    if clip:
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
    optimiser.step()


@torch.no_grad()
def _average_(state: State) -> None:
    decay = min(EMA_DECAY, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(list(state.average.parameters()), list(state.model.parameters()), 1 - decay)
    for (name, mean), buffer in zip(state.average.named_buffers(), state.model.buffers(), strict=True):
        if name.endswith(("running_mean", "running_var")):
            mean.lerp_(buffer, 1 - decay)  # they belong to the weights
        else:
            mean.copy_(buffer)

"""One training run: network, task and pictures → weights, their card, and a checkpoint to go on from."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reference_models import model_from_spec
from reference_models.cards import Card, Figure, read_card, write_card
from reference_models.networks.colorization import Colorization
from reference_models.pictures import Picture
from reference_models.training import adversarial, checkpoints, judging, loop
from reference_models.training.beginnings import pass_through_, passes_through
from reference_models.training.crops import Batches, Plan, least_side
from reference_models.training.fake_quantisation import plain_state, pretend_int8_
from reference_models.training.forms import training_form
from reference_models.training.labelled import classes_in_words
from reference_models.training.losses import LOSSES, with_scenes
from reference_models.training.request import Request, check
from reference_models.training.sources import GENERATED, Pictures, pictures_of
from reference_models.weights import resolve_weights, weights_sha256
from reference_models.weights_file import save_weights

CHUNK, CHUNK_S = 25, 5.0
"""Steps, and seconds, between two looks at the clock and lines of progress, whichever is less."""
CHECKPOINT_S = 60.0


@dataclass
class Progress:
    """What a run says of itself while it goes on."""

    step: int
    steps: int
    loss: float
    critic_loss: float | None
    """Of the discriminator, where there is one: 0.69 where it cannot tell."""
    seconds: float
    reached: float | None
    """PSNR in dB, or mean IoU in percent, on the validation pictures, the last time that it was measured."""
    left_out: int
    """Pictures that could not be used so far."""


Report = Callable[[Progress], None]


@dataclass
class Outcome:
    """A finished run."""

    card: Card
    losses: list[float]
    figures: list[tuple[int, float]]
    left_out: dict[str, str] = field(default_factory=dict)


def checkpoint_path(output: Path) -> Path:
    return output.with_suffix(".checkpoint")


def train(request: Request, report: Report = lambda progress: None) -> Outcome:
    """Trains, and writes weights and card at the end; the checkpoint every minute, after each validation, and when it
    is interrupted.

    Raises:
        UserError: a network that cannot learn the task, no usable picture, or a checkpoint of another run.
        FloatingPointError: the loss is not a number.
    """
    check(request)
    run = _begun(request)
    try:
        if request.resume and run.state.losses:
            run.report_to(report, run.state.losses[-1])
        run.to_the_end(report)
    finally:
        run.close()
    card = run.card()
    save_weights(request.output, request.spec, plain_state(run.state.average))
    card = replace(card, sha256=weights_sha256(request.output))
    write_card(request.output, card)
    return Outcome(card, run.state.losses, run.state.figures, run.pictures.broken)


def _begun(request: Request) -> _Run:
    """The run at its first step, or where its checkpoint left it."""
    pictures = pictures_of_request(request)
    plan = Plan(
        task=request.task,
        spec=request.spec,
        pictures=pictures,
        seed=request.settings.seed,
        batch=request.batch,
        crop_px=request.crop_px,
        generated=request.generated,
        targets=request.targets,
    )
    model = model_from_spec(request.spec, request.weights)
    if request.weights is None:
        pass_through_(model, request.settings.seed)
    if request.precision == "int8":
        pretend_int8_(model)
    model.to(request.device)
    batches = Batches(plan)
    ahead = _Ahead(batches.batch, request.settings.steps) if request.device != "cpu" else None
    batch_of: Callable[[int], tuple[Any, ...]] = ahead or batches.batch
    lesson, critic = _lesson(request, model, batch_of)
    state = loop.start(model, request.settings)
    state.critic = critic
    run = _Run(
        request=request,
        pictures=pictures,
        batches=batches,
        lesson=lesson,
        state=state,
        ahead=ahead,
        tests=_trials(request, request.validation),
    )
    if request.resume:
        path = checkpoint_path(request.output)
        checkpoints.read_checkpoint(path, run.state, made_with(request), request.settings.steps)
    return run


def pictures_of_request(request: Request) -> Pictures:
    """What there is to train on, beside what is generated.

    Raises:
        UserError: a folder that is not there or holds no picture.
    """
    least = least_side(request.task, request.crop_px)
    found = pictures_of(request.images, least, bool(request.scenes), request.labels)
    found.look_at_headers()
    return found


def _trials(request: Request, pictures: Sequence[tuple[str, Picture]]) -> list[judging.Trial]:
    """The pictures with what should come out."""
    if request.task.labelled:
        return judging.labelled_trials(request.spec, pictures, request.labels) if request.labels else []
    return judging.trials_of(request.task, request.spec, pictures, request.targets)


def _lesson(
    request: Request, model: nn.Module, batch_of: Callable[[int], tuple[Any, ...]]
) -> tuple[loop.Lesson, loop.Critic | None]:
    """What is learned, and what learns beside the network."""

    def batch(step: int) -> loop.Batch:
        return tuple(torch.from_numpy(array).to(request.device) for array in batch_of(step))

    if request.scenes:
        assert isinstance(model, Colorization)
        return loop.Lesson(batch, with_scenes, model.colours_and_classes), None
    if request.loss in LOSSES:
        return loop.Lesson(batch, LOSSES[request.loss], training_form(model)), None
    assert request.vgg is not None
    content = adversarial.read_vgg(request.vgg).to(request.device)
    loss_of, critic = adversarial.losses(request.loss, request.spec, content, request.crop_px, request.settings.rate)
    return loop.Lesson(batch, loss_of, training_form(model)), critic


@dataclass
class _Ahead:
    """Makes the batch of the next step while a GPU is busy with this one. What is drawn stays the same."""

    batch_of: Callable[[int], tuple[Any, ...]]
    steps: int
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "batches"))
    _made: tuple[int, Future[tuple[Any, ...]]] | None = None

    def __call__(self, step: int) -> tuple[Any, ...]:
        made = self._made[1] if self._made and self._made[0] == step else self._worker.submit(self.batch_of, step)
        found = made.result()
        self._made = (step + 1, self._worker.submit(self.batch_of, step + 1)) if step + 1 < self.steps else None
        return found

    def close(self) -> None:
        """Waits for a batch that is being made, which nobody will ask for any more."""
        self._worker.shutdown(cancel_futures=True)


def made_with(request: Request) -> dict[str, Any]:
    """What must be the same for a run to go on; its number of steps may grow."""
    return {
        "model": request.spec.word,
        "task": request.task.name,
        "seed": request.settings.seed,
        "rate": request.settings.rate,
        "autocast": request.settings.autocast,
        "clip": request.settings.clip,
        "batch": request.batch,
        "crop": request.crop_px,
        "loss": request.loss,
        "generated": request.generated,
        "precision": request.precision,
        "device": request.device.partition(":")[0],
        "vgg": _digest(request.vgg) if request.vgg else None,
        "scenes": list(request.scenes) or None,
        "maps": request.labels.digest if request.labels else None,
        "begun_with": _begun_with(request),
    }


@cache
def _digest(path: Path) -> str:
    """Of a large file that does not change while this runs."""
    return weights_sha256(path)[:16]


def _begun_with(request: Request) -> str:
    """What training began with, told by content: never the path."""
    if request.weights is None:
        return "passing the picture through" if passes_through(request.spec) else "untrained"
    path = resolve_weights(request.spec, request.weights)
    card = read_card(path)
    before = f", {card.steps} steps of {card.task} in {card.seconds:.0f} s" if card else ""
    return f"{path.name}, sha256 {weights_sha256(path)[:16]}{before}"


def _earlier(request: Request) -> dict[str, float]:
    """What the weights that training began with had cost, where their card says so."""
    if request.weights is None:
        return {}
    card = read_card(resolve_weights(request.spec, request.weights))
    return {"steps": card.all_steps, "seconds": round(card.all_seconds, 1)} if card else {}


@dataclass
class _Run:
    """A run that goes on."""

    request: Request
    pictures: Pictures
    batches: Batches
    lesson: loop.Lesson
    state: loop.State
    tests: Sequence[judging.Trial]
    ahead: _Ahead | None = None
    _stored_s: float = 0.0

    def close(self) -> None:
        """Ends what goes on beside it, and writes the checkpoint where a step was not left in the middle."""
        if self.ahead:
            self.ahead.close()
        if self.state.whole:
            self.write_checkpoint()

    def to_the_end(self, report: Report) -> None:
        settings, state = self.request.settings, self.state
        self._stored_s = state.seconds
        while state.step < settings.steps:
            loss = loop.train_to(state, self._until(), settings, self.lesson)
            if self._validate() or state.seconds - self._stored_s > CHECKPOINT_S:
                self.write_checkpoint()
            self.report_to(report, loss)

    def _until(self) -> int:
        """Where the next look at the clock is due: after CHUNK steps, CHUNK_S, or where it is to be judged."""
        step, every = self.state.step, self.request.validate_every
        pace_s = max(self.state.seconds / step, 1e-9) if step else CHUNK_S
        few = max(1, min(CHUNK, int(CHUNK_S / pace_s)))
        judged = [(step // every + 1) * every] if self.tests else []
        return min(self.request.settings.steps, (step // few + 1) * few, *judged)

    def _validate(self) -> bool:
        step, every = self.state.step, self.request.validate_every
        if not self.tests or (step % every and step != self.request.settings.steps):
            return False
        reached = judging.reached(self.request.task, self.state.average, self.request.spec, self.tests)
        self.state.figures.append((step, reached))
        return True

    def write_checkpoint(self) -> None:
        checkpoints.write_checkpoint(checkpoint_path(self.request.output), self.state, made_with(self.request))
        self._stored_s = self.state.seconds

    def report_to(self, report: Report, loss: float) -> None:
        figure = self.state.figures[-1][1] if self.state.figures else None
        left_out = len(self.pictures.broken)
        critic = self.state.critic
        critic_loss = statistics.fmean(critic.losses[-CHUNK:]) if critic else None
        steps = self.request.settings.steps
        report(Progress(self.state.step, steps, loss, critic_loss, self.state.seconds, figure, left_out))

    def card(self) -> Card:
        """The card of what has been trained so far, without the digest of a file; judges it first."""
        request, state = self.request, self.state
        return Card(
            task=request.task.name,
            model=request.spec.name,
            options=dict(request.spec.chosen),
            sha256="",
            data=self._data(),
            settings=_settings(request),
            steps=state.step,
            seconds=round(state.seconds, 1),
            seed=request.settings.seed,
            commit=request.commit,
            versions={"torch": torch.__version__, "python": platform.python_version()},
            machine=request.machine,
            figures=tuple(self._figure(name, trials) for name, trials in self._judged() if trials),
            licence=request.licence,
            resume=request.command,
            earlier=_earlier(request),
            notes=(classes_in_words(),) if request.task.labelled and not request.images else (),
        )

    def _data(self) -> dict[str, int]:
        usable = len(self.pictures) - len(self.pictures.broken)
        folders = {self.request.data or "pictures of the user's own": usable} if usable else {}
        made = self.request.generated if usable else 1.0
        labelled = self.request.task.labelled
        made = 0.0 if labelled and usable else made
        different = self.batches.scenes_met(self.state.step) if labelled and made else GENERATED
        return {**folders, **({f"generated scenes, {made:.0%} of what was drawn": different} if made else {})}

    def _judged(self) -> Iterator[tuple[str, list[judging.Trial]]]:
        """Named sets of pictures with what should come out."""
        for name, pictures in self.request.judged:
            yield name, _trials(self.request, pictures)
        if self.request.task.labelled and not self.request.judged and not self.request.images:
            yield "generated scenes, held out", judging.held_out_scenes(self.request.spec)

    def _figure(self, name: str, trials: Sequence[judging.Trial]) -> Figure:
        """What the trained network reaches on one named set of pictures."""
        task, spec = self.request.task, self.request.spec
        reached = round(judging.reached(task, self.state.average, spec, trials), 2)
        baselines = {judging.BASELINES[task.kind]: round(judging.reached_without(task, trials), 2)}
        words = judging.convention(task, spec) + "; layers pretend to be int8" * (self.request.precision == "int8")
        psnr, iou = (None, reached) if task.labelled else (reached, None)
        return Figure(name, len(trials), words, psnr, baselines, iou)


def _settings(request: Request) -> dict[str, Any]:
    """What a reader needs to train the same again."""
    told = {"model", "task", "seed"}  # by the card itself
    named = {k: v for k, v in made_with(request).items() if k not in told and v is not None}
    if not request.images:
        named["generated"] = 1.0
    optimiser = f"Adam, {loop.WARM_UP} steps of warm-up, half a cosine; moving average of weights {loop.EMA_DECAY}"
    return {**named, "optimiser": optimiser, "threads": torch.get_num_threads()}

"""What is to be trained, on what and how, and why that cannot be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from reference_models.errors import UserError
from reference_models.pictures import Picture
from reference_models.spec import ModelSpec
from reference_models.tasks import Task
from reference_models.training import adversarial, loop
from reference_models.training.labelled import CLASSES, VOID, Labels, check_maps
from reference_models.training.losses import LOSSES
from reference_models.training.targets import Targets

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Request:
    """What is to be trained, on what, and where it goes. Sizes in pixels."""

    spec: ModelSpec
    task: Task
    output: Path
    settings: loop.Settings
    batch: int
    crop_px: int
    images: Sequence[str] = ()
    """Folders or files; none: the generator's pictures alone."""
    data: str = ""
    """What they are, in words, for the card."""
    licence: str = ""
    """Of the weights, in words; empty: nobody said, and what the pictures allow may decide it."""
    generated: float = 0.1
    labels: Labels | None = None
    """Maps of classes of `images`, `validation` and `judged`, for networks of classes."""
    loss: str = "mse"
    vgg: Path | None = None
    """VGG19's weights, for the losses that need them."""
    scenes: Sequence[str] = ()
    """Names of the scenes that the folders of `images` are, one each: the network learns to tell them, too."""
    device: str = "cpu"
    precision: str = "fp32"
    """`int8`: its layers pretend to be (fake_quantisation.py); figures are then of the network that pretends."""
    weights: str | None = None
    """What training begins with; None: the network's own initialisation."""
    validation: Sequence[tuple[str, Picture]] = ()
    judged: Sequence[tuple[str, Sequence[tuple[str, Picture]]]] = ()
    """Named sets of pictures for the figures of the card; without any, scenes held out where scenes are learned."""
    validate_every: int = 500
    resume: bool = False
    targets: Targets = field(default_factory=Targets)
    machine: str = ""
    commit: str = ""
    command: str = ""
    """What trains it further, for the card."""


def check(request: Request) -> None:
    """
    Raises:
        UserError: the network cannot learn this, or sizes that do not fit it.
    """
    spec, task = request.spec, request.task
    if reason := task.why_not(spec):
        raise UserError(f"`--task {task.name}` for model `{spec.title}`: {reason}", *_fitting(spec))
    multiple = spec.size_multiple * spec.upscale
    if request.crop_px % multiple or request.crop_px < max(multiple, spec.min_size * spec.upscale):
        raise UserError(f"`--crop {request.crop_px}`", f"a multiple of {multiple}", "Choose another side")
    if request.precision not in PRECISIONS:
        raise UserError(
            f"`--precision {request.precision}`: nothing is trained for it", ", ".join(PRECISIONS), "Give one of these"
        )
    if request.precision == "int8" and request.settings.autocast:
        raise UserError(
            "`--autocast` with `--precision int8`: bfloat16 moves values by half a step of int8",
            "one of the two",
            "Leave --autocast out",
        )
    _check_loss(request)
    _check_labels(request)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", request.device):
        raise UserError(
            f"`--device {request.device}`: nothing trains there", "cpu, cuda or cuda:N", "Give one of these"
        )
    if request.device != "cpu" and int(request.device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise UserError(
            f"`--device {request.device}`: torch finds {torch.cuda.device_count()} CUDA devices here",
            "a GPU that is there, and a torch for it",
            "Use cpu",
        )


def _check_labels(request: Request) -> None:
    task, classes = request.task, request.spec.output_planes
    if not task.labelled:
        if request.labels:
            raise UserError(f"`--labels` for `--task {task.name}`", "segmentation", "Leave it out")
        return
    if bool(request.images) != bool(request.labels):
        given, other = ("--images", "--labels") if request.images else ("--labels", "--images")
        raise UserError(
            f"`--task {task.name}`: {given} without {other}", "both, or generated scenes alone", f"Give {other}"
        )
    if request.images and request.generated:
        raise UserError(
            f"`--generated {request.generated:g}`: generated scenes have classes of their own, your maps have others",
            "--generated 0 with --labels",
            "Leave it out",
        )
    low, high = (2 if request.images else CLASSES), VOID
    if not low <= classes <= high:
        why = f"{VOID} stands for what nobody knows" if classes > high else f"generated scenes have {low}"
        raise UserError(
            f"`--task {task.name}` for `{request.spec.title}`: scores {classes} classes, and {why}",
            f"{low} to {high}",
            "Choose --option classes",
        )
    least = max(request.spec.size_multiple, request.spec.min_size)
    check_maps(request.labels, request.validation, "--validation", least)
    for name, pictures in request.judged:
        check_maps(request.labels, pictures, f"--judge {name}", least)


def _check_loss(request: Request) -> None:
    spec, labelled = request.spec, request.task.labelled
    known = [loss for loss in (*LOSSES, *adversarial.LOSSES) if (loss == "cross-entropy") == labelled]
    if request.loss not in known:
        what = f"`--loss {request.loss}`: not a loss of `--task {request.task.name}`"
        raise UserError(what, ", ".join(known), "Give one of these")
    if request.loss in adversarial.LOSSES:
        if reason := adversarial.why_not(spec, request.crop_px):
            raise UserError(f"`--loss {request.loss}`: {reason}", "such as srgan_x4, crops of 96", "Or leave it out")
        if request.vgg is None:
            raise UserError(
                f"`--loss {request.loss}` compares features of VGG19, whose weights do not ship",
                "--vgg FILE: torchvision's vgg19 state dict, .pth or .safetensors",
                "Give them",
            )
        if not request.vgg.is_file():
            raise UserError(f"`--vgg {request.vgg}`: is not there", "VGG19's weights", "Check the path")
    elif request.vgg is not None:
        raise UserError("`--vgg`: this loss does not use it", ", ".join(adversarial.LOSSES), "Leave it out")
    if request.scenes and (request.task.kind != "colorization" or not spec.options.get("classifier")):
        raise UserError(
            f"`--scenes`: model `{spec.title}` tells no scenes", "colorization with its classifier", "Give --images"
        )
    if request.scenes and request.loss != "mse":
        raise UserError(f"`--scenes` with `--loss {request.loss}`", "mse, as in the paper", "Leave --loss out")
    if request.batch < 2 and (request.loss == "adversarial" or spec.options.get("batch_norm") is True):
        raise UserError(f"`--batch {request.batch}`: too few for batch normalisation", "2 or more", "Choose more")


def _fitting(spec: ModelSpec) -> tuple[str, str]:
    from reference_models.tasks import tasks_of

    found = ", ".join(task.name for task in tasks_of(spec))
    return found or "none: no task fits it", "Choose one of these" if found else "Choose another network"

"""`bench train`: pictures → trained weights with their card."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import add_model, option_words, split_words
from bench.exit_codes import OK
from bench.nvml_id import BUS_ORDER
from bench.training_pictures import judged_folder, read_folder, scenes_of
from reference_models.cards import card_path
from reference_models.errors import UserError

if TYPE_CHECKING:
    from reference_models.spec import ModelSpec
    from reference_models.tasks import Task
    from reference_models.training.request import Request
    from reference_models.training.train import Outcome, Progress

ORDER = 42
# Family → batch, side of the target's crop in pixels of the network's input, and rate.
DEFAULTS = {
    "CAN": (2, 192, 4e-4),
    "ESPCN": (16, 40, 1e-3),
    "SRCNN": (8, 64, 5e-4),
    "VDSR": (8, 64, 3e-4),
    "RED-Net": (8, 64, 3e-4),
    "SRGAN": (16, 24, 1e-4),
    "PixelDCN": (2, 256, 1e-3),
}
OTHERS = (4, 128, 1e-4)
LOG_S = 60.0
"""A log hears of the progress at least as often."""
LEFT_OUT_LINES = 20


def add(commands: Any) -> None:
    from reference_models import tasks

    parser = commands.add_parser(
        "train",
        help="train a network on pictures",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains a network for a task on your pictures; writes FILE.safetensors, FILE.json (its card:\n"
        "data, cost, figures on pictures that it was not trained on) and FILE.checkpoint, from which --resume\n"
        "goes on after a kill, with the same curve. docs/training.md says how long what takes.",
        epilog="tasks:\n" + "\n".join(f"  {name:24}{tasks.get(name).description}" for name in tasks.names()),
    )
    add_model(parser)
    parser.add_argument("--task", required=True, metavar="T", help="what it shall learn; listed below")
    parser.add_argument(
        "--images", metavar="DIR[,...]", help="pictures to train on (default: those of the generator alone)"
    )
    parser.add_argument(
        "--scenes",
        metavar="DIR",
        help="colorization: pictures to train on, in a folder for every scene; it learns to tell the scenes, too",
    )
    parser.add_argument(
        "--labels",
        metavar="DIR[,...]",
        help="segmentation: maps of classes for --images, --validation and --judge, PNG files of the pictures' names: "
        "numbers of classes, 255 where nobody knows, as PASCAL VOC's",
    )
    parser.add_argument("--output", required=True, metavar="FILE.safetensors")
    _add_settings(parser)
    _add_pictures(parser)
    parser.set_defaults(command=_train)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=2000, metavar="N", help="default 2000")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default 0)")
    parser.add_argument("--batch", type=int, metavar="N", help="crops a step (default: the network's)")
    parser.add_argument(
        "--crop", type=int, metavar="PX", help="side of the crop of the target (default: suits the network)"
    )
    parser.add_argument("--rate", type=float, metavar="R", help="Adam's highest (default: the network's)")
    parser.add_argument(
        "--loss",
        metavar="L",
        help="mse (default), as in most papers, l1, psnr, perceptual (distance of VGG19's features) or adversarial "
        "(the same against a discriminator, SRGAN's); for classes cross-entropy alone",
    )
    parser.add_argument(
        "--vgg", metavar="FILE", help="VGG19's weights for the last two: torchvision's, .pth or .safetensors"
    )
    parser.add_argument(
        "--clip", type=float, default=0.0, metavar="NORM", help="of the network's gradients (default 0: none)"
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all usable cores)")
    parser.add_argument("--autocast", action="store_true", help="convolutions in bfloat16: faster with AVX512-BF16")
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="P",
        help="fp32 (default), or int8: layers pretend to be int8, so that weights settle where that costs least; for "
        "fine-tuning trained --weights, then deployed with --precision int8 (docs/training.md)",
    )
    parser.add_argument("--weights", metavar="NAME|FILE", help="what it begins with (default: untrained)")
    parser.add_argument("--resume", action="store_true", help="go on from FILE.checkpoint")
    parser.add_argument(
        "--again", action="store_true", help="begin anew though a FILE.checkpoint lies there, and lose it"
    )


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", metavar="WORDS", help="what the pictures are, for the card")
    parser.add_argument(
        "--licence", default="", metavar="WORDS", help="of the weights, for the card (default: not said)"
    )
    parser.add_argument(
        "--generated",
        type=float,
        metavar="SHARE",
        help="of generated pictures (0 to 1; default 0.1, with --labels 0)",
    )
    parser.add_argument("--validation", metavar="DIR", help="pictures judged while it trains, never trained on")
    parser.add_argument("--validate-every", type=int, default=500, metavar="STEPS", help="default 500")
    parser.add_argument(
        "--judge",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="pictures judged at the end, under this name in the card; may be repeated (default: a photograph; for "
        "classes without --labels 12 generated scenes)",
    )


def _train(arguments: argparse.Namespace) -> int:
    request = _request(arguments)
    from bench.terminal import console_for, progress_on
    from reference_models.training.train import checkpoint_path, train

    form = "mean IoU {:.1f} %" if request.task.labelled else "{:.2f} dB"
    title = f"train {request.spec.title}: {request.task.name}"
    with progress_on(console_for(stderr=True)) as reporter, reporter.stage(title, request.settings.steps) as show:
        try:
            outcome = train(request, _shown(request, show, form))
        except FloatingPointError as error:
            raise UserError(f"training failed: {error}", "a loss that falls", "Lower --rate") from None
        except KeyboardInterrupt:
            kept = checkpoint_path(request.output)
            if kept.is_file():
                print(f"kept in {kept}: the same command with --resume goes on", file=sys.stderr)
            raise
    _print(request, outcome)
    return OK


def _shown(request: Request, show: Callable[[float, str], None], form: str) -> Callable[[Progress], None]:
    """Progress as a live line, or as one line in a log every twentieth of the way and every LOG_S; `form` of what is
    reached."""
    last, said = -1, time.monotonic()
    if request.resume:
        last = -2

    def report(progress: Progress) -> None:
        nonlocal last, said
        if last == -2:
            print(f"going on from step {progress.step}", file=sys.stderr)
        critic = f", discriminator {progress.critic_loss:.2f}" if progress.critic_loss is not None else ""
        figure = critic + (", " + form.format(progress.reached) if progress.reached is not None else "")
        live = sys.stderr.isatty()
        show(progress.step, f"{progress.step}/{progress.steps} loss {progress.loss:.2e}{figure}" if live else "")
        part = progress.step * 20 // progress.steps
        if not live and (part != last or time.monotonic() - said > LOG_S):
            last, said = part, time.monotonic()
            left_out = f", {progress.left_out} pictures left out" if progress.left_out else ""
            print(
                f"step {progress.step} of {progress.steps}: loss {progress.loss:.3e}{figure}, "
                f"{progress.seconds:.0f} s{left_out}",
                file=sys.stderr,
                flush=True,
            )

    return report


def _print(request: Request, outcome: Outcome) -> None:
    """What came out: where it lies, what it cost, what it reaches."""
    card = outcome.card
    print(f"{request.output}: {card.steps} steps of {request.spec.title}, {card.task}, in {card.seconds:.0f} s")
    for figure in card.figures:
        beside = f" ({figure.beside})" if figure.beside else ""
        worse = ", WORSE than without a network: train longer" if figure.is_worse else ""
        print(f"  {figure.pictures} ({figure.count}): {figure.reached}{beside}{worse}; {figure.convention}")
    if not card.figures:
        print("  not judged: --judge NAME=DIR does, with maps in --labels")
    for name, reason in list(outcome.left_out.items())[:LEFT_OUT_LINES]:
        print(f"  left out: {name}: {reason}")
    if len(outcome.left_out) > LEFT_OUT_LINES:
        print(f"  left out: {len(outcome.left_out) - LEFT_OUT_LINES} more")
    print(f"  card: {card_path(request.output)}; to train on: the same command with --resume and more --steps")
    print(
        f"  next: bench apply --model {request.spec.word} --weights {request.output} --input PICTURE --output OUT.png"
    )


def _request(arguments: argparse.Namespace) -> Request:
    """What was asked for; all that can be wrong about it has been checked.

    Raises:
        UserError: wrong use.
    """
    from bench.case import spec_from_word
    from reference_models import tasks
    from reference_models.choices import parse_options
    from reference_models.pictures import DEFAULT_PICTURE_NAME, default_picture
    from reference_models.training.labelled import labels_of
    from reference_models.weights import resolve_weights

    spec = spec_from_word(arguments.model, parse_options(option_words(arguments)))
    task = tasks.get(arguments.task)
    _check_numbers(arguments)
    output = _output(arguments)
    _check_checkpoint(arguments, output)
    images, scenes = split_words(arguments.images), scenes_of(arguments.scenes, arguments.images)
    if arguments.weights is not None:
        resolve_weights(spec, arguments.weights)
    validation = read_folder(arguments.validation) if arguments.validation else []
    judged = [judged_folder(word) for word in arguments.judge]
    if not (judged or task.labelled):
        judged = [(DEFAULT_PICTURE_NAME, [(DEFAULT_PICTURE_NAME, default_picture())])]
    request = _complete(arguments, spec, task, output)
    return _checked(
        replace(
            request,
            images=scenes or images,
            scenes=[Path(folder).name for folder in scenes],
            validation=validation,
            judged=judged,
            labels=labels_of(split_words(arguments.labels), spec.output_planes),
        )
    )


def _complete(arguments: argparse.Namespace, spec: ModelSpec, task: Task, output: Path) -> Request:
    """The request without its pictures; what was not given is what suits the network."""
    os.environ.update({**BUS_ORDER, **os.environ})  # before CUDA counts its devices
    import torch

    from bench.machine import commit, usable_cores
    from export.cache import cache_folder
    from reference_models.training.loop import Settings
    from reference_models.training.request import Request
    from reference_models.training.targets import Targets

    batch, side, rate = DEFAULTS.get(spec.family, OTHERS)
    torch.set_num_threads(arguments.threads or usable_cores())
    loss = arguments.loss or ("cross-entropy" if task.labelled else "mse")
    given = {"batch": arguments.batch, "crop": arguments.crop, "rate": arguments.rate, "loss": loss}
    generated = arguments.generated if arguments.generated is not None else 0.0 if arguments.labels else 0.1
    given |= {"clip": arguments.clip or None, "generated": generated, "steps": arguments.steps}
    chosen = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    learned = f" --vgg {shlex.quote(Path(arguments.vgg).name)}" if arguments.vgg else ""
    learned += f" --device {arguments.device}" if arguments.device != "cpu" else ""
    folder = " --scenes DIR" if arguments.scenes else " --images DIR" if arguments.images else ""
    folder += " --labels DIR" if arguments.labels else ""
    again = (
        f"bench train --model {spec.word} --task '{task.name}' --weights {shlex.quote(output.name)}{folder} "
        + chosen
        + learned
        + " --autocast" * arguments.autocast
        + f" --precision {arguments.precision}" * (arguments.precision != "fp32")
    )
    return Request(
        spec=spec,
        task=task,
        output=output,
        settings=Settings(
            steps=arguments.steps,
            rate=arguments.rate or rate,
            autocast=arguments.autocast,
            clip=arguments.clip,
            seed=arguments.seed,
        ),
        batch=arguments.batch or batch,
        crop_px=arguments.crop or side * spec.upscale,
        data=arguments.data,
        licence=arguments.licence,
        generated=generated,
        loss=loss,
        vgg=Path(arguments.vgg) if arguments.vgg else None,
        device=arguments.device,
        precision=arguments.precision,
        weights=arguments.weights,
        validate_every=arguments.validate_every,
        resume=arguments.resume,
        targets=Targets(cache_folder() / "targets"),
        machine=_machine(arguments.device),
        commit=commit() or "",
        command=f"{again} --output FILE.safetensors",
    )


def _checked(request: Request) -> Request:
    """
    Raises:
        UserError: what does not fit the network, a folder without pictures, or nothing to go on from.
    """
    from reference_models.training.checkpoints import check_resumable
    from reference_models.training.request import check
    from reference_models.training.train import checkpoint_path, made_with, pictures_of_request

    check(request)
    pictures = pictures_of_request(request)
    if pictures.paths:
        pictures.picture(0)  # at least one can be used
    if request.resume:
        check_resumable(checkpoint_path(request.output), made_with(request), request.settings.steps)
    return request


def _output(arguments: argparse.Namespace) -> Path:
    from bench.places import check_output_file

    output = Path(arguments.output)
    if output.suffix.lower() != ".safetensors":
        raise UserError(f"`--output {output}`: not the name of a safetensors file", "FILE.safetensors", "Rename it")
    check_output_file(output, "--output")
    return output


def _check_checkpoint(arguments: argparse.Namespace, output: Path) -> None:
    """
    Raises:
        UserError: hours of training lie there, and nobody said that they may be overwritten.
    """
    from reference_models.training.train import checkpoint_path

    path = checkpoint_path(output)
    if path.exists() and not arguments.resume and not arguments.again:
        raise UserError(
            f"`{path}` is there, of an earlier run",
            "--resume to go on with it, --again to lose it and begin anew",
            "Say which, or choose another --output",
        )


def _check_numbers(arguments: argparse.Namespace) -> None:
    from bench.machine import usable_cores

    limits: dict[str, tuple[float, float]] = {
        "steps": (1, 10**8),
        "seed": (0, 2**31 - 1),
        "batch": (1, 4096),
        "crop": (1, 4096),
        "rate": (1e-12, 1),
        "clip": (0, 1e6),
        "threads": (1, usable_cores()),
        "generated": (0, 1),
        "validate_every": (1, 10**8),
    }
    for name, (low, high) in limits.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"`{option} {value:g}`: out of range", f"{low:g} to {high:g}", "Choose another number")


def _machine(device: str) -> str:
    """The processor, and the GPU where that trains, in words, for the card."""
    import torch

    from bench.machine import describe

    found = describe()
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    gpu = f"{torch.cuda.get_device_name(device)}, " if on_gpu else ""
    return f"{gpu}{found['cpu']}, {found['cores_usable']} cores"

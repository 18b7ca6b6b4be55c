"""Trained networks on pictures that they were not trained on → PSNR, beside what needs no network.

The convention is that of the papers: float planes as the network takes and gives them, clipped to [0, 1], nothing
rounded; super-resolution without `scale` pixels on each side. The mean is that of the pictures' PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from reference_models.colour import unit_range
from reference_models.pictures import Picture
from reference_models.resample import imresize
from reference_models.spec import ModelSpec
from reference_models.tasks import Task
from reference_models.training.pairs import Pair, Planes, float_planes, pair_from_picture
from reference_models.training.targets import Targets

BASELINES = {
    "image operator": "the picture as it is",
    "super-resolution": "bicubic",
    "denoising": "the noisy picture",
    "restoration": "the picture as given",
    "colorization": "grey",
}


@dataclass(frozen=True)
class Trial:
    """A picture to judge on, as planes."""

    name: str
    pair: Pair
    border_px: int


def trials_of(task: Task, spec: ModelSpec, pictures: Sequence[tuple[str, Picture]], targets: Targets) -> list[Trial]:
    """Pairs of these pictures, with noise that is the same every time."""
    return [trial_of(task, spec, number, given, targets) for number, given in enumerate(pictures)]


def trial_of(task: Task, spec: ModelSpec, number: int, given: tuple[str, Picture], targets: Targets) -> Trial:
    """The trial of one picture and its name; `number` seeds its noise."""
    name, picture = given
    rng = np.random.default_rng([7, number])
    pair = pair_from_picture(task, spec, _cut(picture, spec), rng, targets)
    x = float_planes(pair.input)
    if pair.sigma:
        x = x + np.float32(pair.sigma) * rng.standard_normal(x.shape, np.float32)
    return Trial(name, Pair(x, float_planes(pair.target)), max(task.scales, default=0))


def _cut(picture: Picture, spec: ModelSpec) -> Picture:
    """The picture cut to sides that the network takes without padding."""
    k = spec.size_multiple * spec.upscale
    return picture[: max(picture.shape[0] // k, 1) * k, : max(picture.shape[1] // k, 1) * k]


def psnr_of(model: nn.Module, spec: ModelSpec, trials: Sequence[Trial]) -> list[float]:
    """PSNR of the network on every test, in dB; convolutions in FP32, on a GPU too."""
    model.eval()
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return [_psnr_db(_output(model, spec, trial), trial) for trial in trials]
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def _output(model: nn.Module, spec: ModelSpec, trial: Trial) -> Planes:
    device = next((parameter.device for parameter in model.parameters()), None)
    return unit_range(model(torch.from_numpy(trial.pair.input[None]).to(device)).float().cpu().numpy()[0], spec)


def baseline_psnr(trials: Sequence[Trial]) -> list[float]:
    """PSNR of what needs no network: the input itself, enlarged bicubically where it is smaller."""
    return [_psnr_db(as_given(trial.pair), trial) for trial in trials]


def as_given(pair: Pair) -> Planes:
    """What one has without a network, as planes of the target."""
    if len(pair.input) != len(pair.target):  # lightness in, colours out: the middle of the range is grey
        return np.full_like(pair.target, 0.5)
    return imresize(pair.input, *pair.target.shape[1:])


def judged_part(planes: Planes, trial: Trial) -> Planes:
    """(C, H, W) without the border that is not judged."""
    b = trial.border_px
    height, width = planes.shape[1:]
    return planes[:, b : height - b, b : width - b]


def _psnr_db(output: Planes, trial: Trial) -> float:
    error = np.clip(judged_part(output, trial), 0, 1).astype(np.float64) - judged_part(trial.pair.target, trial)
    squared = float(np.mean(error * error))
    return -10 * math.log10(squared) if squared else math.inf


def convention(task: Task, spec: ModelSpec) -> str:
    """What the decibels are of, in words."""
    planes = {"luma": "luma (16 to 235 of 255)", "lightness": "colour planes"}.get(spec.input, "R, G, B")
    border = f", {max(task.scales)} pixels cut from each side" if task.scales else ""
    return f"{planes}, float, clipped, not rounded{border}; mean of the pictures' PSNR"

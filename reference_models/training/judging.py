"""Trained networks on pictures that they were not trained on → PSNR, beside what needs no network.

The convention is that of the papers: float planes as the network takes and gives them, clipped to [0, 1], nothing
rounded; super-resolution without `scale` pixels on each side. The mean is that of the pictures' PSNR. Networks of
classes are judged by mean IoU.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from reference_models.colour import unit_range
from reference_models.pictures import Picture
from reference_models.resample import imresize
from reference_models.spec import ModelSpec
from reference_models.tasks import Task
from reference_models.training.labelled import HELD_OUT, VOID, ClassMap, Labels
from reference_models.training.pairs import Pair, Planes, float_planes, pair_from_map, pair_from_picture
from reference_models.training.sources import generated_with_map
from reference_models.training.targets import Targets

BASELINES = {
    "image operator": "the picture as it is",
    "super-resolution": "bicubic",
    "denoising": "the noisy picture",
    "restoration": "the picture as given",
    "colorization": "grey",
    "segmentation": "class 0 everywhere",
}
HELD_OUT_SCENES = 12


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


def labelled_trials(spec: ModelSpec, pictures: Sequence[tuple[str, Picture]], labels: Labels) -> list[Trial]:
    """Pictures with their maps of classes; each has one (`check_maps`)."""
    found = []
    for name, picture in pictures:
        classes = labels.of(name, picture)
        assert not isinstance(classes, str), classes
        found.append(_labelled_trial(spec, name, picture, classes))
    return found


def held_out_scenes(spec: ModelSpec) -> list[Trial]:
    """Generated scenes that no run trains on."""
    made = ((n, *generated_with_map(n, spec.size_multiple)) for n in range(HELD_OUT, HELD_OUT + HELD_OUT_SCENES))
    return [_labelled_trial(spec, f"scene {number}", picture, classes) for number, picture, classes in made]


def _labelled_trial(spec: ModelSpec, name: str, picture: Picture, classes: ClassMap) -> Trial:
    cut = _cut(picture, spec)
    pair = pair_from_map(spec, cut, classes[: cut.shape[0], : cut.shape[1]])
    return Trial(name, pair, 0)  # bytes: there may be thousands


def _cut(picture: Picture, spec: ModelSpec) -> Picture:
    """The picture cut to sides that the network takes without padding."""
    k = spec.size_multiple * spec.upscale
    return picture[: max(picture.shape[0] // k, 1) * k, : max(picture.shape[1] // k, 1) * k]


def reached(task: Task, model: nn.Module, spec: ModelSpec, trials: Sequence[Trial]) -> float:
    """What the network reaches on all of them: mean PSNR in dB, or mean IoU in percent."""
    if task.labelled:
        with _judging(model):
            return mean_iou_percent((_output(model, spec, trial) for trial in trials), trials)
    return statistics.fmean(psnr_of(model, spec, trials))


def reached_without(task: Task, trials: Sequence[Trial]) -> float:
    """The same quantity for what needs no network: the input itself, or class 0 everywhere."""
    if task.labelled:
        return mean_iou_percent((np.zeros_like(trial.pair.target) for trial in trials), trials)
    return statistics.fmean(baseline_psnr(trials))


def mean_iou_percent(outputs: Iterable[Planes], trials: Sequence[Trial]) -> float:
    """Intersection over union of the pixels of all pictures, the mean over the classes that are in the maps or were
    found; pixels whose class is not known count nowhere.

    Args:
        outputs: (classes, H, W) scores, or (1, H, W) numbers of classes.

    Source: PASCAL VOC devkit 2012, section 10.5.2, but for classes that are nowhere.
    """
    both = np.zeros((VOID, VOID), np.int64)
    for output, trial in zip(outputs, trials, strict=True):
        known = ~np.isnan(trial.pair.target[0])
        true = trial.pair.target[0][known].astype(np.int64)
        found = (output.argmax(0) if len(output) > 1 else output[0])[known].astype(np.int64)
        both += np.bincount(true * VOID + found, minlength=VOID * VOID).reshape(VOID, VOID)
    union = both.sum(0) + both.sum(1) - both.diagonal()
    return float(100 * np.mean(both.diagonal()[union > 0] / union[union > 0]))


def psnr_of(model: nn.Module, spec: ModelSpec, trials: Sequence[Trial]) -> list[float]:
    """PSNR of the network on every test, in dB."""
    with _judging(model):
        return [_psnr_db(_output(model, spec, trial), trial) for trial in trials]


@contextlib.contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    """Convolutions in FP32, on a GPU too."""
    model.eval()
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def _output(model: nn.Module, spec: ModelSpec, trial: Trial) -> Planes:
    device = next((parameter.device for parameter in model.parameters()), None)
    x = torch.from_numpy(float_planes(trial.pair.input)[None])
    return unit_range(model(x.to(device)).float().cpu().numpy()[0], spec)


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
    """What the figures are of, in words."""
    if task.labelled:
        return "pixels of all pictures together; mean over the classes that are there or were found"
    planes = {"luma": "luma (16 to 235 of 255)", "lightness": "colour planes"}.get(spec.input, "R, G, B")
    border = f", {max(task.scales)} pixels cut from each side" if task.scales else ""
    return f"{planes}, float, clipped, not rounded{border}; mean of the pictures' PSNR"

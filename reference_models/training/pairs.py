"""A picture → what goes into a network and what should come out, as planes. NumPy alone.

Unlike Task.pictures, nothing is rounded to 8 bits between: luma, reduction and noise stay float, as in the papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_models.colour import luma_from_picture
from reference_models.pictures import Picture
from reference_models.resample import imresize
from reference_models.spec import ModelSpec
from reference_models.tasks import Task
from reference_models.training.labelled import VOID, ClassMap
from reference_models.training.targets import Targets

Planes = NDArray[np.float32]
UNKNOWN = -1
"""Scene of a picture that nobody named."""


@dataclass(frozen=True)
class Pair:
    """Planes of a whole picture: uint8 of 0..255 or float32 of [0, 1], as they were cheapest to keep."""

    input: NDArray[Any]
    """(C, h, w)"""
    target: NDArray[Any]
    """(C', h * upscale, w * upscale); of a map of classes (1, h, w) float32 numbers, NaN where nobody knows."""
    sigma: float = 0.0
    """Deviation of the noise that is added to every crop of the input, of 1."""
    scene: int = UNKNOWN
    """Number of what the picture shows."""


def pair_from_picture(
    task: Task, spec: ModelSpec, picture: Picture, rng: np.random.Generator, targets: Targets
) -> Pair:
    """The pair of a whole picture for one task; `rng` draws the scale or the noise level where there are several.

    Raises:
        UserError: the operator of the task is not there.
    """
    if task.kind == "colorization":
        return Pair(*_colours(picture, spec))
    if task.operator is not None:
        target = targets.target(task.operator, picture)
        return Pair(_three_planes(picture, spec), _three_planes(target, spec))
    planes = planes_of(picture, spec)
    drawn = task.drawn(rng)
    assert drawn is not None
    noun, value = drawn
    if noun == "sigma":
        return Pair(planes, planes, value / 255)
    return _reduced(planes, int(value), enlarged=spec.upscale == 1)


def pair_from_map(spec: ModelSpec, picture: Picture, classes: ClassMap) -> Pair:
    """The pair of a whole picture and its map of classes."""
    return Pair(_three_planes(picture, spec), np.where(classes == VOID, np.float32(np.nan), classes)[None])


def planes_of(picture: Picture, spec: ModelSpec) -> Planes:
    """The planes of the picture in the order of the network: float32 (C, H, W) in [0, 1]."""
    if spec.input == "luma":
        return luma_from_picture(picture)[None] / np.float32(255)
    return _three_planes(picture, spec).astype(np.float32) / np.float32(255)


def _three_planes(picture: Picture, spec: ModelSpec) -> NDArray[np.uint8]:
    ordered = picture[..., ::-1] if spec.input == "bgr" else picture
    return np.ascontiguousarray(ordered.transpose(2, 0, 1))


def _reduced(planes: Planes, scale: int, enlarged: bool) -> Pair:
    """Reduced by `scale`, after cutting to a multiple of it; `enlarged`: and brought back to its size."""
    height, width = (side // scale * scale for side in planes.shape[1:])
    target = np.ascontiguousarray(planes[:, :height, :width])
    low = imresize(target, height // scale, width // scale)
    return Pair(imresize(low, height, width) if enlarged else low, target)


def _colours(picture: Picture, spec: ModelSpec) -> tuple[Planes, Planes]:
    """Lightness, and colours as the network's spec says."""
    from reference_models.lightness import ab_from_picture, lightness_from_picture, uv_from_picture

    lightness = lightness_from_picture(picture)[0]
    if spec.output == "recoloured":
        return lightness, picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return lightness, (ab_from_picture if spec.output == "ab" else uv_from_picture)(picture)[0]


def float_planes(planes: NDArray[Any]) -> Planes:
    """Kept planes as float32 of [0, 1]."""
    if planes.dtype == np.uint8:
        return planes.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(planes, np.float32)

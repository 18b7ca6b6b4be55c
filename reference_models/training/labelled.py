"""Pictures whose every pixel has a class: generated scenes, and folders of maps beside folders of pictures.

A map is uint8 (height, width): the number of the class, VOID where nobody knows. Networks of classes learn from it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference_models.errors import UserError
from reference_models.pictures import Picture, list_pictures, opened
from reference_models.training.scenes import gradient, photographed, turned_box

ClassMap = NDArray[np.uint8]
VOID = 255
"""Class of a pixel that is not judged, as in PASCAL VOC."""
SHAPES = ("disc", "rectangle", "triangle", "ring")
SURFACES = ("plain", "striped", "checked", "dotted", "grainy")
CLASSES = 1 + len(SHAPES) * len(SURFACES)
"""Of the generated scenes: the ground, then every shape with every surface; 21, as PASCAL VOC has."""
LEAST_RADIUS, LARGEST_RADIUS = 14.0, 70.0
"""Of a leaf in pixels, whatever the size of the scene: its surface has to be seen."""
PIXELS_PER_LEAF = 3000
HELD_OUT = 1 << 20
"""Number of the first scene that is judged; those before are trained on."""


def classes_in_words() -> str:
    """The classes of generated scenes and their numbers, for cards."""
    names = ["ground", *(f"{surface} {shape}" for shape in SHAPES for surface in SURFACES)]
    return "classes: " + ", ".join(f"{number} {name}" for number, name in enumerate(names))


def labelled_scene(width: int, height: int, seed: int) -> tuple[Picture, ClassMap]:
    """A picture, uint8 (height, width, 3) RGB, of leaves that cover each other, and its map: which shape and surface
    lies on top; 0 is the ground, a gradient.

    The same seed and size give the same scene.
    """
    rng = np.random.default_rng([seed, width, height, CLASSES])
    planes, found = gradient(width, height, rng), np.zeros((height, width), np.uint8)
    for _ in range(max(1, width * height // PIXELS_PER_LEAF)):
        _put_leaf(planes, found, rng)
    return photographed(planes, rng), found


def _put_leaf(planes: NDArray[np.float32], found: ClassMap, rng: np.random.Generator) -> None:
    """Draws one leaf on the picture and its number on the map, in place."""
    radius = LEAST_RADIUS * (LARGEST_RADIUS / LEAST_RADIUS) ** rng.random()
    box, u, v = turned_box(planes, radius, rng)
    shape, surface = int(rng.integers(len(SHAPES))), int(rng.integers(len(SURFACES)))
    inside = _inside(SHAPES[shape], u, v)
    second = _second_colour(SURFACES[surface], u * np.float32(radius), v * np.float32(radius), rng)
    one, other = _two_colours(rng)
    np.copyto(planes[box], one + second * (other - one), where=inside)
    np.copyto(found[box[1:]], np.uint8(1 + shape * len(SURFACES) + surface), where=inside)


def _two_colours(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, 1, 1) each, far enough from each other that a surface can be told from a plain one."""
    one = rng.random((3, 1, 1), np.float32)
    shift = rng.uniform(0.3, 0.5, (3, 1, 1)).astype(np.float32)
    return one, np.asarray(np.where(one < 0.5, one + shift, one - shift), np.float32)


def _inside(shape: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What the shape covers; u and v are 1 at its radius."""
    if shape == "rectangle":
        return (np.abs(u) < 0.9) & (np.abs(v) < 0.6)
    if shape == "triangle":
        return (v > -0.5) & (v + math.sqrt(3) * np.abs(u) < 1)
    squared = u * u + v * v
    return (squared < 1) & (squared > 0.3) if shape == "ring" else squared < 1


def _second_colour(
    surface: str, x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Share of the leaf's second colour, 0 to 1, at these pixels; what repeats does so every 6 to 10 of them."""
    wave = np.float32(2 * math.pi / rng.uniform(6, 10))
    if surface == "plain":
        return np.zeros_like(x)
    if surface == "grainy":
        return rng.random(x.shape, np.float32)
    if surface == "striped":
        return (np.sin(x * wave) > 0).astype(np.float32)
    product = np.sin(x * wave) * np.sin(y * wave)
    return (product > (0 if surface == "checked" else 0.5)).astype(np.float32)


@dataclass(frozen=True)
class Labels:
    """Maps that lie in folders, by the name of their picture without its ending."""

    files: Mapping[str, Path]
    classes: int
    """How many the network scores."""

    @property
    def digest(self) -> str:
        """Of the names, by which a run that goes on tells that it is given the same maps."""
        return hashlib.sha256("\n".join(sorted(self.files)).encode()).hexdigest()[:16]

    def why_not(self, name: str) -> str:
        """Why a picture has no map, told from its name; empty where it may have one."""
        return "" if Path(name).stem in self.files else "no map of its name in --labels"

    def of(self, name: str, picture: Picture) -> ClassMap | str:
        """The map of a picture, uint8 (H, W), or in a few words why there is none that can be used."""
        if reason := self.why_not(name):
            return reason
        path = self.files[Path(name).stem]
        try:
            with opened(path) as image:
                width, height = image.size
                if (height, width) != picture.shape[:2]:
                    return f"its map has {width}x{height} pixels, it has {picture.shape[1]}x{picture.shape[0]}"
                if image.mode not in {"L", "P"}:
                    return "its map is no palette or grey picture of one byte a pixel"
                found = np.array(image)
        except UserError as error:
            return f"its map: {error.what}"
        known = found[found != VOID]
        if not known.size:
            return f"its map knows no class: {VOID} everywhere"
        if int(known.max()) >= self.classes:
            return f"its map has class {int(known.max())}, and the network scores {self.classes}, from 0"
        return found


def labels_of(folders: Sequence[str], classes: int) -> Labels | None:
    """The maps of these folders or files, PNG all of them: others may lose numbers. None without folders.

    Raises:
        UserError: a folder that is not there or holds no map, or two maps of one name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            paths = [path for path in list_pictures(folder) if path.suffix.lower() == ".png"]
        except UserError as error:
            raise UserError(f"`--labels`: {error.what}", _MAPS, "Check the path") from None
        if not paths:
            raise UserError(f"`--labels {folder}`: holds no PNG file", _MAPS, "Convert maps to PNG")
        for path in paths:
            if path.stem in found:
                raise UserError(
                    f"`--labels`: `{found[path.stem]}` and `{path}` are maps of one name",
                    "one map for a picture, told by their names",
                    "Rename one of them and its picture",
                )
            found[path.stem] = path
    return Labels(found, classes) if folders else None


_MAPS = "folders with PNG maps of classes, named as their pictures"


def check_maps(
    labels: Labels | None, pictures: Sequence[tuple[str, Picture]], option: str, least_side: int = 1
) -> None:
    """
    Raises:
        UserError: one of these pictures, which shall be judged, is smaller than `least_side` pixels, or has no map that
            can be used.
    """
    for name, picture in pictures:
        height, width = picture.shape[:2]
        reason = labels.of(name, picture) if labels else "maps of classes are missing"
        if min(height, width) < least_side:
            reason = f"{width}x{height} pixels, and {least_side} a side are needed"
        if isinstance(reason, str):
            raise UserError(
                f"`{option}`: {name}: {reason}",
                "a map in --labels for every picture",
                "Give it, or leave the picture out",
            )

"""Where training pictures come from: folders, and the generator. Numbers → pictures; broken ones are left out."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reference_models.errors import UserError
from reference_models.pictures import Picture, list_pictures, opened, read_picture
from reference_models.training.labelled import ClassMap, Labels, labelled_scene
from reference_models.training.scenes import scene

GENERATED = 64
"""Different pictures of the generator, so that what an operator makes of them can be kept."""
GENERATED_SIZES = ((480, 320), (640, 480), (960, 640))
LOOKED_AT = 5000
"""Files whose headers are read before anything starts: a second or two."""
KEPT_BYTES = 512 << 20
"""Of decoded pictures."""


@dataclass
class Pictures:
    """The pictures of folders, decoded when they are needed. A picture that cannot be read, or that is smaller than
    `least_side`, is left out, and its place taken by the next one."""

    paths: Sequence[Path]
    least_side: int = 1
    broken: dict[str, str] = field(default_factory=dict)
    """File name → why it was left out; what only decoding shows is found as pictures are asked for."""
    scenes: Sequence[int] = ()
    """Of every path, where folders are scenes."""
    labels: Labels | None = None
    """Where every picture needs a map of its classes: one that has none is left out."""
    _kept: OrderedDict[int, Picture] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, number: int) -> tuple[int, Picture]:
        """The number and the picture of the first usable one from `number` on, around the end.

        Raises:
            UserError: none is usable.
        """
        for offset in range(len(self.paths)):
            found = self._usable((number + offset) % len(self.paths))
            if found is not None:
                return (number + offset) % len(self.paths), found
        name, reason = next(iter(self.broken.items()))
        option = "--scenes" if self.scenes else "--images"
        raise UserError(
            f"`{option}`: none of {len(self.paths)} pictures can be used; {name}: {reason}",
            f"pictures with sides of at least {self.least_side}" + " and maps of their names" * bool(self.labels),
            "Give another folder, or a smaller --crop",
        )

    def look_at_headers(self) -> None:
        """Leaves out what its header alone shows to be no use, in folders of up to LOOKED_AT files."""
        for path in self.paths if len(self.paths) <= LOOKED_AT else ():
            try:
                with opened(path) as image:
                    width, height = image.size
            except UserError as error:
                self.broken[str(path)] = error.what
                continue
            if min(width, height) < self.least_side:
                self.broken[str(path)] = f"{width}x{height} pixels"
            elif self.labels and (reason := self.labels.why_not(path.name)):
                self.broken[str(path)] = reason

    def _usable(self, number: int) -> Picture | None:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        path = self.paths[number]
        if str(path) in self.broken:
            return None
        try:
            picture = read_picture(path)
        except UserError as error:
            self.broken[str(path)] = error.what
            return None
        if min(picture.shape[:2]) < self.least_side:
            self.broken[str(path)] = f"{picture.shape[1]}x{picture.shape[0]} pixels"
            return None
        if self.labels and isinstance(reason := self.labels.of(path.name, picture), str):
            self.broken[str(path)] = reason
            return None
        self._keep(number, picture)
        return picture

    def class_map(self, number: int, picture: Picture) -> ClassMap:
        """The map of a picture that `picture` gave."""
        assert self.labels is not None
        found = self.labels.of(self.paths[number].name, picture)
        assert not isinstance(found, str), found
        return found

    def _keep(self, number: int, picture: Picture) -> None:
        self._kept[number] = picture
        self._bytes += picture.nbytes
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def pictures_of(
    folders: Sequence[str], least_side: int = 1, scenes: bool = False, labels: Labels | None = None
) -> Pictures:
    """The pictures of these folders or files, in the order of their names; `scenes`: every folder is one; `labels`:
    those without a map are left out as they are met.

    Raises:
        UserError: a folder that is not there or holds no picture, or two pictures that would share a map.
    """
    found = [(number, path) for number, folder in enumerate(folders) for path in list_pictures(folder)]
    numbers = [number for number, _ in found] if scenes else []
    stems = Counter(path.stem for _, path in found)
    if labels and stems and max(stems.values()) > 1:
        twice = " and ".join(f"`{path}`" for _, path in found if path.stem == stems.most_common(1)[0][0])
        raise UserError(
            f"`--images`: {twice} have one name",
            "names that tell which map is whose",
            "Rename all but one, and its map",
        )
    return Pictures([path for _, path in found], least_side, scenes=numbers, labels=labels)


def scene_folders(path: Path) -> list[Path]:
    """The subfolders of a folder of scenes, in the order of their names, at most as many as the classifier has.

    Raises:
        UserError: it cannot be listed, or does not hold 2 to 205 folders.
    """
    from reference_models.networks.colorization import CLASSES

    try:
        found = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"`--scenes {path}`: cannot be listed ({error.strerror})", "a folder of folders", "Check the path"
        ) from None
    if not 2 <= len(found) <= CLASSES:
        raise UserError(
            f"`--scenes {path}`: holds {len(found)} folders",
            f"2 to {CLASSES}, one for every scene, with its pictures",
            "Without scenes give --images",
        )
    return found


def generated(number: int, least_side: int) -> Picture:
    """One of the GENERATED pictures of the generator, uint8 RGB, no side below `least_side`."""
    return scene(*_sides(number, least_side), seed=number)


def generated_with_map(number: int, least_side: int) -> tuple[Picture, ClassMap]:
    """One of the endless pictures of the generator whose leaves have classes, and its map."""
    return labelled_scene(*_sides(number, least_side), seed=number)


def _sides(number: int, least_side: int) -> tuple[int, int]:
    """Width and height of a generated picture, lying and standing in turn."""
    width, height = (max(side, least_side) for side in GENERATED_SIZES[number % len(GENERATED_SIZES)])
    return (width, height) if number % 2 else (height, width)


def resized(picture: Picture, factor: float, least_side: int) -> Picture:
    """The picture with its sides times `factor` (Lanczos, antialiased), no side below `least_side`."""
    from PIL import Image

    height, width = picture.shape[:2]
    factor = max(factor, least_side / min(height, width))
    if factor == 1:
        return picture
    size = max(least_side, round(width * factor)), max(least_side, round(height * factor))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))

"""Folders that `bench train` is given: scenes, and pictures that are judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reference_models.errors import UserError

if TYPE_CHECKING:
    from reference_models.pictures import Picture


def scenes_of(scenes: str | None, images: str | None) -> list[str]:
    """The folders of the scenes; none where `--scenes` is not given.

    Raises:
        UserError: --images beside them, or no folders in there.
    """
    from reference_models.training.sources import scene_folders

    if scenes is None:
        return []
    if images is not None:
        raise UserError("`--scenes` with `--images`", "one of the two", "Put all pictures into folders of scenes")
    return [str(folder) for folder in scene_folders(Path(scenes))]


def judged_folder(word: str) -> tuple[str, Sequence[tuple[str, Picture]]]:
    """`NAME=DIR` of `--judge` → the name, and the folder's pictures.

    Raises:
        UserError: another form, or no pictures there.
    """
    name, equals, folder = word.partition("=")
    if not (name and equals and folder):
        raise UserError(f"`--judge {word}`: not of the form", "NAME=DIR", "Such as Set5=pictures/set5")
    return name, read_folder(folder)


def read_folder(folder: str) -> list[tuple[str, Picture]]:
    """Name and content of every picture of a folder.

    Raises:
        UserError: no pictures there, or one that cannot be read.
    """
    from reference_models.pictures import list_pictures, read_picture

    return [(path.name, read_picture(path)) for path in list_pictures(folder)]

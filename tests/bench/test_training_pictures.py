"""Folders of `bench train` are read whole, or refused with what was expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.training_pictures import judged_folder, read_folder, scenes_of
from reference_models.errors import UserError
from reference_models.pictures import write_picture


def filled(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        write_picture(folder / name, np.full((4, 6, 3), number, np.uint8))
    return folder


def test_a_folder_is_read_with_names(tmp_path: Path) -> None:
    found = read_folder(str(filled(tmp_path / "set", "a.png", "b.png")))
    assert [(name, int(picture[0, 0, 0])) for name, picture in found] == [("a.png", 0), ("b.png", 1)]


def test_a_judged_folder_has_a_name(tmp_path: Path) -> None:
    folder = filled(tmp_path / "set", "a.png")
    name, found = judged_folder(f"Set5={folder}")
    assert (name, [each for each, _ in found]) == ("Set5", ["a.png"])
    for word in (str(folder), f"={folder}", "Set5="):
        with pytest.raises(UserError, match="not of the form"):
            judged_folder(word)


def test_scenes_are_the_folders_of_a_folder(tmp_path: Path) -> None:
    filled(tmp_path / "all" / "coast", "a.png")
    filled(tmp_path / "all" / "forest", "b.png")
    scenes = str(tmp_path / "all")
    assert scenes_of(None, "photos") == []
    assert [Path(folder).name for folder in scenes_of(scenes, None)] == ["coast", "forest"]
    with pytest.raises(UserError, match="--scenes` with `--images"):
        scenes_of(scenes, "photos")

"""Pictures with classes: scenes and their maps, folders of maps, and what is said of maps that do not fit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reference_models.errors import UserError
from reference_models.training.labelled import (
    CLASSES,
    SURFACES,
    VOID,
    check_maps,
    classes_in_words,
    labelled_scene,
    labels_of,
)
from reference_models.training.sources import pictures_of

PICTURE = np.zeros((6, 8, 3), np.uint8)


def _map(folder: Path, name: str, values: np.ndarray, palette: bool = False) -> None:
    image = Image.fromarray(values)
    if palette:
        image = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
        image.putpalette([channel for n in range(256) for channel in (n * 7 % 256, n * 5 % 256, n * 3 % 256)])
    image.save(folder / f"{name}.png")


def test_every_class_has_a_name_and_turns_up_in_some_scene() -> None:
    names = re.findall(r"\d+ ([a-z ]+)", classes_in_words())
    assert len(names) == len(set(names)) == CLASSES == 21
    found = np.unique(np.concatenate([labelled_scene(320, 240, seed)[1].ravel() for seed in range(12)]))
    assert found.tolist() == list(range(CLASSES))


def test_the_same_seed_gives_the_same_scene_and_another_one_another() -> None:
    first, again, other = (labelled_scene(90, 70, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (70, 90, 3)
    assert first[1].shape == (70, 90)


def test_plain_leaves_have_one_colour_and_others_two() -> None:
    """Told from the map alone: the map lies where the picture says so."""
    plain, others = [], []
    for seed in range(60):
        picture, classes = labelled_scene(240, 160, seed)
        for number in np.unique(classes[classes > 0]):
            where = classes == number
            if where.sum() >= 400:
                steps = np.abs(np.diff(picture.astype(int), axis=1)).sum(2)[where[:, 1:] & where[:, :-1]]
                (plain if (number - 1) % len(SURFACES) == 0 else others).append(float(steps.mean()))
    assert np.median(plain) * 3 < np.median(others)


def test_maps_are_found_by_name_grey_or_with_a_palette(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint8).reshape(6, 8) % 21
    values[0, 0] = VOID
    _map(tmp_path, "grey", values)
    _map(tmp_path, "palette", values, palette=True)
    labels = labels_of([str(tmp_path)], 21)
    assert labels is not None
    for name in ("grey.jpg", "palette.jpg"):
        found = labels.of(name, PICTURE)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((6, 7), np.uint8), "its map has 7x6 pixels, it has 8x6"),
        (np.full((6, 8), 21, np.uint8), "class 21, and the network scores 21, from 0"),
        (np.zeros((6, 8, 3), np.uint8), "one byte a pixel"),
        (np.full((6, 8), VOID, np.uint8), "knows no class"),
        (np.zeros((9000, 8000), np.uint8), "too large, 8000x9000"),
        (None, "no map of its name"),
    ],
)
def test_a_map_that_does_not_fit_is_said(values: np.ndarray | None, reason: str, tmp_path: Path) -> None:
    _map(tmp_path, "other", np.zeros((6, 8), np.uint8))
    if values is not None:
        _map(tmp_path, "a", values)
    labels = labels_of([str(tmp_path)], 21)
    assert labels is not None
    found = labels.of("a.jpg", PICTURE)
    assert isinstance(found, str)
    assert reason in found
    with pytest.raises(UserError, match=r"--judge own.*a\.jpg"):
        check_maps(labels, [("a.jpg", PICTURE)], "--judge own")


@pytest.mark.parametrize("content", [b"no picture", b"", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_map_that_is_no_picture_is_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    labels = labels_of([str(tmp_path)], 21)
    assert labels is not None
    assert str(labels.of("a.jpg", PICTURE)).startswith("its map: picture")


def test_maps_must_be_told_apart_and_lose_nothing(tmp_path: Path) -> None:
    for name in ("one", "two", "lossy"):
        (tmp_path / name).mkdir()
        Image.fromarray(PICTURE[..., 0]).save(tmp_path / name / ("a.jpg" if name == "lossy" else "a.png"))
    with pytest.raises(UserError, match="maps of one name"):
        labels_of([str(tmp_path / "one"), str(tmp_path / "two")], 21)
    with pytest.raises(UserError, match=r"--labels.*lossy`: holds no PNG file"):
        labels_of([str(tmp_path / "lossy")], 21)
    with pytest.raises(UserError, match=r"`--labels`: .*absent.*cannot be found"):
        labels_of([str(tmp_path / "absent")], 21)
    with pytest.raises(UserError, match=r"--images.* have one name"):
        pictures_of([str(tmp_path / "one"), str(tmp_path / "lossy")], labels=labels_of([str(tmp_path / "one")], 21))


def test_without_folders_there_are_no_labels_and_pictures_need_some() -> None:
    assert labels_of([], 21) is None
    with pytest.raises(UserError, match="maps of classes are missing"):
        check_maps(None, [("a.jpg", PICTURE)], "--validation")
    with pytest.raises(UserError, match="8x6 pixels, and 16 a side are needed"):
        check_maps(None, [("a.jpg", PICTURE)], "--validation", 16)

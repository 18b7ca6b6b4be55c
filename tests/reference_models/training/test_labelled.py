"""Pictures with classes: scenes and their maps, folders of maps, and what is said of maps that do not fit."""

from __future__ import annotations

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
    class_names,
    labelled_scene,
    labels_of,
)

PICTURE = np.zeros((6, 8, 3), np.uint8)


def _map(folder: Path, name: str, values: np.ndarray, palette: bool = False) -> None:
    image = Image.fromarray(values)
    if palette:
        image = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
        image.putpalette([channel for n in range(256) for channel in (n * 7 % 256, n * 5 % 256, n * 3 % 256)])
    image.save(folder / f"{name}.png")


def test_every_class_has_a_name_and_turns_up_in_some_scene() -> None:
    assert len(class_names()) == len(set(class_names())) == CLASSES == 21
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


def test_a_map_that_is_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    labels = labels_of([str(tmp_path)], 21)
    assert labels is not None
    assert "cannot be read" in str(labels.of("a.jpg", PICTURE))


def test_without_folders_there_are_no_labels_and_pictures_need_some() -> None:
    assert labels_of([], 21) is None
    with pytest.raises(UserError, match="no --labels"):
        check_maps(None, [("a.jpg", PICTURE)], "--validation")

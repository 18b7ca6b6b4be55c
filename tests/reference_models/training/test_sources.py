"""Folders of pictures: what is broken or too small is left out with its reason; the generator's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference_models.errors import UserError
from reference_models.pictures import write_picture
from reference_models.training import sources
from reference_models.training.sources import GENERATED, generated, pictures_of, resized


def save(path: Path, level: int, side: int = 20) -> None:
    write_picture(path, np.full((side, side + 1, 3), level, np.uint8))


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for level in (30, 10, 20):
        save(tmp_path / f"{level}.png", level)
    pictures = pictures_of([str(tmp_path)])
    assert [pictures.picture(i)[1].max() for i in range(3)] == [10, 20, 30]


def test_a_broken_or_small_picture_is_left_out_with_its_reason_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    save(tmp_path / "b.png", 1, side=5)
    save(tmp_path / "c.png", 99)
    pictures = pictures_of([str(tmp_path)], least_side=10)
    for number in range(3):
        found, picture = pictures.picture(number)
        assert (found, picture.max()) == (2, 99)
    reasons = {Path(name).name: reason for name, reason in pictures.broken.items()}
    assert "not a picture" in reasons["a.png"]
    assert reasons["b.png"] == "6x5 pixels"


def test_a_folder_without_a_usable_picture_is_refused_with_one_reason(tmp_path: Path) -> None:
    save(tmp_path / "b.png", 1, side=5)
    with pytest.raises(UserError, match=r"none of 1 pictures can be used; .*b.png: 6x5 pixels.*at least 10"):
        pictures_of([str(tmp_path)], least_side=10).picture(0)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_that_holds_none_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        pictures_of([str(tmp_path / name)])


def test_no_folder_is_no_picture() -> None:
    assert len(pictures_of([])) == 0


def test_decoded_pictures_are_kept_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level in range(4):
        save(tmp_path / f"{level}.png", level)
    monkeypatch.setattr(sources, "KEPT_BYTES", 2 * 20 * 21 * 3)
    pictures = pictures_of([str(tmp_path)])
    for number in (0, 1, 2, 3, 0):
        assert pictures.picture(number)[1].max() == number
    assert len(pictures._kept) == 2


def test_generated_pictures_are_few_and_of_both_orientations() -> None:
    made = [generated(number, least_side=64) for number in range(2)]
    assert {picture.shape[0] > picture.shape[1] for picture in made} == {True, False}
    assert GENERATED <= 100
    assert min(generated(0, least_side=400).shape[:2]) == 400


def test_resizing_keeps_the_least_side() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    assert resized(picture, 0.5, 10).shape == (20, 30, 3)
    assert resized(picture, 0.5, 30).shape == (30, 45, 3)
    assert resized(picture, 2, 10).shape == (80, 120, 3)
    assert resized(picture, 1, 10) is picture

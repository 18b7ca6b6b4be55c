"""Batches: sizes, correspondence of input and target, and that each is a function of seed and step alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reference_models import get, tasks
from reference_models.errors import UserError
from reference_models.pictures import write_picture
from reference_models.resample import imresize
from reference_models.training import crops
from reference_models.training.crops import Batches, Plan, least_side
from reference_models.training.pairs import UNKNOWN
from reference_models.training.sources import pictures_of, scene_folders


@pytest.fixture(autouse=True)
def few_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "OPEN_SCENES", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for number in range(3):
        coarse = rng.random((3, 12, 16)) * 255
        smooth = imresize(coarse, 60, 80).clip(0, 255).astype(np.uint8)
        write_picture(path / f"{number}.png", smooth.transpose(1, 2, 0))
    return str(path)


def plan(folder: str, model: str = "espcn_x3", task: str = "super-resolution x3", **changes: object) -> Plan:
    pictures = pictures_of([folder] if folder else [])
    made = Plan(tasks.get(task), get(model), pictures, 0, batch=3, crop_px=48, generated=0.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_sizes_are_those_of_the_network(folder: str) -> None:
    x, y = Batches(plan(folder)).batch(0)
    assert (x.shape, y.shape) == ((3, 1, 16, 16), (3, 1, 48, 48))
    assert x.dtype == y.dtype == np.float32


def test_scenes_are_those_of_the_folders(tmp_path: Path) -> None:
    """Pictures of one scene are black, of the other white, so that crops tell."""
    for name, level in (("night", 0), ("snow", 255)):
        (tmp_path / name).mkdir()
        for number in range(2):
            write_picture(tmp_path / name / f"{number}.png", np.full((60, 60, 3), level, np.uint8))
    folders = scene_folders(tmp_path)
    assert [folder.name for folder in folders] == ["night", "snow"]
    pictures = pictures_of([str(folder) for folder in folders], scenes=True)
    made = plan("", "espcn_x3", "super-resolution x3", pictures=pictures, generated=0.3, batch=8)
    seen = set()
    for step in range(20):
        _, y, scenes = Batches(made).batch(step)
        for crop, scene in zip(y, scenes, strict=True):
            plain = np.nanmin(crop) == np.nanmax(crop)
            assert (scene == UNKNOWN) != plain
            assert not plain or scene == (np.nanmax(crop) > 0.5)
            seen.add(int(scene))
    assert seen == {UNKNOWN, 0, 1}


@pytest.mark.parametrize("number", [0, 1, 206])
def test_a_classifier_needs_several_scenes_and_has_205(tmp_path: Path, number: int) -> None:
    for name in range(number):
        (tmp_path / str(name)).mkdir()
    with pytest.raises(UserError, match=f"holds {number} folders.*2 to 205"):
        scene_folders(tmp_path)


def test_input_and_target_show_the_same_place(folder: str) -> None:
    """Reducing the target gives the input again, but for what lies beyond the crop; turned alike, too."""
    for step in range(10):
        for x, y in zip(*Batches(plan(folder)).batch(step), strict=True):
            again = imresize(y[:, 12:-12, 12:-12], 8, 8)
            assert np.abs(again - x[:, 4:-4, 4:-4])[:, 2:-2, 2:-2].max() < 0.01


def test_a_batch_is_a_function_of_seed_and_step_alone(folder: str) -> None:
    """The one drawn by a run that was there from the beginning is that of one that goes on from there."""
    from_the_start = Batches(plan(folder))
    for step in range(12):
        wanted = from_the_start.batch(step)
    found = Batches(plan(folder)).batch(11)
    np.testing.assert_array_equal(wanted[0], found[0])
    np.testing.assert_array_equal(wanted[1], found[1])
    assert (Batches(plan(folder, seed=1)).batch(11)[0] != found[0]).any()
    assert (Batches(plan(folder)).batch(12)[0] != found[0]).any()


def test_pictures_are_exchanged_and_all_of_them_come(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, asked = Batches(plan(folder)), []
    real = batches.plan.pictures.picture
    monkeypatch.setattr(type(batches.plan.pictures), "picture", lambda self, n: (asked.append(n), real(n))[1])
    for step in range(40):
        batches.batch(step)
        assert len(batches._open) <= crops.OPEN_SCENES
    assert set(asked) == {0, 1, 2}


def test_crops_are_turned_and_mirrored(folder: str) -> None:
    """A ramp from left to right is met in all four directions."""
    ramp = np.linspace(0, 255, 60)[None, :, None].repeat(60, 0).repeat(3, 2).astype(np.uint8)
    write_picture(Path(folder) / "ramp.png", ramp)
    pictures = pictures_of([f"{folder}/ramp.png"])
    directions = set()
    for step in range(20):
        for crop in Batches(plan(folder, pictures=pictures)).batch(step)[1][:, 0]:
            inner = crop[12:-12, 12:-12]
            dy, dx = inner[-1].mean() - inner[0].mean(), inner[:, -1].mean() - inner[:, 0].mean()
            directions.add((round(float(np.sign(dy)) if abs(dy) > abs(dx) else 0), abs(dx) >= abs(dy) and dx > 0))
    (Path(folder) / "ramp.png").unlink()
    assert directions == {(1, False), (-1, False), (0, True), (0, False)}


def test_what_the_network_would_see_beyond_the_crop_is_not_judged(folder: str) -> None:
    """ESPCN sees 4 pixels around; the picture's own border is what it meets in use, and is judged."""
    batches = Batches(plan(folder, batch=40))
    assert batches.margin_px == 4
    hidden = np.isnan(batches.batch(0)[1][:, 0])
    inner = hidden[:, 12:-12, 12:-12]
    assert not inner.any()
    sides = [hidden[:, 0, 24], hidden[:, -1, 24], hidden[:, 24, 0], hidden[:, 24, -1]]
    assert all(0 < side.mean() < 1 for side in sides)
    assert (hidden[:, 0, 24] == hidden[:, 11, 24]).all()


def test_a_network_that_sees_further_than_the_crop_is_judged_everywhere(folder: str) -> None:
    batches = Batches(plan(folder, "red30", "denoising sigma 30"))
    assert batches.margin_px == 0
    assert not np.isnan(batches.batch(0)[1]).any()


def test_noise_is_new_in_every_crop_and_of_its_deviation(folder: str) -> None:
    x, y = Batches(plan(folder, "red10", "denoising sigma 30", batch=40)).batch(0)
    x, y = (planes[:, :, 10:-10, 10:-10] for planes in (x, y))
    assert (x - y).std() == pytest.approx(30 / 255, rel=0.03)
    assert abs(np.corrcoef((x - y)[0].ravel(), (x - y)[1].ravel())[0, 1]) < 0.2


def test_mixed_tasks_draw_all_their_levels(folder: str) -> None:
    batches = Batches(plan(folder, "red10", "denoising mixed"))
    assert {round(batches.made_pair(n).sigma * 255) for n in range(40)} == {10, 30, 50, 70}


def test_targets_are_in_the_networks_range(folder: str) -> None:
    _, y = Batches(plan(folder, "srgan_x4", "super-resolution x4")).batch(0)
    assert np.nanmin(y) < -0.2


def test_operators_may_see_pictures_enlarged_and_others_may_not() -> None:
    assert least_side(tasks.get("rof"), 448) == 224
    assert least_side(tasks.get("super-resolution x3"), 120) == 120


def test_without_pictures_all_are_generated() -> None:
    made = plan("", pictures=pictures_of([]))
    x, _ = Batches(made).batch(0)
    assert x.shape == (3, 1, 16, 16)

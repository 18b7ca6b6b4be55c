"""Judging: the convention of the papers, met on published figures, and the baselines."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reference_models import get, operators, tasks
from reference_models.pictures import list_pictures, read_picture
from reference_models.training.judging import (
    Trial,
    baseline_psnr,
    convention,
    held_out_scenes,
    mean_iou_percent,
    psnr_of,
    reached,
    reached_without,
    trials_of,
)
from reference_models.training.pairs import Pair
from reference_models.training.targets import Targets

PICTURE = np.random.default_rng(0).integers(40, 200, (30, 36, 3), np.uint8)


class Shifted(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


def test_a_constant_error_gives_its_own_decibels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "get", lambda name: lambda picture: picture)
    found = trials_of(tasks.get("l0_smoothing"), get("can24"), [("a", PICTURE)], Targets())
    assert psnr_of(Shifted(0.1), get("can24"), found) == [pytest.approx(20, abs=1e-3)]
    assert psnr_of(Shifted(0), get("can24"), found) == [math.inf]


def test_values_are_clipped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "get", lambda name: lambda picture: picture)
    white = np.full((8, 8, 3), 255, np.uint8)
    found = trials_of(tasks.get("l0_smoothing"), get("can24"), [("a", white)], Targets())
    assert psnr_of(Shifted(3), get("can24"), found) == [math.inf]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_on_set5_is_that_of_the_published_tables(originals: Path, scale: int) -> None:
    pictures = [(path.stem, read_picture(path)) for path in list_pictures(originals / "datasets" / "Set5")]
    found = trials_of(tasks.get(f"super-resolution x{scale}"), get(f"espcn_x{scale}"), pictures, Targets())
    with (originals / "vdsr" / "psnr.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["scale"] == str(scale)]
    column = next(name for name in rows[0] if "bicubic" in name)
    # The published x4 cuts for x2 and x3 first.
    assert fmean(baseline_psnr(found)) == pytest.approx(fmean(float(row[column]) for row in rows), abs=0.02)


def test_noise_is_the_same_every_time_and_of_its_level() -> None:
    spec, task = get("red10"), tasks.get("denoising sigma 30")
    first, second = (trials_of(task, spec, [("a", PICTURE)], Targets()) for _ in range(2))
    assert baseline_psnr(first) == baseline_psnr(second)
    assert baseline_psnr(first)[0] == pytest.approx(20 * math.log10(255 / 30), abs=0.8)  # clipping takes some


def test_the_convention_says_planes_and_border() -> None:
    assert "3 pixels cut" in convention(tasks.get("super-resolution x3"), get("espcn_x3"))
    assert convention(tasks.get("rof"), get("can32")).startswith("R, G, B")
    found = trials_of(tasks.get("super-resolution x3"), get("espcn_x3"), [("a", PICTURE)], Targets())
    assert found[0].border_px == 3


def test_grey_is_what_colours_are_held_against() -> None:
    found = trials_of(tasks.get("colorization"), get("colorization"), [("a", PICTURE)], Targets())
    grey = np.full_like(found[0].pair.target, 0.5)
    error = float(np.mean((grey - found[0].pair.target) ** 2))
    assert baseline_psnr(found) == [pytest.approx(-10 * math.log10(error), abs=1e-3)]


def test_networks_are_judged_in_eval_mode() -> None:
    model = nn.Dropout(0.5)
    found = trials_of(tasks.get("denoising sigma 30"), get("red10"), [("a", PICTURE)], Targets())
    assert psnr_of(model, get("red10"), found) == baseline_psnr(found)
    assert isinstance(model(torch.ones(1)), Tensor)


def test_mean_iou_counts_pixels_of_all_pictures_and_no_unknown_ones() -> None:
    """Class 0: 3 of 5 in the union, class 1: 2 of 4, by hand; class 2 is nowhere."""
    target = np.array([[[0, 0, 0, 1], [1, 1, np.nan, np.nan]]], np.float32), np.array([[[0]]], np.float32)
    found = np.array([[[0, 0, 1, 1], [1, 0, 1, 2]]], np.float32), np.array([[[0]]], np.float32)
    trials = [Trial("a", Pair(one, one), 0) for one in target]
    assert mean_iou_percent(found, trials) == pytest.approx(100 * (3 / 5 + 2 / 4) / 2)
    scores = [np.eye(3, dtype=np.float32)[f[0].astype(int)].transpose(2, 0, 1) for f in found]
    assert mean_iou_percent(scores, trials) == pytest.approx(100 * (3 / 5 + 2 / 4) / 2)


class Told(nn.Module):
    """Scores that are right, for one scene after the other."""

    def __init__(self, trials: list[Trial]) -> None:
        super().__init__()
        self.todo = [torch.from_numpy(trial.pair.target[0]).long() for trial in trials]

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(self.todo.pop(0), 21).permute(2, 0, 1)[None].float()


def test_scenes_that_are_held_out_judge_a_network_of_classes() -> None:
    spec, task = get("pixel_dcn"), tasks.get("segmentation")
    trials = held_out_scenes(spec)
    assert all(side % spec.size_multiple == 0 for trial in trials for side in trial.pair.input.shape[1:])
    assert reached(task, Told(trials), spec, trials) == 100
    ground = np.mean([np.mean(trial.pair.target == 0) for trial in trials])
    assert reached_without(task, trials) == pytest.approx(100 * ground / 21, rel=0.1)

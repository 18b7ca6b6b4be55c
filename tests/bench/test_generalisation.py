"""The worker's job behind `bench evaluate --original`: what it makes of pictures and graphs that give no figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bench.generalisation
import reference_models
from bench.generalisation import generalise
from export.recipe import Recipe

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def job(cache: Path, tmp_path: Path) -> Job:
    def make(*pictures: Path | None, **changes: Any) -> dict[str, Any]:
        weights = {"name": "bsds", "file": None, "trained": False, "sha256": None}
        return {
            "job": "generalise", "spec": reference_models.get("espcn_x3").to_json(), "original": "super-resolution x3",
            "weights": [weights], "statistics": [None], "calibration": None, "threads": 1, "fp32": True,
            "lowerings": [], "sets": [("s", [str(path) if path else None for path in pictures])],
            "size": (90, 60), "targets": str(tmp_path / "targets"),
        } | changes  # fmt: skip

    return make


def picture(path: Path, height: int, width: int) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def silent(event: str, **fields: Any) -> None:
    pass


def test_a_picture_that_is_too_small_is_a_row_with_its_reason(job: Job, tmp_path: Path) -> None:
    small, large = picture(tmp_path / "a.png", 5, 6), picture(tmp_path / "b.png", 60, 48)
    rows = generalise(job(small, large, size=None), silent)["rows"]
    assert [row["reason"] for row in rows] == ["a.png: 6x5 pixels, and 17 a side are needed"] * 2 + [None] * 2
    assert ["quality" in row for row in rows] == [False, False, True, True]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_output_that_is_not_finite_is_no_good_picture(
    value: float, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def run(self, *_: Any) -> list[np.ndarray]:
            return [np.full((1, 1, 60, 90), value, np.float32)]

    monkeypatch.setattr(bench.generalisation, "strict_session", lambda *_: Broken())
    quality = generalise(job(None), silent)["rows"][1]["quality"]
    assert (quality["finite"], quality["psnr_db"]) == (False, None)


def test_a_precision_that_does_not_fit_is_a_row_with_its_reason(job: Job) -> None:
    recipe = Recipe("int8", kept=("no such layer",)).to_dict()
    lowering = {"key": "low", "statistics": None, "recipe": recipe, "engine": "tensorrt", "options": {}}
    rows = generalise(job(None, lowerings=[lowering]), silent)["rows"]
    assert [row["precision"] for row in rows] == [None, "fp32", "int8"]
    assert "no such layer" in rows[2]["reason"]

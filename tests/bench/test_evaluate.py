"""The worker's job of `bench evaluate`: figures against FP32 of the same statistics, for every size and picture."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import reference_models
from bench.evaluate import evaluate
from export.recipe import Recipe


@pytest.fixture
def job(cache):
    spec = reference_models.get("can", {"depth": 3, "width": 8})

    def make(*recipes, sizes=None, pictures=(("the default", None),), statistics="image"):
        lowerings = [
            {"key": str(i), "statistics": statistics, "recipe": recipe.to_dict(), "engine": "null", "options": {}}
            for i, recipe in enumerate(recipes)
        ]
        return {
            "job": "evaluate", "spec": spec.to_json(), "weights": None, "statistics": [statistics],
            "calibration": None, "threads": 1, "lowerings": lowerings, "pictures": pictures,
            "sizes": sizes or {"64x48": (64, 48)},
        }  # fmt: skip

    return make


def rows_of(job):
    rows = []

    def emit(event, **fields):
        if event == "row":
            rows.append(fields["row"])

    assert evaluate(job, emit) == {}
    return rows


def test_a_row_for_every_precision_size_and_picture(job, tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    pictures = [("the default", None), ("noise.png", str(path))]
    sizes = {"64x48": (64, 48), "32x40": (32, 40)}
    asked = job(Recipe("fp16"), Recipe("int8", recovery="none"), sizes=sizes, pictures=pictures)
    rows = rows_of(asked)
    found = {(row["recipe"]["precision"], row["resolution"], row["picture"]) for row in rows}
    assert len(rows) == len(found) == 8
    assert all(row["quality"]["finite"] and row["reason"] is None for row in rows)
    assert json.loads(json.dumps(rows)) == rows


def test_fewer_bits_are_further_from_fp32(job):
    recipes = [Recipe("fp16"), Recipe("bf16"), Recipe("int8", recovery="none"), Recipe("fp8")]
    rows = rows_of(job(*recipes))
    decibels = {row["recipe"]["precision"]: row["quality"]["psnr_db"] for row in rows}
    assert decibels["fp16"] > decibels["bf16"] + 6
    assert decibels["fp16"] > decibels["int8"] + 10
    assert decibels["fp16"] > 60


def test_what_does_not_fit_is_a_row_with_its_reason(job):
    rows = rows_of(job(Recipe("int8", kept=("absent",))))
    assert "quality" not in rows[0]
    assert "no layer `absent`" in rows[0]["reason"]

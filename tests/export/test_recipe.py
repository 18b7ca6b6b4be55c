"""Recipes come back from JSON as they were, and reading them loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from export.recipe import LOWERED, QUANTISED, Recipe


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("int8"),
        Recipe("int8+fp16", "integer", True, "entropy", "none", ("a", "b"), None),
        Recipe("auto", kept=("last",), floor_db=42.5),
        Recipe("int8", weight_bits=7),
    ],
)
def test_a_recipe_comes_back_from_json(recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_an_unknown_or_missing_entry_is_no_recipe():
    data = Recipe("int8").to_dict()
    with pytest.raises(TypeError, match="sharp"):
        Recipe.from_dict({**data, "sharp": True})
    with pytest.raises(KeyError):
        Recipe.from_dict({"precision": "int8"})


def test_eight_bits_are_left_out_as_in_runs_that_know_no_others():
    assert "weight_bits" not in Recipe("int8").to_dict()
    assert Recipe("int8", weight_bits=7).to_dict()["weight_bits"] == 7


def test_every_quantised_precision_can_stand_in_a_graph():
    assert set(QUANTISED) < set(LOWERED)
    assert "fp32" not in LOWERED


def test_importing_loads_no_heavy_library():
    heavy = "{'torch', 'onnx', 'numpy', 'onnxruntime'}"
    code = f"import sys, export.recipe; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

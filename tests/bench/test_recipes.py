"""Words about quantised precisions become recipes, and those that do not fit are refused."""

from __future__ import annotations

import pytest

import engines
from bench.layers import Layers
from bench.recipes import check_lowering, recipe_for
from export.processor import exact_weight_bits
from export.recipe import Recipe
from reference_models.errors import UserError

LAST = Layers("layers.json", ("last",), None)


def test_choices_that_fit_are_not_refused() -> None:
    check_lowering(["fp32"], {"clipping": "mse", "recovery": "fast"}, ["can24"])
    check_lowering(["auto", "fp32"], {"floor_db": 42.0}, ["can24"])
    check_lowering(["int8+fp16", "auto"], {"floor_db": 42.0, "layers": LAST}, ["can24"])


def test_halves_have_nothing_to_choose() -> None:
    engine = engines.get("tensorrt")
    assert recipe_for(engine, "cuda:0", "fp16", {"clipping": "entropy"}) == Recipe("fp16")
    assert recipe_for(engine, "cuda:0", "tf32", {}) is None
    assert recipe_for(engine, "cuda:0", "int8+fp16", {"clipping": "entropy"}) == Recipe("int8+fp16", clipping="entropy")


def test_bits_of_weights_are_the_engine_s_choice_unless_asked_for() -> None:
    cpu, gpu = engines.get("onnxruntime"), engines.get("tensorrt")

    def bits(engine: engines.Engine, device: str, precision: str, **asked: int) -> int:
        recipe = recipe_for(engine, device, precision, asked)
        assert recipe is not None
        return recipe.weight_bits

    assert bits(cpu, "cpu", "int8") == exact_weight_bits()
    assert bits(gpu, "cuda:0", "int8") == 8
    for asked in (7, 8):
        assert bits(cpu, "cpu", "int8", weight_bits=asked) == asked
        assert bits(gpu, "cuda:0", "int8+fp16", weight_bits=asked) == asked
        assert bits(gpu, "cuda:0", "fp8", weight_bits=asked) == 8


def test_layers_reach_the_recipe_of_those_that_are_not_searched_for() -> None:
    asked = {"layers": LAST, "floor_db": 42.0, "recovery": "none"}
    engine = engines.get("onnxruntime")
    found, searched = (recipe_for(engine, "cpu", name, asked) for name in ("int8", "auto"))
    assert found is not None
    assert searched is not None
    assert (found.kept, found.floor_db, found.recovery) == (("last",), None, "none")
    assert (searched.kept, searched.floor_db) == ((), 42.0)


def test_bits_of_weights_need_a_precision_that_has_them() -> None:
    for precision, floor in (("int8", None), ("int8+fp16", None), ("auto", 42.0)):
        check_lowering([precision, "fp32"], {"weight_bits": 7, "floor_db": floor}, [])
    with pytest.raises(UserError, match="`--weight-bits` with precision fp32, fp8"):
        check_lowering(["fp8", "fp32"], {"weight_bits": 7}, [])


def test_layers_of_another_model_are_refused() -> None:
    layers = Layers("layers.json", ("last",), "can32")
    check_lowering(["int8"], {"layers": layers}, ["can32"])
    with pytest.raises(UserError, match="those of `can32`"):
        check_lowering(["int8"], {"layers": layers}, ["can32", "can24"])

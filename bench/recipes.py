"""What the command line asks of quantised precisions → recipes; no heavy library is loaded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import engines
from export.recipe import QUANTISED, Recipe
from reference_models.errors import UserError


def recipe_for(engine: engines.Engine, device: str, precision: str, asked: Mapping[str, Any]) -> Recipe | None:
    """The engine's recipe for a precision, with what the user asked for; None where it takes the FP32 graph."""
    recipe = engine.recipe(device, precision)
    if recipe is None or not recipe.calibrated:
        return recipe
    searched = precision == "auto"
    floor, layers = (asked.get("floor_db"), None) if searched else (None, asked.get("layers"))
    ways = {key: asked[key] for key in ("recovery", "clipping") if key in asked}
    if "weight_bits" in asked and precision != "fp8":
        ways["weight_bits"] = asked["weight_bits"]
    return replace(recipe, **ways, floor_db=floor, kept=layers.kept if layers else ())


def check_lowering(precisions: Sequence[str], asked: Mapping[str, Any], titles: Sequence[str]) -> None:
    """
    Args:
        titles: of the models that are asked for.

    Raises:
        UserError: `auto` without a floor, a floor or layers without a precision that they could be of, or layers of
            another model.
    """
    words = set(precisions)
    if "auto" in words and asked.get("floor_db") is None:
        raise UserError(
            "`--precision auto`: nothing says which quality has to be kept", "`--floor 42dB` or another", "Add --floor"
        )
    if "auto" not in words and asked.get("floor_db") is not None:
        raise UserError("`--floor`: only `--precision auto` searches", "--precision auto", "Add it, or drop --floor")
    if "layers" in asked and not words & set(QUANTISED):
        raise UserError(
            f"`--layers` with precision {', '.join(sorted(words))}", " or ".join(QUANTISED), "Choose one of these"
        )
    if "weight_bits" in asked and not words & {"int8", "int8+fp16", "auto"}:
        raise UserError(
            f"`--weight-bits` with precision {', '.join(sorted(words))}",
            "int8, int8+fp16 or auto",
            "Choose one of these, or leave it out",
        )
    for title in titles if "layers" in asked else ():
        asked["layers"].check_model(title)

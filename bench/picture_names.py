"""What the pictures of a case are called, so that no two cases of one folder overwrite each other's."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path

import engines
from bench.case import Case

_SHORT = {"floor_db": "{:g}dB", "weight_bits": "{}bit"}


def _recipe_words(case: Case) -> str:
    """What was asked of the recipe beyond what the engine takes by itself, short: it only tells files apart."""
    own = engines.get(case.engine).recipe(case.device, case.precision)
    if case.recipe is None or own is None or case.recipe == own:
        return ""
    asked = {name: value for name, value in asdict(case.recipe).items() if value != getattr(own, name)}
    kept = asked.pop("kept", None)
    words = [_SHORT.get(name, "{}").format(value) for name, value in asked.items()]
    return "-".join([*words, hashlib.sha256(repr(kept).encode()).hexdigest()[:8]] if kept else words)


def picture_files(case: Case) -> dict[str, str]:
    """Names of the first picture that goes in, of what FP32 makes of it, and of what the case makes of it.

    The first two do not depend on the engine: all cases of a network, its weights and a resolution share them.
    """
    weights = Path(case.weights_name).stem if case.weights and not case.spec.onnx else ""
    subject = [case.model, weights, case.resolution]
    tile = "" if case.tile == "off" else f"tile-{case.tile}"
    engine = [case.variant, case.precision, case.statistics or "", _recipe_words(case), tile]
    parts = {"input": [*subject, "input"], "reference": [*subject, "reference"], "output": [*subject, *engine]}
    return {kind: re.sub(r"[^\w.=+-]", "-", "-".join(filter(None, words))) + ".png" for kind, words in parts.items()}

"""FP32 network → the same network in another precision, which stands in its ONNX graph alone.

Input: a Network as export/to_onnx.py or export/own_onnx.py made it, and a Recipe. Output: a Network whose main graph
computes in that precision, and how it came to be. Cached by content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from export import qdq
from export.cache import code_sha256, made_once, picture_sha256
from export.calibration import calibration_inputs, further_inputs
from export.network import Network, file_sha256
from export.onnx_file import default_opset
from export.quantiser import Quantiser, original_graph
from export.ranges import Report
from export.recipe import HALF, QUANTISED, Recipe
from reference_models.errors import UserError
from reference_models.spec import ModelSpec


@dataclass(frozen=True)
class LoweringRequest:
    """What a lowered network's files depend on."""

    network: Network
    spec: ModelSpec
    recipe: Recipe
    pictures: Sequence[np.ndarray] = ()
    """Calibration, (H, W, 3) uint8 RGB; quantised precisions need at least one."""


def lowered_network(request: LoweringRequest, cache: Path, report: Report = lambda what, share: None) -> Network:
    """The network in the recipe's precision; inputs and outputs stay FP32.

    Raises:
        UserError: calibration pictures that cannot be used, or a network that this precision does not fit.
    """
    network, recipe = request.network, request.recipe
    if recipe.precision not in {*HALF, *QUANTISED}:
        raise ValueError(f"precision {recipe.precision!r} does not stand in a graph")
    if network.thumbnail is not None:
        raise UserError(
            f"precision `{recipe.precision}` with statistics `thumbnail`: new weights are folded for every picture",
            "statistics image or frozen",
            "Choose one of these",
        )
    inputs = calibration_inputs(request.pictures, request.spec) if recipe.precision in QUANTISED else []
    import onnxruntime

    facts = {
        "network": [network.model, network.statistics, network.main.sha256],
        "recipe": recipe.to_dict(),
        "calibration": [hashlib.sha256(x.tobytes() + repr(x.shape).encode()).hexdigest() for x in inputs],
        "pictures": [picture_sha256(picture) for picture in request.pictures] if inputs else [],
        "code": code_sha256(),
        "versions": {"onnxruntime": onnxruntime.__version__} | {n: metadata.version(n) for n in ("onnx", "numpy")},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return made_once(cache, key, lambda folder: _write(request, inputs, folder, report))


def _write(request: LoweringRequest, inputs: list[np.ndarray], folder: Path, report: Report) -> Network:
    import onnx

    network, recipe = request.network, request.recipe
    original = original_graph(network, recipe.precision)
    facts: dict[str, Any] = {"recipe": recipe.to_dict()}
    model = original
    if recipe.precision in QUANTISED:
        further = further_inputs(request.pictures, request.spec, network.statistics)
        quantiser = Quantiser(original, request.spec, recipe, inputs, further)
        tried = quantiser.attempts(report)
        best = max(tried, key=lambda attempt: attempt.psnr_db) if tried else None
        model = qdq.folded_weights(best.model) if best else original
        facts |= quantiser.facts(tried, best)
    if recipe.precision in {"fp16", "bf16", "int8+fp16"}:
        from export.half import lowered

        half = lowered(model, "bf16" if recipe.precision == "bf16" else "fp16")
        model = half.model
        facts["kept_fp32"] = list(half.kept)
    path = folder / "main.onnx"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    main = replace(network.main, onnx_path=str(path), sha256=file_sha256(path), state_path="", role="onnx")
    return replace(network, main=main, precision=recipe.precision, lowering=facts, opset=default_opset(model))

"""The file beside a plan: PLAN.json says all that one needs to run the plan, and proves which plan it speaks of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.network import INPUT, OUTPUT, PICTURE, RESULT, Network, file_sha256
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

SCHEMA = 1


@dataclass(frozen=True)
class Deployment:
    """What was deployed, besides the network and the plan's own facts."""

    spec: ModelSpec
    weights: str | None
    """File of weights; None: the published initialisation, or those that a network of one's own comes with."""
    engine: str
    engine_version: str
    precision: str
    settings: Mapping[str, str]
    sizes: Sequence[Mapping[str, Any]]
    """One entry per optimisation profile: `resolution`, and `least`, `tuned` and `most` (height, width) of the input;
    empty: any size."""
    versions: Mapping[str, str]
    build: Mapping[str, Any]
    """What the builder said: layers, warnings, timing cache, seconds, target."""


def sidecar_path(plan: Path) -> Path:
    return plan.with_name(plan.name + ".json")


def sidecar(plan: Path, network: Network, deployed: Deployment) -> dict[str, Any]:
    """The content of the sidecar of a plan that lies at `plan`."""
    spec, facts, on_pictures = deployed.spec, deployed.build, network.main.takes_pictures
    planes = {INPUT: spec.input_planes, OUTPUT: spec.output_planes}
    ends = {
        name: facts.get(key) or [{"name": name, "dtype": "float32", "shape": [1, planes[name], -1, -1]}]
        for key, name in (("inputs", INPUT), ("outputs", OUTPUT))
    }
    if on_pictures:
        told = {"inputs": [_picture_end(PICTURE)], "outputs": [_picture_end(RESULT)], "takes": "pictures"}
    else:
        told = {
            "inputs": [{**end, "layout": "NCHW", "range": [0.0, 1.0], "colour": spec.input} for end in ends[INPUT]],
            "outputs": [
                {**end, "layout": "NCHW", "range": list(spec.output_range), "clipped": False, "colour": spec.output}
                for end in ends[OUTPUT]
            ],
        }
    return {
        "schema": SCHEMA,
        "plan": {"file": plan.name, "sha256": file_sha256(plan), "bytes": plan.stat().st_size},
        "engine": {"name": deployed.engine, "version": deployed.engine_version, "settings": dict(deployed.settings)},
        "lowering": network.lowering,
        "precision": deployed.precision,
        "model": {
            "name": spec.name,
            "title": network.model,
            "source": spec.source,
            "licence": spec.licence,
            "weights": Path(deployed.weights).name if deployed.weights else None,
            "weights_sha256": file_sha256(deployed.weights) if deployed.weights else None,
            "trained": deployed.weights is not None or spec.is_own,
            "statistics": network.statistics,
            "spec": json.loads(spec.to_json()),
        },
        **told,
        "picture": {
            "enlarged_first": spec.pre_upscale,
            "constant_planes": list(spec.constant_planes),
            "size_multiple": spec.size_multiple,
            "padding": "by repeating the border; the output is cropped" if spec.size_multiple > 1 else None,
            "min_size": spec.min_size,
            "upscale": spec.upscale,
            "uint8": "floor(255 y)" if spec.rounding == "truncate" else "floor(255 y + 0.5)",
        },
        "sizes": [dict(size) for size in deployed.sizes],
        "onnx": {"sha256": network.main.sha256, "opset": network.opset},
        "plugins": list(facts.get("plugins", ())),
        "versions": dict(deployed.versions),
        "build": {key: value for key, value in facts.items() if key not in {"inputs", "outputs", "plugins"}},
    }


def _picture_end(name: str) -> dict[str, Any]:
    return {"name": name, "dtype": "uint8", "shape": [-1, -1, 3], "layout": "HWC", "range": [0, 255], "colour": "rgb"}


def read_sidecar(plan: Path) -> dict[str, Any]:
    """The sidecar of a plan.

    Raises:
        UserError: it or its plan is not there, it is of another schema, or speaks of another plan.
    """
    path = sidecar_path(plan)
    if not plan.is_file():
        raise UserError(f"{plan}: no such file", "a plan of `bench build`", "Check its path")
    try:
        told = json.loads(path.read_text())
        schema, wanted = told["schema"], told["plan"]["sha256"]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "the sidecar that `bench build` wrote", "Copy it too") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a sidecar", "the file that `bench build` wrote", "Build the plan again") from None
    if schema != SCHEMA:
        raise UserError(f"{path}: schema {schema}", f"schema {SCHEMA}", "Build the plan again") from None
    found = file_sha256(plan)
    if found != wanted:
        raise UserError(
            f"{plan}: its sha256 is {found[:16]}…, its sidecar speaks of {wanted[:16]}…",
            "a plan and a sidecar of one build",
            "Copy both again",
        )
    return told

"""Whether an engine computes in the types that were asked for: its own words about what it built, against the graph."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from engines.engine import Engine, Options
from export.network import Network

_LOW = ("int8", "fp8")
NOT_TOLD = "not told"
"""No proof that a layer is quantised, and none that it is not: engines rename what they merge."""


def prove_types(engine: Engine, network: Network, options: Options) -> dict[str, Any] | None:
    """Layer → the type it is computed in, as the engine says, `NOT_TOLD` where it says nothing of that layer; None for
    networks in FP32, and engines that do not say.

    Raises:
        RuntimeError: a layer that was to be quantised is not, one that was to stay in float is, or nothing is told of
            any of the former; every such layer is named.
    """
    found = told_types(engine, network, options)
    if found is None:
        return None
    assert network.lowering is not None
    asked = {layer: kind for layer, kind in network.lowering.get("layers", {}).items() if kind in _LOW}
    silent = [f"{layer} ({found[layer]})" for layer in asked if found[layer] not in {asked[layer], NOT_TOLD}]
    if asked and all(found[layer] == NOT_TOLD for layer in asked):
        raise RuntimeError(f"{engine.name} tells the type of none of the layers that were to be quantised")
    if silent:
        raise RuntimeError(
            f"{engine.name} did not quantise {len(silent)} of the layers that were to be: {', '.join(silent)}"
        )
    spoilt = [
        layer for layer, kind in network.lowering.get("layers", {}).items() if kind not in _LOW and found[layer] in _LOW
    ]
    if spoilt:
        raise RuntimeError(f"{engine.name} quantised layers that were to stay in float: {', '.join(spoilt)}")
    return found


def told_types(engine: Engine, network: Network, options: Options) -> dict[str, Any] | None:
    """Layer → the type it is computed in, `NOT_TOLD` where its name is not found; None as in `prove_types`."""
    if network.lowering is None:
        return None
    said = engine.layer_types(network.main, replace(options, settings=engine.complete_settings(options.settings)))
    if said is None:
        return None
    types = {plain_name(name): kind for name, kind in said.items()}
    return {
        layer: types.get(network.lowering["nodes"][layer]) or NOT_TOLD for layer in network.lowering.get("layers", {})
    }


def plain_name(name: str) -> str:
    """A node's name without what ONNX Runtime and OpenVINO append when they rewrite it."""
    return re.sub(r"(_token_\d+|/WithoutBiases|/fq_\S*)+$", "", name)

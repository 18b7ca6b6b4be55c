"""Whether an engine computes in the types that were asked for: its own words about what it built, against the graph."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from engines.engine import Engine, Options
from export.network import Network


def prove_types(engine: Engine, network: Network, options: Options) -> dict[str, Any] | None:
    """Layer → the type it is computed in, as the engine says; None for networks in FP32, and engines that do not say.

    Raises:
        RuntimeError: a layer that was to be quantised is not; every such layer is named.
    """
    if network.lowering is None:
        return None
    said = engine.layer_types(network.main, replace(options, settings=engine.complete_settings(options.settings)))
    if said is None:
        return None
    types = {_plain(name): kind for name, kind in said.items()}
    found: dict[str, Any] = {}
    silent = []
    for layer, asked in network.lowering.get("layers", {}).items():
        kind = types.get(network.lowering["nodes"][layer])
        found[layer] = kind or "not told"
        if asked in {"int8", "fp8"} and kind != asked:
            silent.append(f"{layer} ({kind or 'not told'})")
    if silent:
        raise RuntimeError(
            f"{engine.name} did not quantise {len(silent)} of the layers that were to be: {', '.join(silent)}"
        )
    return found


def _plain(name: str) -> str:
    """A node's name without what ONNX Runtime and OpenVINO append when they rewrite it."""
    return re.sub(r"(_token_\d+|/WithoutBiases|/fq_\S*)+$", "", name)

"""One case → what each node of its built graph takes, by the library's own profiler. Stores nothing.

A profiler slows down what it times, so that these figures come from a process of their own and never from a timed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import engines
from bench import picture_plan
from bench.case import Case
from bench.inputs import source_path
from bench.worth import runs_for
from engines.engine import Options

Emit = Callable[..., None]


def refusal(case: Case) -> str | None:
    """Why the layers of a case have no times of their own, a clause; None where they have."""
    if case.statistics == "thumbnail":
        return "with thumbnail statistics a part of every inference lies outside of the graph"
    if case.tile != "off":
        return "tiles run one graph many times, and its layers would be those of the whole picture"
    if case.device.partition(":")[0] not in engines.get(case.engine).tells_layer_times:
        return "the engine does not tell what its layers take"
    return None


def profile(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The worker's job.

    Args:
        job: case (as Case.to_dict), network (JSON), inputs (.npy files; the first is run), ms (its median latency).

    Returns:
        layers: a line per node with layer (as the library names it), kind and ms, in the order they ran; None where the
        library does not tell.
    """
    import numpy as np

    case = job["case"]
    options = Options(case["device"], case["precision"], case["threads"], case["settings"])
    emit("phase", name="times of layers")
    engine, path = engines.get(case["engine"]), Path(job["inputs"][0])
    graph = picture_plan.network_of(job, engine).main
    x = np.load(source_path(path) if graph.takes_pictures else path)
    told = engine.layer_times(graph, options, x, runs_for(job["ms"]))
    return {"layers": told and [{"layer": time.name, "kind": time.kind, "ms": time.ms} for time in told]}

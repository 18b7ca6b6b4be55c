"""The engine tensorrt_rtx: what is its own; what it shares with tensorrt is tested in trt/."""

from __future__ import annotations

import engines
from engines.trt.api import TensorRtRtxApi


def test_it_builds_anywhere_and_is_never_chosen_by_itself():
    engine = engines.get("tensorrt_rtx")
    assert isinstance(engine.api, TensorRtRtxApi)
    assert engine.rank == {}
    assert {"target", "specialise", "graph"} <= {s.name for s in engine.settings}
    assert "hardware" not in {s.name for s in engine.settings}


def test_both_engines_can_be_used_in_one_process():
    """Neither is chosen by an environment variable or a flag of the process."""
    assert engines.get("tensorrt").api.package != engines.get("tensorrt_rtx").api.package

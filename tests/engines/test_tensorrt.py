"""The engine tensorrt: what is its own; what it shares with tensorrt_rtx is tested in trt/."""

from __future__ import annotations

import engines
from engines.trt.api import TensorRtApi


def test_it_has_tensorrt_s_settings_and_is_not_chosen_by_itself_before_it_was_measured():
    engine = engines.get("tensorrt")
    assert isinstance(engine.api, TensorRtApi)
    assert engine.rank == {}
    assert {"hardware", "version_compatible", "graph"} <= {s.name for s in engine.settings}
    assert "target" not in {s.name for s in engine.settings}


def test_without_the_library_a_run_says_in_one_sentence_what_is_missing_and_how_to_get_it():
    engine = engines.get("tensorrt")
    if engine.missing() is None:
        return
    assert engine.missing() == "Python package `tensorrt` is not installed"
    assert "pip install tensorrt" in engine.install

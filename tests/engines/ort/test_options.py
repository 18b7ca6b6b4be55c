"""Settings reach ONNX Runtime's options, and every key that we write is one that the library knows."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest

from engines.engine import Options
from engines.onnxruntime import ENGINE
from engines.ort.options import CUDA_ONLY, NO_CAPTURE, RECORD_PLACEMENT, run_options, session_options

FOLDER = Path(ort.__file__).parent / "capi"


def options(**settings):
    return Options("cpu", "fp32", 3, settings)


def test_a_setting_that_an_engine_lacks_is_left_to_the_library():
    chosen = session_options(options(graph="basic"))
    assert chosen.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert (chosen.intra_op_num_threads, chosen.inter_op_num_threads) == (3, 1)
    with pytest.raises(RuntimeError):
        chosen.get_session_config_entry("session.set_denormal_as_zero")
    written = session_options(options(graph="all", denormals="zero", spin="off"))
    assert written.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert written.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_run_only_enqueues_and_can_stay_out_of_the_graph():
    assert run_options().get_run_config_entry("disable_synchronize_execution_providers") == "1"
    assert run_options(captures=False).get_run_config_entry("gpu_graph_id") == NO_CAPTURE
    with pytest.raises(RuntimeError):
        run_options().get_run_config_entry("gpu_graph_id")


def test_what_only_a_gpu_has_is_off_by_default():
    assert CUDA_ONLY == {"capture": "off", "host_memory": "pinned", "l2": "warm"}
    assert {name: ENGINE.complete_settings({})[name] for name in CUDA_ONLY} == CUDA_ONLY


@pytest.mark.parametrize(
    "key",
    [
        RECORD_PLACEMENT,
        "disable_synchronize_execution_providers",
        "gpu_graph_id",
        "session.set_denormal_as_zero",
        "session.intra_op.allow_spinning",
    ],
)
def test_a_key_that_we_write_stands_in_the_library(key):
    """A key that it does not know, it ignores."""
    assert any(key.encode() in path.read_bytes() for path in FOLDER.glob("*pybind11_state*"))

"""A plan against its own graph by Polygraphy; plans of TensorRT are for `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import checking
from bench.checking import check_can_check, environment, in_words
from bench.spawn import run_job
from reference_models.errors import UserError


def model(path: Path, gain: float) -> str:
    from onnx import TensorProto, helper, numpy_helper, save

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in "xy"]
    node = helper.make_node("Mul", ["x", "g"], ["y"])
    weight = numpy_helper.from_array(np.float32(gain), "g")
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    pytest.importorskip("polygraphy")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((1, 3, 8, 9), np.float32))
    graph = model(tmp_path / "graph.onnx", 1.0)
    return {"job": "check", "engine": "onnxruntime", "plan": graph, "onnx": graph, "floor_db": 40.0,
            "input": str(tmp_path / "x.npy")}  # fmt: skip


def test_a_plan_that_is_its_graph_passes_and_another_does_not(job: dict[str, Any], tmp_path: Path) -> None:
    same = run_job(job, environment("onnxruntime"))
    assert (same["psnr_db"], same["max_abs"], same["passed"]) == (None, 0.0, True)
    other = run_job({**job, "plan": model(tmp_path / "other.onnx", 1.1)}, environment("onnxruntime"))
    assert other["passed"] is False
    assert 15 < other["psnr_db"] < 30  # a tenth off
    assert 0.05 < other["max_abs"] < 0.11


def test_what_is_no_number_never_passes(job: dict[str, Any], tmp_path: Path) -> None:
    found = run_job({**job, "plan": model(tmp_path / "broken.onnx", float("nan"))}, environment("onnxruntime"))
    assert (found["passed"], found["max_abs"]) == (False, None)
    assert in_words(found, 40.0) == "check failed: an output holds what is no number"


def test_the_line_says_by_whom_against_what_and_how_much() -> None:
    found = {"psnr_db": 51.24, "max_abs": 0.00321, "passed": True, "polygraphy": "0.53"}
    assert in_words(found, 40.0) == (
        "check passed: 51.2 dB against its own graph in ONNX Runtime (floor 40 dB), largest difference 0.0032; "
        "Polygraphy 0.53"
    )


def test_each_library_has_a_process_of_its_own() -> None:
    assert environment("tensorrt_rtx")["POLYGRAPHY_USE_TENSORRT_RTX"] == "1"
    assert environment("tensorrt")["POLYGRAPHY_USE_TENSORRT_RTX"] == "0"


def test_what_cannot_be_checked_is_refused_before_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "package_missing", lambda *words: None)
    check_can_check("onnxruntime", "int8")
    with pytest.raises(UserError, match="Polygraphy does not run its plans"):
        check_can_check("openvino", "fp32")
    with pytest.raises(UserError, match="no bf16 convolutions"):
        check_can_check("tensorrt_rtx", "bf16")
    monkeypatch.setattr("engines.trt.engine.TrtEngine.device_missing", lambda self, device: "no device")
    with pytest.raises(UserError, match="`--check` with tensorrt_rtx: no device"):
        check_can_check("tensorrt_rtx", "fp32")
    monkeypatch.setattr(checking, "package_missing", lambda *words: "it is not installed")
    with pytest.raises(UserError, match=r"it is not installed.*pip install polygraphy"):
        check_can_check("onnxruntime", "fp32")

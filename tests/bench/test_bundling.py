"""The job that writes a bundle's graph tells what it compared, and sees a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference_models
from bench import bundling
from bench.bundling import job_bundle
from export.network import Graph, Network, file_sha256

SPEC = reference_models.get("can24")


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sqrt", ["x"], ["y"])], "net", ends[:1], ends[1:])
    path = tmp_path / "net.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    network = Network("m", None, Graph(str(path), file_sha256(path), "", "", {}, "onnx"), None, (), 20)
    return {
        "spec": SPEC.to_json(), "network": network.to_json(), "engine": "onnxruntime", "precision": "fp32",
        "threads": 1, "settings": {}, "path": str(tmp_path / "model.onnx"),
    }  # fmt: skip


def test_the_graph_is_written_and_compared_on_photographs_of_three_sizes(job: dict[str, Any]) -> None:
    phases: list[str] = []
    made = job_bundle(job, lambda _, name: phases.append(name))
    assert phases == ["write", "check"]
    assert [(one["size"], one["different"]) for one in made["checked"]] == [((133, 200), 0), ((37, 51), 0), ((1, 1), 0)]
    assert made["hint"] is None
    assert Path(job["path"]).stat().st_size > 0


def test_a_difference_is_seen(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundling._RUNS, "onnxruntime", lambda _: np.zeros_like)
    assert all(one["different"] > 0 for one in job_bundle(job, lambda *_, **__: None)["checked"])

"""A graph in two: branch and rest together are the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.branch import split_branch
from export.onnx_file import onnxruntime_session
from export.receptive_field import Reach, receptive_field
from reference_models.errors import UserError
from tests.export.reach_graphs import TILEABLE, saved


def test_the_rest_with_the_branchs_result_is_the_graph(tmp_path: Path) -> None:
    import onnx

    graph = saved(TILEABLE["with_branch"](), tmp_path)
    reach = receptive_field(graph.onnx_path)
    branch, rest = split_branch(graph, reach, tmp_path)
    x = np.random.default_rng(0).random((1, 3, 40, 48), np.float32)
    model = onnx.load(rest.onnx_path)
    result = onnxruntime_session(onnx.load(branch.onnx_path)).run(None, {"x": x})[0]
    weight = next(i for i in model.graph.initializer if i.name == reach.branch[0])
    assert tuple(weight.dims) == result.shape
    weight.CopyFrom(onnx.numpy_helper.from_array(result, weight.name))
    expected = onnxruntime_session(onnx.load(graph.onnx_path)).run(None, {"x": x})[0]
    assert np.abs(onnxruntime_session(model).run(None, {"x": x})[0] - expected).max() <= 1e-6
    assert receptive_field(rest.onnx_path).branch == ()
    assert not any(node.op_type == "GlobalAveragePool" for node in model.graph.node)


def test_several_results_are_refused(tmp_path: Path) -> None:
    graph = saved(TILEABLE["with_branch"](), tmp_path)
    reach = receptive_field(graph.onnx_path)
    with pytest.raises(UserError, match="2 tensors lead"):
        split_branch(graph, Reach(reach.height, reach.width, branch=("h", "g")), tmp_path)

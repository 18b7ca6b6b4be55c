"""The masked convolution in a graph, as floats and behind pairs of quantisers; whole graphs are test_nodes.py's."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from engines.plugins.graph_view import GraphView
from engines.plugins.masked import masked_convolution

C = 16
TEXT = f"""<ir_version: 10, opset_import: ["": 20]>
g (float[1, {C}, H, W] a, float[1, {C}, H, W] b) => (float[1, {C}, H, W] y)
<float s = {{0.5}}, float t = {{0.25}}, int8 z = {{0}}>
{{
    PAIRS
    p = Conv <pads = [0, 0, 0, 1]> (a_, v)
    q = Conv <pads = [1, 0, 0, 0]> (b_, w)
    r = Conv <pads = [0, 0, 1, 0]> (a_, w)
    u = Conv <pads = [0, 1, 0, 0]> (b_, v)
    right = Add (p, q)
    below = Add (r, u)
    y = Concat <axis = 1> (a, right, below, b)
}}"""
PAIRS = """aq = QuantizeLinear (a, s, z) a_ = DequantizeLinear (aq, s, z)
    bq = QuantizeLinear (b, t, z) b_ = DequantizeLinear (bq, t, z)
    v = DequantizeLinear <axis = 0> (vq, vs, vz) w = DequantizeLinear <axis = 0> (wq, ws, vz)"""


def found(change=None, quantised=True):
    import numpy as np

    text = TEXT.replace("PAIRS", PAIRS if quantised else "").replace("(a_", "(a_" if quantised else "(a")
    text = text if quantised else text.replace("(b_", "(b")
    graph = parser.parse_model(change(text) if change else text).graph
    kind = np.int8 if quantised else np.float32
    for name, size in (("v", (1, 2)), ("w", (2, 1))):
        weight = numpy_helper.from_array(np.ones((C, C, *size), kind), f"{name}q" if quantised else name)
        graph.initializer.append(weight)
        graph.initializer.append(numpy_helper.from_array(np.ones(C, np.float32), f"{name}s"))
    graph.initializer.append(helper.make_tensor("vz", TensorProto.INT8, [C], [0] * C))
    return masked_convolution(GraphView(graph), ["a", "right", "below", "b"])


def test_floats():
    masked = found(quantised=False)
    assert (masked.inputs, masked.type, masked.steps) == (["a", "b", "v", "w"], "FLOAT", {})
    assert [node.op_type for node in masked.nodes] == ["Add", "Conv", "Conv"] * 2


def test_int8():
    masked = found()
    assert masked.inputs == ["a", "b", "aq", "bq", "vq", "wq", "vs", "ws"]
    assert (masked.type, masked.steps) == ("INT8", {"a_step": 0.5, "b_step": 0.25})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(a, s, z)", "(b, s, z)"),  # int8 of another tensor than the one that goes out
        ("(aq, s, z)", "(aq, t, z)"),  # another step on the way back
        ("axis = 0> (vq", "axis = 1> (vq"),  # steps along the other axis
        ("p = Conv <pads = [0, 0, 0, 1]>", "p = Conv <pads = [0, 0, 1, 0]>"),
        ("(b_, v)", "(b_, w)"),
        ("(b_, v)", "(a_, v)"),
        ("(aq, s, z)", "(aq, s)"),
    ],
)
def test_what_is_not_quite_it(one, other):
    assert found(lambda text: text.replace(one, other)) is None


def test_few_channels_leave_tensor_cores_idle(monkeypatch):
    monkeypatch.setattr("engines.plugins.masked.LEAST_CHANNELS", C + 1)
    assert found() is None
    assert found(quantised=False) is None

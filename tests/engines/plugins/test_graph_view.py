"""What a graph is asked: makers, readers, constants, types and steps."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, parser

from engines.plugins.graph_view import GraphView, attribute

TEXT = """<ir_version: 10, opset_import: ["": 20, "other": 1]>
g (float16[1, 3, H, W] x) => (float[1, 3, H, W] y, float16[1, 3, H, W] z)
<float16[3, 3, 1, 1] w = {1,0,0,0,1,0,0,0,1}, float step = {0.5}, int8 zero = {0}, int8 three = {3},
 float[2] two = {1, 2}>
{
    half = Constant <value = float[2] {0.5, 0.5}> ()
    c = Conv <pads = [0, 0, 0, 0]> (x, w)
    z = Relu (c)
    s = Cast <to = 1> (c)
    q = QuantizeLinear (s, step, zero)
    d = DequantizeLinear (q, step, zero)
    p = QuantizeLinear (d, step, three)
    e = DequantizeLinear (p, step, three)
    f = other.Thing (e)
    y = Neg (f)
}"""


@pytest.fixture
def view():
    return GraphView(parser.parse_model(TEXT.replace("other.Thing", "Identity")).graph)


def test_makers_and_readers(view):
    assert view.made["c"].op_type == "Conv"
    assert attribute(view.made["c"], "pads", None) == [0] * 4
    assert attribute(view.made["c"], "strides", "none") == "none"
    assert view.only_reader("q").op_type == "DequantizeLinear"
    assert view.only_reader("c") is None  # two read it
    assert view.only_reader("z") is None  # an output
    assert not view.is_read_once("z")
    graph = parser.parse_model(TEXT.replace("other.Thing", "Identity")).graph
    next(node for node in graph.node if node.output[0] == "f").domain = "other"
    assert GraphView(graph).only_reader("e") is None
    assert GraphView(graph).is_read_once("e")


def test_constants_and_numbers(view):
    assert view.number("half") == 0.5
    assert view.number("step") == 0.5
    assert view.number("two") is None
    assert np.array_equal(view.constant("two"), [1, 2])
    assert view.constant("c") is None
    assert view.number("") is None


def test_types_are_found_by_following_the_makers(view):
    kinds = {name: view.type_of(name) for name in ("c", "s", "d", "half", "x", "nobody")}
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    assert kinds == {"c": half, "s": single, "d": single, "half": single, "x": half, "nobody": 0}


CHANNELS = """<ir_version: 10, opset_import: ["": 20]>
g (float[1, 3, H, W] x, float[N, C, H, W] open) => (float[1, C, H, W] y)
<float step = {0.5}, int8 zero = {0}, int8[2, 3, 1, 1] small = {1,0,0,0,1,0},
 float[4, 2, 1, 1] back = {1,0,0,0,1,0,0,0}, float[2, 2] flat = {1,0,0,1}>
{
    w = DequantizeLinear (small, step, zero)
    c = Conv (x, w)
    r = PRelu (c, step)
    t = ConvTranspose <group = 2> (open, back)
    q = QuantizeLinear (t, step, zero)
    v = Neg (w)
    d = Conv (x, v)
    y = Sigmoid (c)
}"""


def test_channels_are_told_by_shapes_and_weights():
    view = GraphView(parser.parse_model(CHANNELS).graph)
    found = {name: view.channels(name) for name in ("x", "c", "r", "t", "q", "open", "d", "y", "flat", "nobody")}
    unknown = dict.fromkeys(("open", "d", "y", "flat", "nobody"), 0)
    assert found == {"x": 3, "c": 2, "r": 2, "t": 4, "q": 4, **unknown}


def test_a_step_is_of_int8_around_zero(view):
    assert view.step(view.made["q"], "QuantizeLinear") == 0.5
    assert view.step(view.made["d"], "DequantizeLinear") == 0.5
    assert view.step(view.made["d"], "QuantizeLinear") is None
    assert view.step(view.made["p"], "QuantizeLinear") is None
    assert view.step(None, "QuantizeLinear") is None

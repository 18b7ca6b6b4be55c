"""What stays FP32 in small graphs of every kind, named by the tensors that the nodes make."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.float_rule import MANY, kept_nodes
from export.typed_graph import typed_graph


def kept(text, kind="fp16", ends="fp32", opset=20, planes=8, **stored):
    """First outputs of the nodes that stay FP32, for input x (1, planes, H, W)."""
    ends_text = f"(float[1,{planes},H,W] x) => (float[N,C,H2,W2] y)"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {ends_text} {{ {text} }}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    graph = typed_graph(model, kind, ends)
    return {graph.nodes[i].output[0] for i in kept_nodes(graph)}


W = np.zeros((8, 8, 1, 1), np.float32)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("r = ReduceMean<keepdims=1>(x) y = Relu(r)", {"r", "y"}),
        ("r = ReduceSum(x, rows) c = Conv(r, w) y = Relu(c)", {"r"}),
        ("r = ReduceSum(x, second) c = Conv(r, w1) y = Relu(c)", set()),  # eight numbers
        ("r = ReduceMax(x, rows) c = Conv(r, w) y = Relu(c)", set()),  # no sum
        ("r = GlobalAveragePool(x) c = Conv(r, w) y = Relu(c)", {"r"}),
        ("r = AveragePool<kernel_shape=[8,8]>(x) y = Conv(r, w)", set()),
        ("r = AveragePool<kernel_shape=[9,8]>(x) y = Conv(r, w)", {"r"}),
        ("r = InstanceNormalization(x, one, one) y = Conv(r, w)", {"r"}),
        ("r = CumSum(x, axis) y = Conv(r, w)", {"r"}),
    ],
)  # fmt: skip
def test_sums_over_many_numbers(text, found):
    stored = {
        "rows": np.array([3]), "second": np.array([1]), "w": W, "w1": np.zeros((8, 1, 1, 1), np.float32),
        "one": np.ones(8, np.float32), "axis": np.array(2),
    }  # fmt: skip
    assert kept(text, **{name: value for name, value in stored.items() if name in text}) == found
    assert MANY == 64


def test_axes_may_be_an_attribute_and_stored_lengths_may_be_many():
    assert kept("r = ReduceMean<axes=[2]>(x) y = Conv(r, w)", opset=13, w=W) == {"r"}
    assert kept("r = ReduceMean<axes=[-3]>(x) y = Conv(r, w)", opset=13, w=W[:, :1]) == set()
    wide = np.zeros((8, 1, 1, 1), np.float32)
    assert kept("r = ReduceMean(x, one) y = Conv(r, w)", planes=65, one=np.array([1]), w=wide) == {"r"}


def test_what_prepares_a_sum_and_what_is_made_of_it():
    """A variance, gain and offset, and the planes that they scale; the convolution and activations around do not."""
    text = """c = Conv(x, w) m = GlobalAveragePool(c) d = Sub(c, m) q = Mul(d, d) v = GlobalAveragePool(q)
    e = Add(v, eps) s = Sqrt(e) g = Div(one, s) n = Mul(c, g) k = Mul(m, g) a = Sub(n, k) l = LeakyRelu(a)
    y = Conv(l, w)"""
    stored = {"w": W, "eps": np.float32(1e-3), "one": np.float32(1)}
    assert kept(text, **stored) == {"m", "d", "q", "v", "e", "s", "g", "n", "k", "a"}


def test_deviations_that_are_read_elsewhere_too():
    text = """m = GlobalAveragePool(x) d = Sub(x, m) q = Mul(d, d) v = GlobalAveragePool(q) n = Mul(d, v)
    b = Add(n, beta) r = Relu(b) s = Add(r, x) y = Conv(s, w)"""
    assert kept(text, w=W, beta=np.float32(0.5)) == {"m", "d", "q", "v", "n", "b"}


def test_squares_and_views_before_a_sum_but_no_activation_and_no_addition():
    text = "c = Conv(x, w) s = Add(c, x) r = Relu(s) q = Mul(r, r) f = Flatten(q) m = ReduceMean(f) y = Mul(c, m)"
    assert kept(text, w=W) == {"q", "f", "m", "y"}
    assert kept("a = Mul(x, t) m = GlobalAveragePool(a) y = Conv(m, w)", w=W, t=W[:1]) == {"m"}


def test_a_statistic_that_fills_a_picture_does_so_in_half():
    text = "g = GlobalAveragePool(x) s = Shape(x) e = Expand(g, s) y = Concat<axis=1>(e, x)"
    assert kept(text) == {"g"}


def test_what_goes_through_weights_is_half_again():
    assert kept("g = GlobalAveragePool(x) c = Conv(g, w) s = Sigmoid(c) y = Mul(x, s)", w=W) == {"g"}
    assert kept("g = GlobalAveragePool(x) s = Sigmoid(g) y = Mul(x, s)") == {"g", "s", "y"}


def test_sides_and_coordinates():
    """At 4K a coordinate in FP16 is wrong by a pixel."""
    text = """s = Shape<start=2, end=3>(x) f = Cast<to=1>(s) h = Div(f, two) t = Tile(h, many) g = Reshape(t, grid)
    p = GridSample(x, g) c = Conv(p, w) y = Relu(c)"""
    stored = {"two": np.float32(2), "many": np.array([8]), "grid": np.array([1, 2, 2, 2]), "w": W}
    assert kept(text, **stored) == {"f", "h", "t", "g", "p"}


def test_a_number_that_would_vanish():
    text = "q = Mul(x, x) a = Add(q, e) y = Sqrt(a)"
    assert kept(text, e=np.float32(1e-8)) == {"q", "a", "y"}
    assert kept(text, e=np.float32(1e-7)) == set()
    assert kept(text, e=np.float32(0)) == set()
    assert kept(text, kind="bf16", e=np.float32(1e-8)) == set()


def test_operators_without_the_half_type_and_nodes_with_bodies():
    then, other = "() => (float[1,8,H,W] p) { p = Relu(x) }", "() => (float[1,8,H,W] n) { n = Neg(x) }"
    branches = f"then_branch = a {then}, else_branch = b {other}"
    text = f"m = ReduceMax(x) t = Greater(m, half) i = If(t)<{branches}> y = Conv(i, w)"
    assert kept(text, w=W, half=np.float32(0.5)) == {"i"}
    assert kept("c = Celu(x) y = Conv(c, w)", w=W) == {"c"}  # float32 only, says its definition


def test_the_last_addition_of_the_input():
    assert kept("c = Conv(x, w) y = Add(c, x)", w=W) == {"y"}
    assert kept("c = Conv(x, w) y = Add(c, x)", ends="lowered", w=W) == set()
    assert kept("c = Conv(x, w) s = Sub(x, c) y = Clip(s)", w=W) == {"s", "y"}
    assert kept("c = Conv(x, w) s = Add(c, x) y = Conv(s, w)", w=W) == set()
    assert kept("c = Conv(x, w) d = Conv(c, w) y = Add(c, d)", w=W) == set()
    assert kept("c = Conv(x, w) s = Add(c, x) r = Relu(s) d = Conv(s, w) y = Add(r, d)", w=W) == set()

"""What stands behind a tensor, chain by chain; whole graphs are test_nodes.py's."""

from __future__ import annotations

import pytest
from onnx import parser

from engines.plugins.followers import followers
from engines.plugins.graph_view import GraphView
from engines.plugins.last_steps import INT8, PICTURE, LastSteps

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[N, 2, H, W] x) => (KIND y)
<float slope = {0.25}, float[2, 1, 1] slopes = {0.25, 0.5}, float low = {-1}, float high = {0.5}, float zero = {0},
 float one = {1}, float levels = {255}, float half = {0.5}, float step = {0.125}, int8 none = {0},
 int64[1] first = {0}, int64[1] last = {3}, float[1, 2, 1, 1] bias = {1, 2}, float16 small = {255}, float two = {2}>
{ BODY }"""


def chain(body, kind="float[N, 2, H, W]", slope_only=False, channels=2, pictures=True):
    graph = parser.parse_model(TEXT.replace("KIND", kind).replace("BODY", body)).graph
    return followers(GraphView(graph), "x", slope_only=slope_only, channels=channels, pictures=pictures)


@pytest.mark.parametrize(
    ("body", "steps"),
    [
        ("y = Relu (x)", {"slope": 0.0}),
        ("y = LeakyRelu (x)", {"slope": pytest.approx(0.01)}),
        ("y = PRelu (x, slope)", {"slope": 0.25}),
        ("y = Tanh (x)", {"tanh": True}),
        ("y = Clip (x, low)", {"low": -1.0}),
        ("y = Clip (x, , high)", {"high": 0.5}),
        ("a = Add (bias, x) b = Relu (a) y = Clip (b, low, high)", {"slope": 0.0, "low": -1.0, "high": 0.5}),
        ("a = Clip (x, low, high) y = Relu (a)", {"low": 0.0, "high": 0.5}),
    ],
)
def test_pointwise_nodes_in_their_order(body, steps):
    found = chain(body)
    assert found.output == "y"
    assert found.kind == "float"
    assert found.steps == LastSteps(**steps)
    assert (found.bias is not None) == ("bias" in body)


@pytest.mark.parametrize(("added", "bias"), [("bias", [1, 2]), ("half", [0.5, 0.5]), ("slopes", [0.25, 0.5])])
def test_a_bias_has_an_element_for_each_channel(added, bias):
    """One element alone would be taken for none where a kernel reads it."""
    assert chain(f"y = Add (x, {added})").bias.tolist() == bias
    for channels in (0, 1, 3):  # not known, or other than those of the constant
        found = chain(f"y = Add (x, {added})", channels=channels)
        assert found.output == ("y" if added == "half" and channels else "x")
        assert found.bias is None or found.bias.tolist() == [0.5] * channels


@pytest.mark.parametrize(
    "body",
    [
        "y = PRelu (x, slopes)",
        "a = Clip (x, low, high) y = Tanh (a)",
        "a = Relu (x) y = Add (a, bias)",
        "a = Sigmoid (x) y = Neg (a)",
        "a = Neg (x) b = Add (a, x) y = Relu (b)",
    ],
)
def test_what_ends_a_chain(body):
    assert chain(body).output != "y"


def test_a_quantiser_ends_a_chain_and_can_be_left_out():
    found = chain("a = Relu (x) y = QuantizeLinear (a, step, none)", "int8[N, 2, H, W]")
    assert (found.output, found.kind) == ("y", "int8")
    assert found.steps == LastSteps(slope=0.0, output=INT8, step=0.125)
    assert found.only_relu
    before = found.unquantised()
    assert (before.output, before.kind, before.steps) == ("a", "float", LastSteps(slope=0.0))
    assert before.unquantised() is before


def test_only_slopes_where_a_kernel_has_nothing_else():
    assert chain("a = PRelu (x, slope) y = Clip (a, low)", slope_only=True).output == "a"
    assert chain("y = Tanh (x)", slope_only=True).output == "x"
    leaky = chain("a = PRelu (x, slope) y = QuantizeLinear (a, step, none)", "int8[N, 2, H, W]", slope_only=True)
    assert (leaky.output, leaky.only_slope, leaky.only_relu) == ("y", True, False)


BYTES = "c = Mul (b, levels) d = Add (c, half)"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"b = Clip (x, zero, one) {BYTES} e = Cast <to = 2> (d) y = Transpose <perm = [0, 2, 3, 1]> (e)", "pictures"),
        (f"b = Clip (x, zero, one) {BYTES} e = Transpose <perm = [0, 2, 3, 1]> (d) y = Cast <to = 2> (e)", "pictures"),
        (
            f"a = Squeeze (x, first) b = Clip (a, zero, one) {BYTES} e = Floor (d)"
            " f = Transpose <perm = [1, 2, 0]> (e) y = Cast <to = 2> (f)",
            "picture",
        ),
        (
            "s = Clip (x, low, one) t = Sub (s, low) u = Div (t, two) a = Mul (u, levels) b = Clip (a, zero, levels)"
            " c = Add (b, half) e = Transpose <perm = [0, 2, 3, 1]> (c) f = Cast <to = 2> (e) y = Squeeze (f, first)",
            "picture",
        ),
    ],
)
def test_a_picture_in_every_order(body, kind):
    found = chain(body, "uint8[H, W, 2]" if kind == "picture" else "uint8[N, H, W, 2]")
    assert (found.output, found.kind) == ("y", kind)
    signed = "Sub" in body
    picture = {"zero": -1.0, "gain": 127.5} if signed else {}
    assert found.steps == LastSteps(low=-1.0 if signed else 0.0, high=1.0, output=PICTURE, rounding=0.5, **picture)


@pytest.mark.parametrize(("body", "last"), [("b = Clip (x, zero, one)", "b"), ("a = Relu (x) b = Identity (a)", "a")])
def test_without_pictures_a_chain_ends_in_front_of_what_only_they_have(body, last):
    end = f"{body} {BYTES} e = Cast <to = 2> (d) y = Transpose <perm = [0, 2, 3, 1]> (e)"
    found = chain(end, "uint8[N, H, W, 2]", pictures=False)
    assert (found.output, found.kind) == (last, "float")


@pytest.mark.parametrize(
    "body",
    [
        f"s = Clip (x, zero, one) b = Sub (s, low) {BYTES}"
        " e = Transpose <perm = [0, 2, 3, 1]> (d) y = Cast <to = 2> (e)",
        f"b = Clip (x, low, one) {BYTES} e = Transpose <perm = [0, 2, 3, 1]> (d) y = Cast <to = 2> (e)",
        f"b = Clip (x, zero, one) {BYTES} e = Transpose <perm = [0, 3, 2, 1]> (d) y = Cast <to = 2> (e)",
        f"b = Clip (x, zero, one) {BYTES} e = Transpose <perm = [0, 2, 3, 1]> (d) y = Cast <to = 3> (e)",
        f"b = Clip (x, zero, one) {BYTES} e = Squeeze (d, last) f = Cast <to = 2> (e) y = Transpose (f)",
        "b = Clip (x, zero, one) c = Mul (b, half) e = Transpose <perm = [0, 2, 3, 1]> (c) y = Cast <to = 2> (e)",
        "b = Clip (x, zero, one) c = Mul (b, levels) d = Floor (c) f = Add (d, half)"
        " e = Transpose <perm = [0, 2, 3, 1]> (f) y = Cast <to = 2> (e)",
    ],
)
def test_what_is_no_picture(body):
    found = chain(body, "uint8[N, H, W, 2]")
    assert found.kind == "float"
    assert found.output == ("s" if "Sub" in body else "b")

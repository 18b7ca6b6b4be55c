"""The picture around 0: the same numbers come out, at the border too, and 8 bits of it stay 8 bits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.as_rounded import run_graph
from export.centred import LEVELS, centred

TEXT = '<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,H,W] x) => (float[1,C,P,Q] y) {{ {} }}'
SKIP = "a = Conv<pads=[1,2,1,2], dilations=[1,2]>(x, w, b) c = Conv(a, v) y = Add(c, a)"


def graph_of(text, **more):
    random = np.random.default_rng(0)
    stored = {
        "w": random.standard_normal((4, 3, 3, 3)),
        "b": random.standard_normal(4),
        "v": random.standard_normal((4, 4, 1, 1)),
    } | more
    model = onnx.parser.parse_model(TEXT.format(text))
    named = [node for node in model.graph.node if not node.name]
    for number, node in enumerate(named):
        node.name = f"node{number}"
    used = {name for node in model.graph.node for name in node.input}
    for name, value in stored.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    onnx.checker.check_model(model)
    return model


def picture(height=9, width=12):
    return np.random.default_rng(1).integers(0, 256, (1, 3, height, width)).astype(np.float32) / LEVELS


@pytest.mark.parametrize(
    "text",
    [
        SKIP,
        "y = Conv(x, w)",
        "y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w)",
        "y = Conv<pads=[0,1,2,3]>(x, w, b)",
        "a = Conv<pads=[1,1,1,1]>(x, w) c = Conv<pads=[1,1,1,1]>(x, w, b) d = Add(a, c) y = Conv(d, v)",
        "y = Conv<pads=[1,1,1,1], group=3>(x, g)",
    ],
)
def test_the_same_comes_out_at_every_pixel(text):
    text = text.replace("float[1,4", "float[1,3")
    model = graph_of(text, g=np.random.default_rng(2).standard_normal((3, 1, 3, 3)))
    x = picture()
    found, steps = centred(model, [x])
    onnx.checker.check_model(found, full_check=True)
    assert steps
    assert all(step == 1 / 255 for step in steps.values())
    assert np.abs(run_graph(found, x) - run_graph(model, x)).max() < 2e-6 * 20


def test_an_8_bit_picture_and_its_padding_lie_on_int8_s_grid():
    x = picture(64, 64)
    found, steps = centred(graph_of("y = Conv<pads=[1,1,1,1]>(x, w)"), [x])
    (conv,) = (node for node in found.graph.node if node.op_type == "Conv")
    found.graph.output[0].name = conv.input[0]
    del found.graph.node[-1]
    values = run_graph(found, x) / np.float32(steps[conv.input[0]])
    assert np.abs(values - np.rint(values)).max() < 1e-3
    assert (np.rint(values).min(), np.rint(values).max()) == (-128, 127)
    assert (np.rint(values)[:, :, 0] == -128).all()


def test_other_readers_of_the_picture_read_it_as_it_is():
    model = graph_of("a = Conv<pads=[1,1,1,1]>(x, v3) y = Add(a, x)", v3=np.ones((3, 3, 3, 3)))
    found, _ = centred(model, [picture()])
    assert found.graph.node[-1].input[1] == "x"
    assert [node.op_type for node in found.graph.node] == ["Sub", "Pad", "Conv", "Add"]


@pytest.mark.parametrize("text", ["a = Relu(x) y = Conv(a, w)", "a = Add(w, w) y = Conv(x, a)", "y = Conv(x, w, s)"])
def test_what_cannot_be_centred_stays_the_model_itself(text):
    model = graph_of(("s = Add(b, b) " if "s)" in text else "") + text)
    assert centred(model, [picture()]) == (model, {})


@pytest.mark.parametrize("x", [picture() - 0.1, picture() * 2])
def test_values_that_are_no_picture_are_not_centred(x):
    model = graph_of(SKIP)
    assert centred(model, [picture(), x]) == (model, {})
    assert centred(model, []) == (model, {})

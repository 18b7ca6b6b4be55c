"""The strict reading of a graph: every half tensor is rounded as it is made, and nothing else changes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.as_rounded import as_rounded, run_graph, types_of

KINDS = {"fp16": (TensorProto.FLOAT16, np.float16), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}


def scaled_twice(kind):
    """x → cast → times a → times b → cast back, all between in the half type."""
    stored = [helper.make_tensor(name, kind, (), [value]) for name, value in (("a", 1.1), ("b", 0.3))]
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=kind),
        helper.make_node("Mul", ["half", "a"], ["once"]),
        helper.make_node("Mul", ["once", "b"], ["twice"]),
        helper.make_node("Cast", ["twice"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "H", "W"]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


@pytest.mark.parametrize("name", KINDS)
def test_every_step_is_rounded_once(name):
    kind, dtype = KINDS[name]
    x = np.random.default_rng(0).random((1, 3, 5, 7), np.float32)
    half = x.astype(dtype).astype(np.float32)
    a, b = (np.float32(dtype(value)) for value in (1.1, 0.3))
    wanted = ((half * a).astype(dtype).astype(np.float32) * b).astype(dtype).astype(np.float32)
    got = run_graph(as_rounded(scaled_twice(kind)), x)
    np.testing.assert_array_equal(got, wanted)
    assert not np.array_equal(got, half * a * b)  # without the roundings it is another number


def test_a_graph_in_float32_stays_what_it_is():
    model = scaled_twice(TensorProto.FLOAT)
    x = np.random.default_rng(1).random((1, 3, 4, 4), np.float32)
    np.testing.assert_array_equal(run_graph(as_rounded(model), x), run_graph(model, x))


def test_the_model_that_was_given_is_not_changed():
    model = scaled_twice(TensorProto.FLOAT16)
    before = model.SerializeToString()
    as_rounded(model)
    assert model.SerializeToString() == before


def test_half_inputs_are_rounded_too():
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 1, 1, 3])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 3])
    graph = helper.make_graph(nodes, "g", [given], [made])
    model = as_rounded(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    model.graph.input[0].name  # noqa: B018  its name may differ from the graph's
    from export.as_rounded import strict_session

    session = strict_session(model)
    x = np.array([[[[0.1, 1 / 3, 1000.1]]]], np.float32)
    got = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_array_equal(got, x.astype(np.float16).astype(np.float32))


def test_types_are_those_that_follow_from_the_nodes():
    model = scaled_twice(TensorProto.FLOAT16)
    wrong = helper.make_tensor_value_info("once", TensorProto.DOUBLE, None)
    model.graph.value_info.append(wrong)  # what a file says of its inside is not believed
    types = types_of(model)
    assert {types[n] for n in ("half", "once", "twice", "a")} == {TensorProto.FLOAT16}
    assert types["y"] == types["x"] == TensorProto.FLOAT


def test_quantised_tensors_pass_through():
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    zero = numpy_helper.from_array(np.int8(0), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert onnx.checker.check_model(as_rounded(model)) is None
    x = np.array([[[[0.04, 0.16, -0.25, 99]]]], np.float32)
    np.testing.assert_allclose(run_graph(as_rounded(model), x), [[[[0.0, 0.2, -0.2, 12.7]]]], atol=1e-6)

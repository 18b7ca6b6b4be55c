"""Copies of graphs: the same numbers at another opset and after widening, and what is known of their tensors."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import reference_models
from export.onnx_file import default_opset
from export.to_onnx import ExportRequest, export_network
from export.typed_graph import BFLOAT16, FLOAT16, OUTPUT, half_bits, rounded, typed_graph
from reference_models.errors import UserError


def graph_of(text, opset=20, kind="float", **stored):
    ends = f"({kind}[1,3,H,W] x) => ({kind}[N,C,H2,W2] y)"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {ends} {{ {text} }}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    return model


def run(model, x):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


# Opsets


def test_every_network_computes_the_same_at_the_opset_of_bf16(any_family, cache):
    spec = reference_models.get(any_family)
    network = export_network(ExportRequest(spec, None, spec.statistics[0] if spec.statistics else None), cache)
    model = onnx.load(network.main.onnx_path)
    raised = typed_graph(model, "bf16", "fp32").model
    assert (default_opset(model), default_opset(raised)) == (20, 22)
    assert [node.op_type for node in raised.graph.node] == [node.op_type for node in model.graph.node]
    assert {t.name: t.raw_data for t in raised.graph.initializer} == {
        t.name: t.raw_data for t in model.graph.initializer
    }
    x = np.random.default_rng(0).random((1, spec.input_planes, *spec.tensor_size(21, 27)), np.float32)
    assert np.abs(run(raised, x) - run(model, x)).max() <= 1e-6


def test_fp16_raises_the_opset_for_scales_only():
    plain = graph_of("y = Relu(x)", opset=13)
    assert default_opset(typed_graph(plain, "fp16", "fp32").model) == 13
    scaled = graph_of("q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", opset=13, s=np.float32(0.01))
    graph = typed_graph(scaled, "fp16", "fp32")
    assert default_opset(graph.model) == 19
    x = np.random.default_rng(0).random((1, 3, 5, 4), np.float32)
    assert np.array_equal(run(graph.model, x), run(scaled, x))


def test_an_opset_that_cannot_be_raised_is_said(monkeypatch):
    def refuse(model, version):
        raise RuntimeError("no adapter")

    monkeypatch.setattr("onnx.version_converter.convert_version", refuse)
    with pytest.raises(UserError, match="opset 20 cannot be raised to 22: no adapter"):
        typed_graph(graph_of("y = Relu(x)"), "bf16", "fp32")


# Widening


@pytest.mark.parametrize(("kind", "number"), [("float16", TensorProto.FLOAT16), ("bfloat16", TensorProto.BFLOAT16)])
def test_half_types_of_the_file_are_widened_exactly(kind, number):
    text = f"c = Cast<to=1>(x) d = Mul(c, k) e = Cast<to={number}>(d) y = Mul(e, w)"
    model = graph_of(text, opset=22, kind=kind, k=np.float32(0.1))
    values = np.linspace(-2, 2, 48).astype(np.float32).reshape(1, 3, 4, 4)
    model.graph.initializer.append(helper.make_tensor("w", number, values.shape, values.ravel()))
    stored = numpy_helper.to_array(model.graph.initializer[-1]).astype(np.float32)
    graph = typed_graph(model, "fp16", "fp32")
    assert set(graph.types.values()) == {TensorProto.FLOAT}
    assert [node.op_type for node in graph.nodes] == ["Identity", "Mul", "Identity", "Mul"]
    x = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    assert np.abs(run(graph.model, x) - x * np.float32(0.1) * stored).max() < 1e-7


def test_constant_nodes_become_stored_tensors_and_cast_like_a_cast():
    text = """k = Constant<value_float=0.5>() ks = Constant<value_floats=[1.0, 2.0, 3.0]>() i = Constant<value_int=7>()
    t = Constant<value=float[3,1,1] {1, 2, 3}>() f = CastLike(i, x) a = Mul(x, k) b = Mul(a, t) y = Mul(b, f)"""
    graph = typed_graph(graph_of(text), "fp16", "fp32")
    assert [node.op_type for node in graph.nodes] == ["Cast", "Mul", "Mul", "Mul"]
    assert {name: numpy_helper.to_array(tensor).ravel().tolist() for name, tensor in graph.stored.items()} == {
        "k": [0.5], "ks": [1, 2, 3], "i": [7], "t": [1, 2, 3]
    }  # fmt: skip
    x = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    wanted = x * 3.5 * np.array([1, 2, 3], np.float32)[:, None, None]
    assert np.abs(run(graph.model, x) - wanted).max() < 1e-5


def test_functions_of_the_file_are_inlined():
    model = graph_of("y = Relu(x)")
    model.graph.node[0].op_type, model.graph.node[0].domain = "Twice", "own"
    model.opset_import.add(domain="own", version=1)
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)]))
    assert [node.op_type for node in typed_graph(model, "fp16", "fp32").nodes] == ["Add"]


# What is known


def test_makers_readers_and_what_does_not_depend_on_the_input():
    branch = "{ p = Relu(c) }"
    text = f"""c = Conv(x, w) f = Neg(w) g = Neg(f) m = ReduceMax(c) t = Greater(m, m)
    y = If(t)<then_branch = a () => (float[1,3,H,W] p) {branch}, else_branch = b () => (float[1,3,H,W] p) {branch}>"""
    graph = typed_graph(graph_of(text, w=np.zeros((3, 3, 1, 1), np.float32)), "fp16", "fp32")
    assert graph.maker == {"c": 0, "f": 1, "g": 2, "m": 3, "t": 4, "y": 5}
    assert graph.fixed == {"w", "f", "g"}
    assert set(graph.readers["c"]) == {3, 5}  # a body reads it too
    assert graph.readers["y"] == [OUTPUT]
    assert graph.types["t"] == TensorProto.BOOL
    assert graph.shapes["c"] == (1, 3, -1, -1)


def test_a_tensor_whose_type_nobody_knows_is_named():
    model = graph_of("a = Relu(x) y = Relu(a)")
    model.graph.node[0].op_type, model.graph.node[0].domain = "Own", "mine"
    model.opset_import.add(domain="mine", version=1)
    with pytest.raises(UserError, match="cannot tell the type of `a`, which Own makes"):
        typed_graph(model, "fp16", "fp32")


# Numbers


def test_rounding_is_that_of_torch():
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2**32, 20000, np.uint32).view(np.float32)
    array = np.concatenate([array, (rng.integers(0, 2**16, 2000, np.uint32) << 16 | 0x8000).view(np.float32)])  # ties
    array = array[~np.isnan(array)]
    for half, dtype in ((FLOAT16, torch.float16), (BFLOAT16, torch.bfloat16)):
        wanted = torch.from_numpy(array).to(dtype)
        assert np.array_equal(half_bits(array, half).view(np.int16), wanted.view(torch.int16).numpy())
        assert np.array_equal(rounded(array, half), wanted.float().numpy())
        assert np.isnan(rounded(np.array([np.nan], np.float32), half)).all()

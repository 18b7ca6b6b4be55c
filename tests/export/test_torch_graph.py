"""The torch form of every operator against ONNX Runtime, what is refused by name, and gradients through Q/DQ."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.torch_graph import OPERATORS, TorchGraph, unsupported

INT8, UINT8, FLOAT8 = TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT8E4M3FN
MINIMUM = -(2**63)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def graph_of(text, opset=20, shape="1,4,6,9", **stored):
    """A model with input x of a fixed shape and output y of any, from ONNX's text form."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[{shape}] x) => (float y) {{ {text} }}'
    model = onnx.parser.parse_model(head)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, value in stored.items():
        kept = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        kept.name = name
        model.graph.initializer.append(kept)
    return model


def zeros(kind, *shape, value=0):
    return helper.make_tensor("", kind, shape, [value] * int(np.prod(shape)))


def onnxruntime(model, x):
    """Unoptimised, with the output's type left to the graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


X = numbers(1, 4, 6, 9, seed=3)
CASES = {
    "Add": [("y = Add(x, a)", {"a": numbers(4, 1, 1)})],
    "Cast": [
        ("i = Cast<to=7>(x) y = Cast<to=1>(i)", {}),
        ("h = Cast<to=10>(x) y = Cast<to=1>(h)", {}),
        ("h = Cast<to=16>(x) y = Cast<to=1>(h)", {}),
    ],
    "Clip": [
        ("y = Clip(x, a, b)", {"a": np.float32(-0.5), "b": np.float32(0.4)}),
        ("y = Clip(x, , b)", {"b": np.float32(0.4)}),
        ("i = Cast<to=7>(x) j = Clip(i, a) k = Div(j, b) y = Cast<to=1>(k)", {"a": ints(-1)[0], "b": ints(2)[0]}),
    ],
    "Concat": [("y = Concat<axis=1>(x, x)", {}), ("y = Concat<axis=-1>(x, x)", {})],
    "Conv": [
        ("y = Conv(x, w, b)", {"w": numbers(5, 4, 3, 3), "b": numbers(5)}),
        ("y = Conv<pads=[1,2,1,2], strides=[2,3]>(x, w)", {"w": numbers(5, 4, 3, 5)}),
        ("y = Conv<pads=[0,1,3,2], dilations=[2,1]>(x, w, b)", {"w": numbers(5, 4, 3, 3), "b": numbers(5)}),
        ("y = Conv<group=2, pads=[1,1,1,1]>(x, w)", {"w": numbers(6, 2, 3, 3)}),
        ('y = Conv<auto_pad="VALID">(x, w)', {"w": numbers(6, 4, 3, 3)}),
    ],
    "ConvTranspose": [
        ("y = ConvTranspose(x, w, b)", {"w": numbers(4, 5, 3, 3), "b": numbers(5)}),
        ("y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, w, b)", {"w": numbers(4, 5, 4, 4), "b": numbers(5)}),
        (
            "y = ConvTranspose<strides=[2,3], pads=[1,0,0,2], output_padding=[1,2]>(x, w, b)",
            {"w": numbers(4, 5, 3, 3), "b": numbers(5)},
        ),
        ("y = ConvTranspose<pads=[0,0,1,2]>(x, w)", {"w": numbers(4, 5, 3, 3)}),
        ("y = ConvTranspose<group=2, dilations=[2,1], strides=[1,2]>(x, w)", {"w": numbers(4, 3, 3, 2)}),
    ],
    "DepthToSpace": [
        ("y = DepthToSpace<blocksize=2>(x)", {}),
        ('y = DepthToSpace<blocksize=2, mode="DCR">(d)', {"d": numbers(1, 12, 3, 2)}),
        ('y = DepthToSpace<blocksize=2, mode="CRD">(d)', {"d": numbers(1, 12, 3, 2)}),
    ],
    "DequantizeLinear": [
        ("y = DequantizeLinear(q, s, z)", {"q": np.arange(-9, 9, dtype=np.int8), "s": np.float32(0.3), "z": np.int8(2)}),
        ("y = DequantizeLinear(q, s)", {"q": np.arange(250, 255, dtype=np.uint8), "s": np.float32(0.3)}),
        ("y = DequantizeLinear<axis=0>(q, s, z)", {
            "q": np.arange(12, dtype=np.int32).reshape(3, 4) * 1000, "s": numbers(3), "z": np.zeros(3, np.int32),
        }),
    ],
    "Div": [("y = Div(x, a)", {"a": numbers(4, 1, 1)})],
    "Gather": [
        ("y = Gather<axis=1>(x, i)", {"i": ints(3, -1, 0)}),
        ("y = Gather<axis=-1>(x, i)", {"i": np.array([[0, 2], [-3, 1]])}),
        ("y = Gather(x, i)", {"i": np.array(0)}),
    ],
    "Gemm": [
        ("f = Reshape(x, s) y = Gemm(f, w)", {"s": ints(24, 9), "w": numbers(9, 5)}),
        (
            "f = Reshape(x, s) y = Gemm<transA=1, transB=1, alpha=0.5, beta=2.0>(f, w, b)",
            {"s": ints(24, 9), "w": numbers(5, 24), "b": numbers(5)},
        ),
    ],
    "Identity": [("y = Identity(x)", {})],
    "LeakyRelu": [("y = LeakyRelu(x)", {}), ("y = LeakyRelu<alpha=0.2>(x)", {})],
    "MatMul": [("y = MatMul(x, w)", {"w": numbers(9, 5)}), ("y = MatMul(w, x)", {"w": numbers(4, 5, 6)})],
    "MaxPool": [
        ("y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", {}),
        ("y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)", {}),
        ("y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1], dilations=[2,1]>(x)", {}),
        ("y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", {}),
    ],
    "Mul": [("y = Mul(x, a)", {"a": numbers(6, 1)})],
    "PRelu": [("y = PRelu(x, a)", {"a": numbers(4, 1, 1)})],
    "Pad": [
        ("y = Pad(x, p)", {"p": ints(0, 1, 2, 3, 0, 0, 1, 2)}),
        ("y = Pad(x, p, v)", {"p": ints(0, 0, 2, -3, 0, 0, -1, 2), "v": np.float32(7)}),
        ("y = Pad(x, p, , a)", {"p": ints(3, 1, 2, 0), "a": ints(-1, 1)}),
        ('y = Pad<mode="edge">(x, p)', {"p": ints(0, 0, 2, 3, 0, 0, 1, 2)}),
        ('y = Pad<mode="reflect">(x, p)', {"p": ints(0, 0, 2, 3, 0, 0, 1, 2)}),
        ('y = Pad<mode="wrap">(x, p)', {"p": ints(0, 0, 2, 3, 0, 0, 1, 2)}),
    ],
    "QuantizeLinear": [],  # below: two of them make a pair
    "Reciprocal": [("y = Reciprocal(x)", {})],
    "ReduceMean": [
        ("y = ReduceMean(x, a)", {"a": ints(2, -1)}),
        ("y = ReduceMean<keepdims=0>(x, a)", {"a": ints(1)}),
        ("y = ReduceMean(x)", {}),
        ("y = ReduceMean<noop_with_empty_axes=1>(x)", {}),
    ],
    "ReduceSum": [("y = ReduceSum(x, a)", {"a": ints(3)})],
    "Relu": [("y = Relu(x)", {})],
    "Reshape": [("y = Reshape(x, s)", {"s": ints(0, 2, -1)}), ("y = Reshape(x, s)", {"s": ints(-1)})],
    "Resize": [
        ('y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)',
         {"s": np.array([1, 1, 1.5, 3], np.float32)}),
        ("y = Resize(x, , s)", {"s": np.array([1, 1, 2, 3], np.float32)}),
        ('y = Resize<nearest_mode="round_prefer_ceil">(x, , , n)', {"n": ints(1, 4, 18, 18)}),
        ('y = Resize<mode="linear">(x, , , n)', {"n": ints(1, 4, 13, 7)}),
        ('y = Resize<mode="linear", coordinate_transformation_mode="pytorch_half_pixel">(x, , s)',
         {"s": np.array([1, 1, 2, 2], np.float32)}),
        ('y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , , n)', {"n": ints(1, 4, 11, 20)}),
        ('y = Resize<mode="linear", antialias=1, exclude_outside=1>(x, , , n)', {"n": ints(1, 4, 3, 4)}),
    ],
    "Shape": [
        ("i = Shape(x) y = Cast<to=1>(i)", {}),
        ("i = Shape<start=-2, end=-1>(x) y = Cast<to=1>(i)", {}),
    ],
    "Sigmoid": [("y = Sigmoid(x)", {})],
    "Slice": [
        ("y = Slice(x, b, e)", {"b": ints(0, 1), "e": ints(1, 3)}),
        ("y = Slice(x, b, e, a)", {"b": ints(-5, 1), "e": ints(2**62, -1), "a": ints(-1, 2)}),
        ("y = Slice(x, b, e, a, t)", {"b": ints(-1, 5), "e": ints(MINIMUM, 1), "a": ints(3, 2), "t": ints(-2, -1)}),
    ],
    "Sqrt": [("p = Mul(x, x) y = Sqrt(p)", {})],
    "Squeeze": [("y = Squeeze(x, a)", {"a": ints(0)}), ("y = Squeeze(x)", {})],
    "Sub": [("y = Sub(a, x)", {"a": numbers(1)})],
    "Tanh": [("y = Tanh(x)", {})],
    "Transpose": [("y = Transpose<perm=[0,2,3,1]>(x)", {}), ("y = Transpose(x)", {})],
    "Unsqueeze": [("y = Unsqueeze(x, a)", {"a": ints(-1, 1)}), ("y = Unsqueeze(x, a)", {"a": ints(0)})],
}  # fmt: skip


def test_every_operator_is_tested():
    assert CASES.keys() == OPERATORS.keys()


@pytest.mark.parametrize(("text", "stored"), [case for cases in CASES.values() for case in cases])
def test_an_operator_computes_what_onnxruntime_computes(text, stored):
    model = graph_of(text, 18 if 'mode="wrap"' not in text else 20, **stored)
    wanted = onnxruntime(model, X)
    got = TorchGraph(model)(torch.from_numpy(X)).numpy()
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


PAIRS = [
    ("", {"s": np.float32(0.013), "z": zeros(INT8)}),
    ("", {"s": np.float32(0.013), "z": zeros(UINT8, value=77)}),
    ("<axis=1>", {"s": np.float32([0.1, 0.02, 0.3, 0.004]), "z": zeros(INT8, 4, value=-3)}),
    ("<axis=-1>", {"s": np.linspace(0.01, 0.1, 9, dtype=np.float32), "z": zeros(UINT8, 9, value=255)}),
    ("", {"s": np.float32(0.004), "z": zeros(FLOAT8)}),
    ("<axis=1>", {"s": np.float32([0.1, 0.02, 0.3, 0.0004]), "z": zeros(FLOAT8, 4)}),
    ("<axis=1>", {"s": np.float32([0.1, 0.02, 0.3, 0.0004])}),
]


@pytest.mark.parametrize(("axis", "stored"), PAIRS)
def test_a_pair_rounds_and_clips_as_onnxruntime_does(axis, stored):
    zero = ", z" if "z" in stored else ""
    model = graph_of(
        f"q = QuantizeLinear{axis}(x, s{zero}) y = DequantizeLinear{axis}(q, s{zero})", **stored
    )
    x = X.copy()
    x[0, :, 0, :4] = np.array([0.5, 1.5, 2.5, -0.5])[None] * np.atleast_1d(stored["s"])[0]  # ties
    wanted = onnxruntime(model, x)
    assert np.abs(wanted - x).max() > 1e-4
    np.testing.assert_allclose(TorchGraph(model)(torch.from_numpy(x)).numpy(), wanted, rtol=1e-6, atol=1e-7)


def test_unknown_operators_are_refused_by_name_all_at_once():
    model = graph_of("a = Erf(x) b = Softmax(a) c = Erf(b) y = Relu(c)")
    assert unsupported(model) == ["Erf", "Softmax"]
    with pytest.raises(ValueError, match="no torch form of Erf, Softmax"):
        TorchGraph(model)


@pytest.mark.parametrize(
    ("text", "stored", "words"),
    [
        ('y = Conv<auto_pad="SAME_UPPER">(x, w)', {"w": numbers(5, 4, 3, 3)}, "auto_pad SAME_UPPER"),
        ("r = Reshape(x, s) y = Conv(r, w)", {"s": ints(1, 4, 54), "w": numbers(5, 4, 3)}, "1 spatial axes"),
        ("y = ConvTranspose<output_shape=[8,11]>(x, w)", {"w": numbers(4, 5, 3, 3)}, "output_shape"),
        ('y = Resize<mode="cubic">(x, , , n)', {"n": ints(1, 4, 12, 18)}, "Resize cubic half_pixel"),
        ('y = Resize<mode="nearest">(x, , , n)', {"n": ints(1, 4, 7, 9)}, "Resize nearest half_pixel"),
        ('y = Resize<nearest_mode="floor">(x, , , n)', {"n": ints(1, 4, 12, 18)}, "half_pixel floor"),
        (
            'y = Resize<coordinate_transformation_mode="asymmetric">(x, , , n)',
            {"n": ints(1, 4, 18, 27)},
            "asymmetric round_prefer_floor",
        ),
        ('y = Resize<mode="linear">(x, , s)', {"s": np.float32([1, 1, 1.3, 2])}, "Resize from"),
        ('y = Resize<mode="linear", antialias=1>(x, , , n)', {"n": ints(1, 4, 3, 4)}, "antialias without exclude"),
        ("y = Resize<axes=[2,3]>(x, , , n)", {"n": ints(12, 18)}, "Resize with axes"),
        ('y = Pad<mode="edge">(x, p)', {"p": ints(0, 1, 0, 0, 0, 0, 0, 0)}, "Pad edge by"),
        ("q = QuantizeLinear(x, s, z) y = Cast<to=1>(q)", {"s": np.float32(1), "z": np.int16(0)}, "QuantizeLinear to"),
    ],
)
def test_forms_that_differ_in_torch_are_refused(text, stored, words):
    with pytest.raises(ValueError, match=words):
        TorchGraph(graph_of(text, 21, **stored))(torch.from_numpy(X))


def test_constants_may_be_nodes_and_may_be_replaced():
    model = graph_of("a = Constant<value_float=2.0>() b = Mul(x, a) y = Add(b, c)", c=np.float32(1))
    graph, x = TorchGraph(model), torch.from_numpy(X)
    torch.testing.assert_close(graph(x), 2 * x + 1)
    torch.testing.assert_close(graph(x, {"c": torch.tensor(5.0)}), 2 * x + 5)
    torch.testing.assert_close(graph(x), 2 * x + 1)


def test_every_tensor_is_seen_and_can_be_changed_and_is_there_when_read_late():
    graph, x = TorchGraph(graph_of("a = Relu(x) b = Tanh(a) c = Mul(b, a) y = Add(c, x)")), torch.from_numpy(X)
    names = []

    def seen(name, value):
        names.append(name)
        return value + 1 if name == "a" else value

    a = x.relu() + 1
    torch.testing.assert_close(graph(x, seen=seen), a.tanh() * a + x)
    assert names == ["x", "a", "b", "c", "y"]


def pair(x, scale, zero, kind):
    model = graph_of("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", s=np.float32(1), z=zeros(kind))
    return TorchGraph(model)(x, {"s": scale, "z": zero})


def test_gradients_pass_a_pair_where_it_does_not_clip():
    """Rounding counts as nothing: dy/dx is 1 inside and 0 outside; a step's own gradient is its rounding error."""
    x = torch.tensor([[[[0.26, -0.13, 90.0, -90.0]]]], requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    y = pair(x, scale, torch.zeros((), dtype=torch.int8), INT8)
    y.sum().backward()
    assert x.grad.flatten().tolist() == [1, 1, 0, 0]
    rounded = torch.tensor([3 - 2.6, -1 + 1.3]).sum() + 127 - 128
    torch.testing.assert_close(scale.grad, rounded)


def test_gradients_reach_a_zero_point_where_the_pair_clips():
    """y = (255 - zero) * scale above the range, -zero * scale below; inside the zero point cancels."""
    x = torch.tensor([[[[0.26, 90.0]]]])
    zero = torch.tensor(100.2, requires_grad=True)
    y = pair(x, torch.tensor(0.1), zero, UINT8)
    torch.testing.assert_close(y.flatten(), torch.tensor([0.3, 15.5]))
    y.sum().backward()
    torch.testing.assert_close(zero.grad, torch.tensor(-0.1))


def test_gradients_pass_a_float8_pair():
    x = torch.tensor([[[[0.26, 90.0]]]], requires_grad=True)
    pair(x, torch.tensor(0.1), torch.zeros((), dtype=torch.float8_e4m3fn), FLOAT8).sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([1, 0])


def test_gradients_reach_weights_and_biases():
    model = graph_of("c = Conv<pads=[1,1,1,1]>(x, w, b) y = LeakyRelu(c)", w=numbers(5, 4, 3, 3), b=numbers(5))
    graph = TorchGraph(model)
    learned = {name: value.clone().requires_grad_() for name, value in graph.constants.items()}
    graph(torch.from_numpy(X), learned).square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in learned.values())
    assert graph.constants["w"].grad is None

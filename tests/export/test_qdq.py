"""Where Q/DQ pairs stand and where not, and what such graphs compute, against fake quantisation written in NumPy."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, numpy_helper

from export.processor import exact_weight_bits
from export.qdq import Scheme, folded_weights, layers, named_nodes, scale_sources, tensors, with_qdq
from export.ranges import clipped, histograms, scale_and_zero
from export.recipe import WEIGHT_PEAK
from export.rounding import scales_of

INPUTS, INTEGER = Scheme("inputs"), Scheme("integer", shifted=True)
SCHEMES = {
    "inputs int8": INPUTS,
    "inputs uint8": Scheme("inputs", shifted=True),
    "inputs fp8": Scheme("inputs", number="fp8"),
    "integer uint8": INTEGER,
    "integer int8": Scheme("integer"),
}
ALL = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(monkeypatch):
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(2))


EXACT = float(WEIGHT_PEAK[exact_weight_bits()])
"""Levels of weights whose products integer kernels here add exactly."""


def weight(*shape):
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def bias(count):
    return RNG.uniform(-0.3, 0.3, count).astype(np.float32)


def graph_of(text, shape="1,3,H,W", opset=20, **stored):
    """A model with input x and outputs y (and z), its nodes named by what they make."""
    made = [name for name in ("y", "z") if f" {name} =" in f" {text}"]
    ends = ", ".join(f"float[A{i},B{i},C{i},D{i}] {name}" for i, name in enumerate(made))
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[{shape}] x) => ({ends}) {{ {text} }}'
    model = onnx.parser.parse_model(head)
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    return model


def picture(planes=3, height=13, width=11):
    return RNG.uniform(0, 1, (1, planes, height, width)).astype(np.float32)


def nothing(what, share):
    pass


def session_of(model, level="ORT_DISABLE_ALL", path=None):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    if path:
        options.optimized_model_filepath = str(path)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model, x, level="ORT_DISABLE_ALL"):
    return session_of(model, level).run(None, {"x": x})[0]


def numbers_for(model, scheme, chosen, xs, peak=127.0):
    """(activations, weights' steps) by minimum and maximum."""
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    found = histograms(model, tensors(model, scheme, chosen), xs, nothing)
    activations = {}
    for name, histogram in found.items():
        low, high = clipped(histogram, scheme.levels, "minmax")
        activations[name] = scale_and_zero(low, high, scheme.levels)
        if scheme.number == "fp8":
            activations[name] = (max(-low, high) / 448, 0)
    return activations, scales_of(weights, chosen, 448.0 if scheme.number == "fp8" else peak, False)


def quantised(model, scheme, xs, left_out=(), peak=127.0):
    chosen = [layer for layer in layers(model, scheme) if layer.name not in left_out]
    made = with_qdq(model, scheme, chosen, *numbers_for(model, scheme, chosen, xs, peak))
    onnx.checker.check_model(made, full_check=True)
    return made


def reads(model):
    """Tensor → what the node that makes it reads; `a*` is a behind its pair. Pairs themselves are left out."""
    made = {name: node for node in model.graph.node for name in node.output}

    def name_of(name):
        node = made.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return name
        q = made.get(node.input[0])
        return f"{q.input[0]}*" if q else f"{node.input[0]}!"

    return {
        node.output[0]: [name_of(name) for name in node.input]
        for node in model.graph.node
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}
    }


def paired(model):
    return {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def optimised(model, tmp_path):
    path = tmp_path / "optimised.onnx"
    session_of(model, "ORT_ENABLE_ALL", path)
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def decibels(got, wanted):
    return 10 * np.log10(np.ptp(wanted) ** 2 / max(np.mean((got - wanted) ** 2), 1e-20))


def chain(activation="LeakyRelu<alpha=0.2>"):
    return graph_of(
        f"c = Conv<pads=[1,1,1,1]>(x, w1, b1) a = {activation}(c) y = Conv<pads=[1,1,1,1]>(a, w2, b2)",
        w1=weight(8, 3, 3, 3), b1=bias(8), w2=weight(3, 8, 3, 3), b2=bias(3),
    )  # fmt: skip


# Where pairs stand


def test_inputs_a_chain_is_quantised_where_layers_read_and_nowhere_else():
    made = quantised(chain(), INPUTS, [picture()])
    assert reads(made) == {"c": ["x*", "w1*", "b1"], "a": ["c"], "y": ["a*", "w2*", "b2"]}


def test_integer_a_chain_is_quantised_throughout_its_biases_and_its_output_too():
    made = quantised(chain(), INTEGER, [picture()])
    found = reads(made)
    assert found == {
        "c": ["x*", "w1*", "n_c.bias.int32!"], "a": ["c*"], "y.float": ["a*", "w2*", "n_y.bias.int32!"],
    }  # fmt: skip
    assert paired(made) == {"x", "c", "a", "y.float", "w1", "w2"}
    assert next(n for n in made.graph.node if n.output[0] == "y").op_type == "DequantizeLinear"


def test_integer_a_relu_is_merged_into_the_convolution_and_has_the_pair():
    for activation in ("Relu", "Clip"):
        made = quantised(chain(activation), INTEGER, [picture()])
        assert reads(made)["a"] == ["c"]
        assert paired(made) == {"x", "a", "y.float", "w1", "w2"}


def test_integer_a_relu_whose_input_others_read_too_is_not_merged():
    model = graph_of(
        "c = Conv(x, w1) a = Relu(c) d = Conv(a, w2) y = Add(d, c)", w1=weight(4, 3, 1, 1), w2=weight(4, 4, 1, 1)
    )
    assert "c" in paired(quantised(model, INTEGER, [picture()]))
    assert "c" not in paired(quantised(model, INPUTS, [picture()]))


RESIDUAL = """c = Conv<pads=[1,1,1,1]>(x, w1) a = Relu(c) d = Conv<pads=[1,1,1,1]>(a, w2) e = Relu(d)
f = Conv<pads=[1,1,1,1]>(e, w2b) s = Add(f, a) g = Relu(s) y = Conv<pads=[1,1,1,1]>(g, w3)"""


def residual(text=RESIDUAL):
    return graph_of(text, w1=weight(6, 3, 3, 3), w2=weight(6, 6, 3, 3), w2b=weight(6, 6, 3, 3), w3=weight(3, 6, 3, 3))


def test_inputs_a_residual_addition_reads_the_skip_behind_its_pair_and_the_layer_as_it_is():
    for text in (RESIDUAL, RESIDUAL.replace("Add(f, a)", "Add(a, f)")):
        found = reads(quantised(residual(text), INPUTS, [picture()]))
        assert sorted(found["s"]) == ["a*", "f"]
        assert found["g"] == ["s"]


def test_integer_a_residual_addition_reads_and_makes_quantised_tensors():
    made = quantised(residual(), INTEGER, [picture()])
    assert reads(made)["s"] == ["f*", "a*"]
    assert reads(made)["g"] == ["s"]  # ONNX Runtime merges the ReLU into the pair behind it
    assert "g" in paired(made)


def test_inputs_a_skip_that_nobody_quantises_or_whose_layer_is_read_twice_stays_float():
    """s reads c, which no layer reads; t reads d, which something else reads too."""
    model = graph_of(
        """c = Conv(x, w1) a = Tanh(c) d = Conv(a, w2) s = Add(d, c) t = Add(s, d) u = Mul(t, t)
        y = Conv(u, w3)""",
        w1=weight(4, 3, 1, 1), w2=weight(4, 4, 1, 1), w3=weight(3, 4, 1, 1),
    )  # fmt: skip
    found = reads(quantised(model, INPUTS, [picture()]))
    assert (found["s"], found["t"]) == (["d", "c"], ["s", "d"])


GLOBAL_SKIP = """c = Conv<pads=[1,1,1,1]>(x, w1) a = Relu(c) d = Conv<pads=[1,1,1,1]>(a, w2) e = Relu(d)
f = Conv<pads=[1,1,1,1]>(e, w3) s = Add(f, x) y = Clip(s)"""


@ALL
def test_a_global_skip_carries_the_picture_in_float(scheme):
    model = graph_of(GLOBAL_SKIP, w1=weight(4, 3, 3, 3), w2=weight(4, 4, 3, 3), w3=weight(3, 4, 3, 3))
    made = quantised(model, scheme, [picture()])
    assert reads(made)["s"][1] == "x"
    assert reads(made)["y"] == ["s"]
    assert not {"s", "y", "y.float"} & paired(made)


@ALL
def test_the_picture_is_added_in_float_inside_the_network_too(scheme):
    text = "c = Conv<pads=[1,1,1,1]>(x, w1) s = Add(c, x) y = Conv<pads=[1,1,1,1]>(s, w2)"
    made = quantised(graph_of(text, w1=weight(3, 3, 3, 3), w2=weight(3, 3, 3, 3)), scheme, [picture()])
    assert reads(made)["s"] == ["c*" if scheme.placement == "integer" else "c", "x"]
    assert reads(made)["c"] == ["x*", "w1*"]


@ALL
def test_a_skip_from_inside_that_makes_the_output_is_float_where_the_engine_does_not_need_it(scheme):
    """Only pointwise nodes follow the addition."""
    model = graph_of(
        "c = Conv(x, w1) a = Relu(c) d = Conv(a, w2) s = Add(d, a) y = DepthToSpace<blocksize=2>(s)",
        w1=weight(4, 3, 1, 1), w2=weight(4, 4, 1, 1),
    )  # fmt: skip
    made = quantised(model, scheme, [picture()])
    assert reads(made)["s"] == (["d", "a"] if scheme.placement == "inputs" else ["d*", "a*"])
    assert not {"s", "y"} & paired(made)


def concatenated():
    return graph_of(
        """c = Conv(x, w1) a = LeakyRelu(c) d = Conv(a, w2) e = LeakyRelu(d) f = Concat<axis=1>(a, e)
        y = Conv(f, w3)""",
        w1=weight(4, 3, 1, 1), w2=weight(5, 4, 1, 1), w3=weight(3, 9, 1, 1),
    )  # fmt: skip


def test_a_concatenation_is_quantised_behind_it_and_in_integers_before_it_too():
    made = quantised(concatenated(), INPUTS, [picture()])
    assert reads(made)["f"] == ["a", "e"]
    assert reads(made)["y"] == ["f*", "w3*"]
    assert paired(made) == {"x", "a", "f", "w1", "w2", "w3"}
    made = quantised(concatenated(), INTEGER, [picture()])
    assert reads(made)["f"] == ["a*", "e*"]
    assert {"a", "e", "f"} <= paired(made)


def products():
    return graph_of(
        """c = Conv(x, w1, b1) u = ConvTranspose<strides=[2,2]>(c, t, bt) g = GlobalAveragePool(u) f = Flatten(g)
        h = Gemm<transB=1>(f, w2, b2) m = MatMul(h, w3) y = Reshape(m, sizes)""",
        w1=weight(4, 3, 1, 1), b1=bias(4), t=weight(4, 5, 2, 2), bt=bias(5), w2=weight(6, 5), b2=bias(6),
        w3=weight(6, 3), sizes=np.array([1, 3, 1, 1]),
    )  # fmt: skip


def test_inputs_deconvolutions_and_products_are_quantised_by_their_output_channels():
    found = layers(products(), INPUTS)
    assert [(layer.operator, layer.axis, layer.bias) for layer in found] == [
        ("Conv", 0, "b1"), ("ConvTranspose", None, "bt"), ("Gemm", 0, "b2"), ("MatMul", 1, None),
    ]  # fmt: skip
    made = quantised(products(), INPUTS, [picture()])
    stored = {tensor.name: tuple(tensor.dims) for tensor in made.graph.initializer}
    assert [stored[f"{name}.scale"] for name in ("w1", "t", "w2", "w3")] == [(4,), (), (6,), (3,)]
    axes = {n.input[0]: [a.i for a in n.attribute] for n in made.graph.node if n.op_type == "QuantizeLinear"}
    assert {name: axes[name] for name in ("w1", "t", "w2", "w3", "x")} == {
        "w1": [0], "t": [], "w2": [0], "w3": [1], "x": [],
    }  # fmt: skip
    assert reads(made)["u"] == ["c*", "t*", "bt"]
    gemm = graph_of("f = Flatten(x) y = Gemm(f, w)", w=weight(9, 4))
    assert layers(gemm, INPUTS)[0].axis == 1


def test_integer_leaves_out_what_onnxruntime_has_no_kernel_for():
    assert [layer.operator for layer in layers(products(), INTEGER)] == ["Conv", "MatMul"]


def test_layers_with_computed_weights_or_constant_data_are_left_out():
    model = graph_of(
        "k = Mul(w, w) c = Conv(x, k) d = MatMul(w2, c) e = Mul(b, b) f = Conv(d, w, e) y = Conv(f, last.weight)"
        .replace("last.weight", "last"),
        w=weight(3, 3, 1, 1), w2=weight(7, 13), b=bias(3), last=weight(3, 3, 1, 1),
    )  # fmt: skip
    assert [layer.node for layer in layers(model, INPUTS)] == ["n_f", "n_y"]
    assert [layer.node for layer in layers(model, INTEGER)] == ["n_y"]


def test_a_layer_s_name_is_its_weight_s_without_its_end():
    model = graph_of("y = Conv(x, w)", w=weight(3, 3, 1, 1))
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "body.0.weight"
    assert layers(model, INPUTS)[0].name == "body.0"


def test_layers_that_are_left_out_read_and_stay_float():
    made = quantised(chain(), INPUTS, [picture()], left_out=("w2",))
    assert reads(made) == {"c": ["x*", "w1*", "b1"], "a": ["c"], "y": ["a", "w2", "b2"]}
    made = quantised(chain(), INTEGER, [picture()], left_out=("w1",))
    assert reads(made)["c"] == ["x", "w1", "b1"]
    assert paired(made) == {"a", "y.float", "w2"}


@ALL
def test_a_weight_or_a_tensor_that_several_layers_read_has_one_pair(scheme):
    model = graph_of(
        "c = Conv(x, w) d = Conv(x, v) e = Tanh(c) f = Tanh(d) g = Conv(e, w) h = Mul(f, g) y = Tanh(h)",
        w=weight(3, 3, 1, 1), v=weight(3, 3, 1, 1),
    )  # fmt: skip
    made = quantised(model, scheme, [picture()])
    quantisers = [node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantisers) == len(set(quantisers))
    assert reads(made)["c"] == ["x*", "w*"]
    assert reads(made)["d"] == ["x*", "v*"]
    assert reads(made)["g"] == ["e*", "w*"]


def test_an_output_that_layers_read_too_is_not_cut_where_inputs_are_quantised():
    text = "y = Conv(x, w) z = Conv(y, v)"
    model = graph_of(text, w=weight(3, 3, 1, 1), v=weight(3, 3, 1, 1))
    found = reads(quantised(model, INPUTS, [picture()]))
    assert (found["y"], found["z"]) == (["x*", "w*"], ["y*", "v*"])
    found = reads(quantised(model, INTEGER, [picture()]))
    assert found["y.float"] == ["x*", "w*"]


def test_numbers_are_of_the_scheme_s_type():
    kinds = {"inputs int8": "INT8", "inputs uint8": "UINT8", "inputs fp8": "FLOAT8E4M3FN", "integer uint8": "UINT8"}
    for name, kind in kinds.items():
        made = quantised(chain(), SCHEMES[name], [picture()])
        zeros = {i.name: i.data_type for i in made.graph.initializer if i.name.endswith(".zero")}
        assert zeros["x.zero"] == getattr(TensorProto, kind)
        assert zeros["w1.zero"] == (TensorProto.FLOAT8E4M3FN if "fp8" in name else TensorProto.INT8)


def test_float8_has_no_zero_point_whatever_else_is_asked():
    made = quantised(chain(), Scheme(shifted=True, number="fp8"), [picture()])
    kinds = {i.data_type for i in made.graph.initializer if i.name.endswith(".zero")}
    assert kinds == {TensorProto.FLOAT8E4M3FN}


def test_a_scheme_in_words():
    assert [scheme.words for scheme in SCHEMES.values()] == [
        "Q/DQ on inputs, activations int8",
        "Q/DQ on inputs, activations uint8 with zero points",
        "Q/DQ on inputs, activations fp8 e4m3",
        "Q/DQ on inputs and outputs, activations uint8 with zero points",
        "Q/DQ on inputs and outputs, activations int8",
    ]


# Names


def test_unnamed_nodes_get_names_of_their_own():
    model = chain()
    for node in model.graph.node:
        node.name = ""
    model.graph.node[1].name = "Conv_0"
    assert [node.name for node in named_nodes(model).graph.node] == ["Conv_0_", "Conv_0", "Conv_2"]
    assert reads(quantised(model, INPUTS, [picture()]))["y"] == ["a*", "w2*", "b2"]


@ALL
def test_names_that_the_graph_has_already_are_not_taken_twice(scheme):
    model = chain()
    for old, new in (("w2", "a.scale"), ("b2", "x.dq"), ("b1", "n_c.bias.int32")):
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
        next(i for i in model.graph.initializer if i.name == old).name = new
    x = picture()
    made = quantised(model, scheme, [x])
    assert decibels(run(made, x), run(model, x)) > 25
    folded_weights(made)
    assert decibels(run(made, x), run(model, x)) > 25


@ALL
def test_the_graph_that_is_given_stays_as_it_is(scheme):
    model = residual()
    before = model.SerializeToString(deterministic=True)
    quantised(model, scheme, [picture()])
    assert model.SerializeToString(deterministic=True) == before


# Scales that belong together


def moving():
    return graph_of(
        """c = Conv<pads=[1,1,1,1]>(x, w1) a = LeakyRelu(c) m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
        t = Transpose<perm=[0,1,3,2]>(m) d = DepthToSpace<blocksize=2>(t) y = Conv(d, w2)""",
        w1=weight(8, 3, 3, 3), w2=weight(3, 2, 1, 1),
    )  # fmt: skip


def test_nodes_that_move_values_share_their_scales():
    model = moving()
    names = tensors(model, INTEGER, layers(model, INTEGER))
    assert names == ["x", "c", "a", "m", "t", "d", "y"]
    assert scale_sources(model, names) == {"x": "x", "c": "c", "a": "a", "m": "a", "t": "a", "d": "a", "y": "y"}
    made = quantised(model, INTEGER, [picture(3, 12, 16)])
    used = {node.input[0]: list(node.input[1:]) for node in made.graph.node if node.op_type == "QuantizeLinear"}
    assert used["m"] == used["t"] == used["d"] == used["a"] == ["a.scale", "a.zero"]
    assert used["c"] != used["a"]


def test_a_scale_is_not_shared_with_a_tensor_that_has_no_pair():
    model = moving()
    names = tensors(model, INPUTS, layers(model, INPUTS))
    assert names == ["x", "d"]
    assert scale_sources(model, names) == {"x": "x", "d": "d"}


# What the graphs compute


def fake(values, scale, zero, low, high):
    """Written for itself: integers between low and high, half to even, brought back."""
    steps = np.round(np.asarray(values, np.float64) / scale) + zero
    return (np.minimum(np.maximum(steps, low), high) - zero) * scale


def conv(x, weight, bias, padding=1):
    return F.conv2d(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias), padding=padding).numpy()


@pytest.mark.parametrize(("name", "low", "high"), [("inputs int8", -128, 127), ("inputs uint8", 0, 255)])
def test_inputs_computes_fake_quantisation(name, low, high):
    scheme, model, x = SCHEMES[name], chain(), picture(3, 20, 17)
    stored = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in model.graph.initializer}
    c = conv(x.astype(np.float64), stored["w1"], stored["b1"])
    a = np.where(c < 0, 0.2 * c, c)

    def activation(values, full):
        if low:
            return fake(values, np.abs(full).max() / 127, 0, low, high)
        scale = (full.max() - min(full.min(), 0)) / 255
        return fake(values, scale, np.round(-min(full.min(), 0) / scale), low, high)

    def kernel(values):
        return fake(values, np.abs(values).max((1, 2, 3), keepdims=True) / 127, 0, -127, 127)

    c2 = conv(activation(x, x), kernel(stored["w1"]), stored["b1"])
    a2 = np.where(c2 < 0, 0.2 * c2, c2)
    wanted = conv(activation(a2, a), kernel(stored["w2"]), stored["b2"])
    got = run(quantised(model, scheme, [x]), x)
    # Single values may fall to the other side of a tie.
    assert np.mean(np.abs(got - wanted) < 1e-5) > 0.9
    assert decibels(got, wanted) > 60
    assert decibels(got, run(model, x)) < decibels(got, wanted) - 5


def test_fp8_computes_what_torch_s_float8_does():
    model, x = chain(), picture(3, 20, 17)
    stored = {i.name: numpy_helper.to_array(i).copy() for i in model.graph.initializer}

    def float8(values, peak):
        tensor = torch.from_numpy(np.asarray(values / (peak / 448), np.float32)).clamp(-448, 448)
        return tensor.to(torch.float8_e4m3fn).float().numpy() * np.float32(peak / 448)

    def kernel(values):
        return float8(values, np.abs(values).max((1, 2, 3), keepdims=True)).astype(np.float32)

    c = conv(x, stored["w1"], stored["b1"])
    full = np.where(c < 0, np.float32(0.2) * c, c)
    c = conv(float8(x, x.max()), kernel(stored["w1"]), stored["b1"])
    a = float8(np.where(c < 0, np.float32(0.2) * c, c), np.abs(full).max())
    wanted = conv(a, kernel(stored["w2"]), stored["b2"])
    got = run(quantised(model, SCHEMES["inputs fp8"], [x]), x)
    assert np.mean(np.abs(got - wanted) < 1e-5) > 0.9
    assert decibels(got, wanted) > 45
    assert decibels(got, run(model, x)) < 42


NETS = {
    "chain": chain, "relu": lambda: chain("Relu"), "residual": residual, "concat": concatenated, "moving": moving,
    "products": products,
}  # fmt: skip


@ALL
@pytest.mark.parametrize("net", NETS.values(), ids=NETS.keys())
def test_quantised_graphs_are_near_and_folding_their_weights_changes_nothing(net, scheme):
    model, x = net(), picture(3, 12, 16)
    wanted = run(model, x)
    made = quantised(model, scheme, [x])
    before = run(made, x)
    assert decibels(before, wanted) > (14 if wanted.size < 10 or scheme.number == "fp8" else 22)
    assert not np.array_equal(before, wanted)
    folded = folded_weights(made)
    onnx.checker.check_model(folded, full_check=True)
    assert np.array_equal(run(folded, x), before)
    stored = {i.name: i.data_type for i in folded.graph.initializer}
    weights = {stored[layer.weight] for layer in layers(model, scheme)}
    assert weights == {TensorProto.FLOAT if scheme.number == "fp8" else TensorProto.INT8}


def test_a_weight_that_somebody_reads_as_a_float_too_stays_there():
    model = graph_of("c = Conv(x, w) u = ConvTranspose(c, w) y = Tanh(u)", w=weight(3, 3, 2, 2))
    x = picture()
    made = quantised(model, INTEGER, [x])
    before = run(made, x)
    assert np.array_equal(run(folded_weights(made), x), before)
    assert {i.data_type for i in made.graph.initializer if list(i.dims) == [3, 3, 2, 2]} == {
        TensorProto.FLOAT, TensorProto.INT8,
    }  # fmt: skip


def test_a_bias_beyond_int32_stays_float():
    """Weights near zero make steps so small that 0.3 is more than 2^31 of them."""
    model = chain()
    for tensor in model.graph.initializer:
        if tensor.name == "w1":
            small = numpy_helper.to_array(tensor).copy()
            small[3] *= 1e-9
            tensor.CopyFrom(numpy_helper.from_array(small, "w1"))
    x = picture()
    made = quantised(model, INTEGER, [x])
    assert [reads(made)[name][2] for name in ("c", "y.float")] == ["b1", "n_y.bias.int32!"]
    assert decibels(run(made, x), run(model, x)) > 25


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_a_bias_beyond_int32_is_not_cast_to_it_by_onnxruntime(level):
    model = graph_of(
        "c = Conv(x, w1, b1) a = Relu(c) y = Conv(a, w2)",
        w1=weight(8, 3, 3, 3) * np.float32(1e-6), b1=bias(8) * 1000, w2=weight(3, 8, 3, 3),
    )  # fmt: skip
    x = picture()
    made = folded_weights(quantised(model, INTEGER, [x]))
    assert decibels(run(made, x, level), run(model, x)) > 35


# ONNX Runtime's own word


def loud(shape, axis):
    """Weights of which one output is ten thousand times as large as the others: one scale leaves these nothing."""
    made = weight(*shape)
    np.moveaxis(made, axis, 0)[0] *= 1e4
    return made


KEPT = {
    "convolution": ("b = Conv<pads=[1,1,1,1]>(a, w2) r = Relu(b)", (8, 8, 3, 3), 0),
    "groups": ("b = Conv<pads=[1,1,1,1], group=2>(a, w2) r = Clip(b, zero)", (8, 4, 3, 3), 0),
    "deconvolution": ("b = ConvTranspose<pads=[1,1,1,1]>(a, w2) r = Relu(b)", (8, 8, 3, 3), 1),
}


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("kind", KEPT)
def test_what_is_kept_in_float_between_integer_layers_stays_it(kind, level, tmp_path):
    """ONNX Runtime would round its weights to int8, with one scale. What the loud channel makes is not read."""
    text, shape, axis = KEPT[kind]
    last = weight(3, 8, 3, 3)
    last[:, 0] = 0
    model = graph_of(
        f"c = Conv<pads=[1,1,1,1]>(x, w1) a = Relu(c) {text} y = Conv<pads=[1,1,1,1]>(r, w3)",
        w1=weight(8, 3, 3, 3), w2=loud(shape, axis), w3=last, zero=np.float32(0),
    )  # fmt: skip
    x = picture(3, 24, 32)
    activations, steps = numbers_for(model, INTEGER, layers(model, INTEGER), [x], EXACT)
    if "r" in activations:  # the range of those channels that are read
        activations["r"] = (activations["r"][0] / 1e4, 0)
    chosen = [layer for layer in layers(model, INTEGER) if layer.name != "w2"]
    made = folded_weights(with_qdq(model, INTEGER, chosen, activations, steps))
    onnx.checker.check_model(made, full_check=True)
    strict, found = run(made, x), run(made, x, level)
    assert decibels(found, strict) > 35
    if level == "ORT_ENABLE_ALL":
        kernels = optimised(made, tmp_path)
        assert kernels["QLinearConv"] == 2
        assert kernels["Conv"] + kernels["FusedConv"] + kernels["ConvTranspose"] == 1


@pytest.mark.parametrize("net", ["chain", "relu", "residual", "concat", "moving"])
def test_integer_is_computed_in_integers_by_onnxruntime(net, tmp_path):
    model, x = NETS[net](), picture(3, 12, 16)
    made = folded_weights(quantised(model, INTEGER, [x], peak=EXACT))
    found = optimised(made, tmp_path)
    assert found["QLinearConv"] == len(layers(model, INTEGER))
    assert found["Conv"] == found["FusedConv"] == 0
    assert decibels(run(made, x, "ORT_ENABLE_ALL"), run(made, x)) > 40


def test_integer_s_other_nodes_are_integers_too(tmp_path):
    for net, operators in (
        ("chain", {"QLinearLeakyRelu": 1}), ("relu", {}), ("residual", {"QLinearAdd": 1}),
        ("concat", {"QLinearConcat": 1, "QLinearLeakyRelu": 2}),
    ):  # fmt: skip
        found = optimised(folded_weights(quantised(NETS[net](), INTEGER, [picture(3, 12, 16)])), tmp_path)
        assert {name: found[name] for name in operators} == operators
        assert not {"LeakyRelu", "Relu", "Concat", "Add"} & set(found)
        assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)  # of x and y


@pytest.mark.parametrize("net", ["chain", "relu", "residual", "concat", "moving"])
def test_inputs_is_not_computed_in_integers_by_onnxruntime(net, tmp_path):
    """Which is why it has a placement of its own."""
    found = optimised(folded_weights(quantised(NETS[net](), INPUTS, [picture(3, 12, 16)])), tmp_path)
    assert found["QLinearConv"] == 0
    assert found["Conv"] + found["FusedConv"] == len(layers(NETS[net](), INPUTS))


@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_are_those_of_onnxruntime_s_own_quantizer(symmetric, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model, xs = chain(), [picture(), picture(3, 9, 14)]

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.left = iter(xs)

        def get_next(self):
            x = next(self.left, None)
            return None if x is None else {"x": x}

    onnx.save(model, tmp_path / "given.onnx")
    quantize_static(
        tmp_path / "given.onnx", tmp_path / "made.onnx", Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8, weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
    )  # fmt: skip
    theirs = {i.name: numpy_helper.to_array(i) for i in onnx.load(tmp_path / "made.onnx").graph.initializer}
    ours = quantised(model, Scheme("integer", shifted=not symmetric), xs)
    stored = {i.name: numpy_helper.to_array(i) for i in ours.graph.initializer}
    for name in ("x", "c", "a", "w1", "w2"):
        np.testing.assert_allclose(stored[f"{name}.scale"], theirs[f"{name}_scale"], rtol=1e-5)
        assert np.array_equal(stored[f"{name}.zero"], theirs[f"{name}_zero_point"])
    for bias_name, node in (("b1", "n_c"), ("b2", "n_y")):
        assert np.abs(stored[f"{node}.bias.int32"] - theirs[f"{bias_name}_quantized"]).max() <= 1
    folded = {i.name: numpy_helper.to_array(i) for i in folded_weights(ours).graph.initializer}
    assert np.abs(folded["w1"].astype(int) - theirs["w1_quantized"]).max() <= 1


def test_opset_and_outputs_stay():
    model = chain()
    made = quantised(model, INTEGER, [picture()])
    assert made.opset_import == model.opset_import
    assert made.graph.output == model.graph.output
    assert made.graph.input == model.graph.input

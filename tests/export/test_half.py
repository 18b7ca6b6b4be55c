"""FP16 and BF16 graphs: types where they belong, the loss that such types cost and no more, and TensorRT-RTX's word.

ONNX Runtime's CPU runs FP16 graphs in float32 and drops most roundings (it gives VDSR 110 dB), and BF16 convolutions
not at all. So accuracy is judged on `as_rounded`: the lowered graph in float32, each half tensor rounded as it is made.
"""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

import engines
import reference_models
from engines.trt.builder import BuildRequest, Profile, build_plan
from export.as_rounded import as_rounded, types_of
from export.float_rule import kept_nodes
from export.half import lowered, written
from export.to_onnx import ExportRequest, export_network
from export.typed_graph import typed_graph
from reference_models.errors import UserError

HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
KINDS = pytest.mark.parametrize("kind", list(HALVES))
FLOOR = {"fp16": 60.0, "bf16": 40.0}
"""Decibels against FP32, of a range of 1 or the output's where that is more."""
DEEP = {"pixel_dcn": {"fp16": 50.0, "bf16": 34.0}}
"""22 normalisations in a row, untrained: every one makes the roundings before it as large as its planes."""
REFUSED = {
    ("ConvTranspose", "bf16"): "Could not infer output types for operation",
}
"""Operators that TensorRT-RTX 1.7 cannot build in a half type, and its words. None is left where this fails."""


def run(model, x):
    """ONNX Runtime's CPU, unoptimised: it may not drop what a graph rounds on purpose."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def decibels(got, wanted):
    peak = max(1.0, float(np.ptp(wanted)))
    return 10 * np.log10(peak**2 / max(np.mean((got.astype(np.float64) - wanted) ** 2), 1e-30))


def smooth(planes, height, width):
    """(1, planes, H, W) float32 near [0, 1]: waves and a little noise."""
    rng = np.random.default_rng(planes)
    y, x = np.linspace(0, 3, height)[:, None], np.linspace(0, 5, width)
    waves = [0.2 * np.sin((i + 1) * y + i) * np.cos(x / (i + 1)) for i in range(planes)]
    return (0.5 + np.stack(waves) + rng.uniform(-0.1, 0.1, (planes, height, width)))[None].astype(np.float32)


def exported(name, cache):
    """The FP32 graph of a network of the registry; other tests ask for the same, and it is made once."""
    spec = reference_models.get(name)
    network = export_network(ExportRequest(spec, None, spec.statistics[0] if spec.statistics else None), cache)
    return spec, onnx.load(network.main.onnx_path)


def graph_of(text, opset=20, **stored):
    """A model with input x (1, 3, H, W) and output y, from ONNX's text form."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[1,3,H,W] x) => (float[N,C,H2,W2] y)'
    model = onnx.parser.parse_model(f"{head} {{ {text} }}")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    return model


def weight(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def operators(model, names=None):
    return collections.Counter(n.op_type for n in model.graph.node if names is None or n.name in names)


def casts_of(model, name):
    return [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] == name]


# Every network


@KINDS
def test_every_network_keeps_its_accuracy_and_has_its_types(any_family, kind, cache):
    spec, model = exported(any_family, cache)
    low = lowered(model, kind)
    half, types = HALVES[kind], types_of(low.model)
    assert {entry.version for entry in low.model.opset_import} == {20 if kind == "fp16" else 22}
    assert [side.dim_param for side in low.model.graph.input[0].type.tensor_type.shape.dim] == [
        side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim
    ]
    for node in low.model.graph.node:
        read = {types[name] for name in node.input if types.get(name) in {TensorProto.FLOAT, half}}
        if node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
            assert read == {half}
        if node.op_type.startswith("Reduce") or node.op_type == "GlobalAveragePool":
            assert read == {TensorProto.FLOAT}
    assert types["x"] == types["y"] == TensorProto.FLOAT
    assert len(casts_of(low.model, "x")) == 1
    height, width = spec.tensor_size(49, 63)
    x = smooth(spec.input_planes, height, width)
    floor = DEEP.get(any_family, FLOOR)[kind]
    assert decibels(run(as_rounded(low.model), x), run(model, x)) > floor


@pytest.mark.parametrize("statistics", ["image", "frozen"])
@pytest.mark.parametrize("ends", ["fp32", "lowered"])
@KINDS
def test_can24_keeps_its_accuracy_with_weights_that_all_matter(networks, statistics, kind, ends, picture):
    model, x = onnx.load(networks[statistics].main.onnx_path), picture(63, 49)
    got = run(as_rounded(lowered(model, kind, ends).model), x)
    assert decibels(got, run(model, x)) > FLOOR[kind]


@KINDS
def test_a_thumbnail_s_scales_and_offsets_come_out_in_fp32(networks, kind, picture):
    """They leave the graph as numbers that nothing rounds; only the planes that they are measured on are half."""
    model, x = onnx.load(networks["thumbnail"].thumbnail.onnx_path), picture(160, 120)
    low = lowered(model, kind)
    assert next(node for node in low.model.graph.node if "y" in node.output).op_type != "Cast"
    assert operators(low.model, set(low.kept))["Conv"] == operators(low.model, set(low.kept))["LeakyRelu"] == 0
    assert decibels(run(as_rounded(low.model), x), run(model, x)) > {"fp16": 70, "bf16": 50}[kind]


def test_onnxruntime_runs_fp16_graphs(networks, picture):
    model, x = onnx.load(networks["image"].main.onnx_path), picture(33, 65)
    for ends, dtype in (("fp32", np.float32), ("lowered", np.float16)):
        got = run(lowered(model, "fp16", ends).model, x.astype(dtype))
        assert got.dtype == dtype
        assert decibels(got.astype(np.float32), run(model, x)) > 60


def test_bf16_is_what_torch_computes():
    """Convolutions of rounded numbers, added up in float32 and rounded once; at most a unit in the last place apart."""
    first, bias, last = weight(8, 3, 3, 3), weight(8, 1).ravel(), weight(3, 8, 3, 3, seed=1)
    model = graph_of(
        "c = Conv<pads=[1,1,1,1]>(x, w1, b1) a = LeakyRelu<alpha=0.25>(c) y = Conv<pads=[1,1,1,1]>(a, w2)",
        w1=first, b1=bias, w2=last,
    )  # fmt: skip
    x = smooth(3, 23, 17)

    def bf16(array):
        return torch.as_tensor(array).bfloat16().float()

    c = bf16(F.conv2d(bf16(x), bf16(first), bf16(bias), padding=1))
    wanted = bf16(F.conv2d(bf16(F.leaky_relu(c, 0.25)), bf16(last), padding=1)).numpy()
    got = run(as_rounded(lowered(model, "bf16").model), x)
    assert np.abs(got - wanted).max() <= 2.0**-7 * np.abs(wanted).max()
    assert np.mean(got == wanted) > 0.99
    assert np.abs(wanted - run(model, x)).max() > 2e-3  # which FP32 would not pass


# Statistics


def test_what_a_normalisation_adds_up_and_scales_is_fp32_and_the_rest_is_not(networks):
    model = onnx.load(networks["image"].main.onnx_path)
    low = lowered(model, "fp16")
    layers = 8
    assert operators(low.model, low.kept) == {
        "ReduceMean": 2 * layers, "ReduceSum": 2 * layers, "Div": 2 * layers, "Sub": 2 * layers, "Mul": 4 * layers,
        "Add": 3 * layers, "Sqrt": layers, "Reciprocal": layers, "Cast": 1,
    }  # fmt: skip
    before, after = operators(model), operators(low.model)
    assert after - before == {"Cast": 2 + 2 * layers}  # input, output; planes to the statistics' type and back
    assert {name for name in low.kept if name.endswith("/cast")} == set()


def test_a_large_picture_needs_the_rule():
    """4 megapixels of level 40: their sum by rows is beyond FP16, and the picture is gone."""
    model = graph_of(
        """rows = ReduceMean(x, three) total = ReduceSum(rows, two) shape = Shape<start=2, end=3>(x)
        side = Cast<to=1>(shape) mean = Div(total, side) centred = Sub(x, mean) y = LeakyRelu<alpha=0.5>(centred)""",
        three=np.array([3]), two=np.array([2]),
    )  # fmt: skip
    x = 40 + 10 * smooth(3, 2048, 2048)
    wanted = run(model, x)
    assert decibels(run(as_rounded(lowered(model, "fp16").model), x), wanted) > 60
    without = run(as_rounded(written(typed_graph(model, "fp16", "fp32"), set()).model), x)
    assert not np.isfinite(without).all()


def test_arithmetic_with_statistics_pays_where_scale_and_offset_cancel():
    """Planes far from 0 with little contrast, as a normalisation is for."""
    model = graph_of(
        """m = GlobalAveragePool(x) d = Sub(x, m) q = Mul(d, d) v = GlobalAveragePool(q) e = Add(v, eps) s = Sqrt(e)
        gain = Reciprocal(s) shift = Mul(m, gain) scaled = Mul(x, gain) z = Sub(scaled, shift) y = Relu(z)""",
        eps=np.float32(1e-3),
    )  # fmt: skip
    x = (5 + 0.1 * smooth(3, 63, 49)).astype(np.float16).astype(np.float32)  # the loss of the input itself is left out
    wanted, whole, bare = run(model, x), *(typed_graph(model, "fp16", "fp32") for _ in range(2))
    kept = kept_nodes(whole)
    without = {i for i in kept if not {"scaled", "z"} & set(bare.nodes[i].output)}
    assert len(without) == len(kept) - 2
    assert decibels(run(as_rounded(written(bare, without).model), x), wanted) < 40
    assert decibels(run(as_rounded(written(whole, kept).model), x), wanted) > 65


# Ends and copies


def test_an_input_is_cast_once_however_often_it_is_read():
    model = graph_of(
        "a = Conv<pads=[1,1,1,1]>(x, w) b = Conv<pads=[1,1,1,1]>(x, w) c = Add(a, b) y = Mul(c, x)",
        w=weight(3, 3, 3, 3),
    )
    low = lowered(model, "fp16").model
    assert len(casts_of(low, "x")) == 1
    assert operators(low)["Cast"] == 2


def test_the_last_addition_of_the_input_is_fp32_where_both_ends_are():
    """Their memory is FP32 anyway, and the picture is not rounded to the 8 bits of BF16."""
    model = graph_of("c = Conv<pads=[1,1,1,1]>(x, w) s = Add(c, x) y = Relu(s)", w=weight(3, 3, 3, 3) * 0.01)
    x = smooth(3, 33, 31)
    low = lowered(model, "bf16")
    assert low.kept == ("s", "y")
    assert lowered(model, "bf16", "lowered").kept == ()
    assert decibels(run(as_rounded(low.model), x), run(model, x)) > 75
    assert decibels(run(as_rounded(lowered(model, "bf16", "lowered").model), x), run(model, x)) < 65


@KINDS
def test_ends_are_of_the_half_type_where_that_is_asked_for(networks, kind):
    low = lowered(onnx.load(networks["image"].main.onnx_path), kind, "lowered").model
    for value in (*low.graph.input, *low.graph.output):
        assert value.type.tensor_type.elem_type == HALVES[kind]
        assert value.name in {"x", "y"}
        assert value.type.tensor_type.shape.dim[2].dim_param
    assert {node.op_type for node in low.graph.node if "x" in node.input} <= {"Conv", "Shape"}


def test_an_output_that_is_read_inside_too_is_made_once():
    model = graph_of("y = Conv<pads=[1,1,1,1]>(x, w) z = Relu(y)", w=weight(3, 3, 3, 3))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, "H", "W"]))
    low = lowered(model, "fp16").model
    assert [value.name for value in low.graph.output] == ["y", "z"]
    assert operators(low) == {"Cast": 3, "Conv": 1, "Relu": 1}
    x = smooth(3, 9, 8)
    assert decibels(run(low, x), run(model, x)) > 60


def test_weights_keep_their_names_and_constants_read_in_both_types_get_a_copy():
    model = graph_of(
        "c = Conv<pads=[1,1,1,1]>(x, w) m = GlobalAveragePool(c) k = Add(m, g) h = Mul(c, g) y = Mul(h, k)",
        w=weight(3, 3, 3, 3), g=np.float32(0.1),
    )  # fmt: skip
    low = lowered(model, "fp16")
    stored = {tensor.name: tensor for tensor in low.model.graph.initializer}
    assert stored["w"].data_type == stored["g"].data_type == TensorProto.FLOAT16
    assert numpy_helper.to_array(stored["w"]).tobytes() == weight(3, 3, 3, 3).astype(np.float16).tobytes()
    (copy,) = set(stored) - {"w", "g"}
    assert numpy_helper.to_array(stored[copy]) == np.float32(0.1)


def test_the_model_that_is_given_stays_as_it_is(networks):
    model = onnx.load(networks["image"].main.onnx_path)
    before = model.SerializeToString(deterministic=True)
    lowered(model, "bf16", "lowered")
    assert model.SerializeToString(deterministic=True) == before


def test_lowering_twice_is_lowering_once(networks, picture):
    model, x = onnx.load(networks["image"].main.onnx_path), picture(23, 17)
    once = lowered(model, "fp16")
    twice = lowered(once.model, "fp16")
    assert np.array_equal(run(as_rounded(twice.model), x), run(as_rounded(once.model), x))
    assert set(once.kept) <= set(twice.kept)


# Quantized graphs


def quantized(zero_type=TensorProto.INT8, scale=0.01):
    """x → Q → DQ → Conv with a quantized weight per channel → y."""
    ints = np.random.default_rng(3).integers(-100, 100, (3, 3, 3, 3)).astype(np.int8)
    model = graph_of(
        """q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear<axis=0>(ints, sw, zw)
        y = Conv<pads=[1,1,1,1]>(d, w, b)""",
        s=np.float32(scale), sw=np.array([0.0011, 0.0007, 0.0009], np.float32), b=weight(3, 1).ravel(),
    )  # fmt: skip
    raw = bytes([0])
    model.graph.initializer.append(helper.make_tensor("z", zero_type, [], raw, raw=True))
    model.graph.initializer.append(helper.make_tensor("zw", zero_type, [3], raw * 3, raw=True))
    if zero_type != TensorProto.INT8:
        ints = (np.abs(ints) % 64).astype(np.int8)  # patterns of small numbers
    model.graph.initializer.append(helper.make_tensor("ints", zero_type, [3, 3, 3, 3], ints.tobytes(), raw=True))
    return model


@pytest.mark.parametrize("zero_type", [TensorProto.INT8, TensorProto.FLOAT8E4M3FN])
@KINDS
def test_scales_are_lowered_and_quantized_numbers_are_not(kind, zero_type):
    model = quantized(zero_type)
    low = lowered(model, kind)
    given, stored = ({t.name: t for t in m.graph.initializer} for m in (model, low.model))
    assert {name: stored[name].data_type for name in ("s", "sw", "b")} == dict.fromkeys(("s", "sw", "b"), HALVES[kind])
    assert all(stored[name].SerializeToString() == given[name].SerializeToString() for name in ("z", "zw", "ints"))
    types = types_of(low.model)
    assert {types[name] for node in low.model.graph.node if node.op_type == "Conv" for name in node.input} == {
        HALVES[kind]
    }
    assert low.kept == ()
    if zero_type == TensorProto.INT8:
        x = smooth(3, 21, 19)
        assert decibels(run(as_rounded(low.model), x), run(model, x)) > {"fp16": 50, "bf16": 40}[kind]


def test_a_scale_that_fp16_cannot_hold_is_refused_by_name():
    with pytest.raises(UserError, match=r"tensor `s`: as float16 this scale is .*% off. Expected at most 0.2%"):
        lowered(quantized(scale=1.01e-6), "fp16")
    assert lowered(quantized(scale=1.01e-6), "bf16").kept == ()
    assert lowered(quantized(scale=3.1e-5), "fp16").kept == ()  # subnormal, and near enough


# Bad input


@pytest.mark.parametrize(("kind", "value"), [("fp16", 65520.0), ("fp16", -1e6), ("bf16", 3.4e38)])
def test_a_weight_beyond_the_range_is_refused_by_name(kind, value):
    array = weight(3, 3, 3, 3)
    array[1, 2, 0, 1] = value
    with pytest.raises(UserError, match=r"tensor `w`: .* is beyond the range of b?float16"):
        lowered(graph_of("y = Conv<pads=[1,1,1,1]>(x, w)", w=array), kind)


def test_subnormal_weights_and_infinite_bounds_are_not_refused():
    model = graph_of(
        "c = Conv<pads=[1,1,1,1]>(x, w) y = Clip(c, low, high)",
        w=weight(3, 3, 3, 3) * 1e-6, low=np.float32(-np.inf), high=np.float32(3.4e38),
    )  # fmt: skip
    x = smooth(3, 9, 7)
    assert np.abs(run(lowered(model, "fp16").model, x) - run(model, x)).max() < 1e-6


def test_an_operator_that_is_not_onnx_s_own_is_refused_by_name():
    model = graph_of("c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c)", w=weight(3, 3, 3, 3))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Own", "mine"
    model.opset_import.add(domain="mine", version=1)
    with pytest.raises(UserError, match="mine::Own"):
        lowered(model, "fp16")


# TensorRT-RTX, which needs no GPU to build


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """`build(model, size, multiple=1)` → facts of the plan; skips where the library is not installed."""
    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")

    def make(model, size, multiple=1):
        path = tmp_path_factory.mktemp("half") / "model.onnx"
        onnx.save(model, path)
        settings = engine.complete_settings({})
        request = BuildRequest(str(path), "ab", "fp16", (Profile.of(size),), settings, multiple, False)
        return build_plan(engine.api, request, lambda phase, share: None)

    return make


@KINDS
def test_tensorrt_builds_every_network(every_model, kind, cache, build):
    spec, model = exported(every_model, cache)
    size = spec.tensor_size(-(-320 // spec.enlarges), -(-180 // spec.enlarges))
    low = lowered(model, kind).model
    for op_type in operators(low):
        if words := REFUSED.get((op_type, kind)):
            with pytest.raises(RuntimeError, match=words):
                build(low, size, spec.size_multiple)
            return
    plan = build(low, size, spec.size_multiple)
    assert len(plan.plan) > 10_000
    assert plan.facts["inputs"][0]["dtype"] == plan.facts["outputs"][0]["dtype"] == "float32"
    assert plan.facts["warnings"] == []


@KINDS
def test_tensorrt_refuses_what_is_said_here_and_nothing_else(kind, build):
    model = graph_of(
        "c = Conv<pads=[1,1,1,1]>(x, w) y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(c, t)",
        w=weight(3, 3, 3, 3), t=weight(3, 3, 4, 4),
    )  # fmt: skip
    low = lowered(model, kind).model
    if words := REFUSED.get(("ConvTranspose", kind)):
        with pytest.raises(RuntimeError, match=words):
            build(low, (24, 40))
    else:
        assert build(low, (24, 40)).plan


@pytest.mark.parametrize("zero_type", [TensorProto.INT8, TensorProto.FLOAT8E4M3FN])
@pytest.mark.parametrize("ends", ["fp32", "lowered"])
@KINDS
def test_tensorrt_builds_quantized_graphs_with_half_types_around(kind, ends, zero_type, build):
    plan = build(lowered(quantized(zero_type), kind, ends).model, (24, 40))
    dtype = {"fp32": "float32"}.get(ends, {"fp16": "float16", "bf16": "bfloat16"}[kind])
    assert plan.facts["inputs"][0]["dtype"] == plan.facts["outputs"][0]["dtype"] == dtype

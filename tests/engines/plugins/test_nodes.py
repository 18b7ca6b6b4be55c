"""Plugin nodes where there is no plugin: the function in the same file gives the same, in every precision."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import engines
from engines.plugins import nodes
from engines.plugins.nodes import use_plugins
from engines.plugins.registration import NAMESPACE, PIXEL_DCL, PIXEL_INTERLEAVE, PIXEL_SHUFFLE


def run(model, x):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def exported(module, planes, path):
    """The model as our exporter writes it."""
    import torch

    torch.onnx.export(
        module.eval(), (torch.rand(1, planes, 8, 10),), str(path), dynamo=True, opset_version=20, verbose=False,
        input_names=["x"], output_names=["y"], external_data=False,
        dynamic_shapes=({2: torch.export.Dim("h", min=2), 3: torch.export.Dim("w", min=2)},),
    )  # fmt: skip
    return onnx.load(path)


@pytest.fixture(scope="session")
def pixel_shuffles():
    """r → module, and the model of it with plugin nodes."""
    import torch
    from onnx import helper, numpy_helper

    def make(r):
        torch.manual_seed(r)
        convs = [torch.nn.Conv2d(3, 3 * r * r, 3, padding=1), torch.nn.Conv2d(3, 3, 3, padding=1)]
        stored = [
            numpy_helper.from_array(tensor.detach().numpy(), f"{kind}{number}")
            for number, conv in enumerate(convs)
            for kind, tensor in (("w", conv.weight), ("b", conv.bias))
        ]
        nodes = [
            helper.make_node("Conv", ["x", "w0", "b0"], ["c"], name="first", pads=[1] * 4),
            helper.make_node("DepthToSpace", ["c"], ["s"], name="shuffle", blocksize=r, mode="CRD"),
            helper.make_node("Conv", ["s", "w1", "b1"], ["y"], name="last", pads=[1] * 4),
        ]
        ends = [helper.make_tensor_value_info(n, 1, [1, 3, f"{n}h", f"{n}w"]) for n in "xy"]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        assert use_plugins(model) == [f"{NAMESPACE}::{PIXEL_SHUFFLE}"]
        return torch.nn.Sequential(convs[0], torch.nn.PixelShuffle(r), convs[1]), model

    return {r: make(r) for r in (2, 3, 4)}


def picture(height=13, width=11):
    return np.random.default_rng(0).random((1, 3, height, width), np.float32)


def of_torch(module, x):
    import torch

    with torch.inference_mode():
        return module(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("r", [2, 3, 4])
def test_a_pixel_shuffle_node_is_the_function_where_there_is_no_plugin(r, pixel_shuffles):
    module, model = pixel_shuffles[r]
    onnx.checker.check_model(model, full_check=True)
    node = next(n for n in model.graph.node if n.domain == NAMESPACE)
    told = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert told == {"r": r, "plugin_namespace": NAMESPACE.encode(), "plugin_version": b"1", "aot": 1}
    assert not any(n.op_type == "DepthToSpace" for n in model.graph.node)
    assert np.abs(run(model, picture()) - of_torch(module, picture())).max() < 1e-5


@pytest.mark.parametrize("r", [2, 3, 4])
def test_it_survives_conversion_to_float16(r, pixel_shuffles):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    module, model = pixel_shuffles[r]
    half = convert_float_to_float16(onnx.ModelProto.FromString(model.SerializeToString()))
    assert [n.op_type for n in half.graph.node].count(PIXEL_SHUFFLE) == 1
    got = run(half, picture().astype(np.float16)).astype(np.float32)
    assert 1e-6 < np.abs(got - of_torch(module, picture())).max() < 5e-3


def test_it_survives_quantization(pixel_shuffles, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        left = iter([{"x": picture()}, {"x": picture(16, 16)}])

        def get_next(self):
            return next(self.left, None)

    module, model = pixel_shuffles[3]
    onnx.save(model, tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
        reduce_range=True,  # for processors on which sums of larger products overflow
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )  # fmt: skip
    quantized = onnx.load(tmp_path / "int8.onnx")
    assert any(n.domain == NAMESPACE for n in quantized.graph.node)
    assert [f.name for f in quantized.functions] == [PIXEL_SHUFFLE]
    assert 1e-5 < np.abs(run(quantized, picture()) - of_torch(module, picture())).max() < 0.1


@pytest.mark.parametrize(
    ("layer", "activated"),
    [
        ("PixelDCL", True),
        pytest.param("PixelDCL", False, marks=pytest.mark.slow),
        pytest.param("IPixelDCL", True, marks=pytest.mark.slow),
        ("IPixelDCL", False),
        pytest.param("ResizedIPixelCL", True, marks=pytest.mark.slow),
        pytest.param("ResizedIPixelCL", False, marks=pytest.mark.slow),
    ],
)
def test_pixel_layers_become_one_node_each(layer, activated, tmp_path):
    import torch

    from reference_models.networks import pixel_dcn

    torch.manual_seed(0)
    module = getattr(pixel_dcn, layer)(3, 4, 3, torch.relu if activated else None)
    model = exported(module, 3, tmp_path / "net.onnx")
    assert use_plugins(model) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]
    onnx.checker.check_model(model, full_check=True)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count(PIXEL_INTERLEAVE) == 1
    assert not {"DepthToSpace", "Relu"} & set(kinds)
    x = picture(12, 10)
    assert np.abs(run(model, x) - of_torch(module, x)).max() < 1e-5


@pytest.fixture(scope="session")
def deconvolution(tmp_path_factory):
    """A PixelDCL layer and its model."""
    import torch

    from reference_models.networks.pixel_dcn import PixelDCL

    torch.manual_seed(0)
    module = PixelDCL(3, 16, 3, torch.relu)
    return module, exported(module, 3, tmp_path_factory.mktemp("dcl") / "net.onnx")


def test_a_masked_convolution_is_part_of_the_node_where_its_products_may_be_ours(deconvolution):
    module, original = deconvolution
    model = onnx.ModelProto.FromString(original.SerializeToString())
    assert use_plugins(model, ("FLOAT",)) == [f"{NAMESPACE}::{PIXEL_DCL}"]
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node] == ["Conv", "Conv", PIXEL_DCL]
    x = picture(12, 10)
    assert np.abs(run(model, x) - of_torch(module, x)).max() < 1e-5
    for products in ((), ("FLOAT16",)):
        other = onnx.ModelProto.FromString(original.SerializeToString())
        assert use_plugins(other, products) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]


@pytest.mark.parametrize("change", ["zeros", "weights", "read", "channels"])
def test_what_is_not_quite_the_masked_convolution_stays(change, deconvolution, monkeypatch):
    model = onnx.ModelProto.FromString(deconvolution[1].SerializeToString())
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    if change == "zeros":
        next(a for a in convs[2].attribute if a.name == "pads").ints[:] = [0, 1, 0, 0]
    elif change == "weights":
        convs[4].input[1], convs[5].input[1] = convs[5].input[1], convs[4].input[1]
    elif change == "read":
        model.graph.output.append(onnx.helper.make_tensor_value_info(convs[3].output[0], 1, None))
    else:
        monkeypatch.setattr(nodes, "LEAST_CHANNELS", 17)
    assert use_plugins(model, ("FLOAT",)) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]


# Graphs of other precisions, as the exporter makes them


@pytest.fixture(scope="session")
def lowered(cache):
    """`lowered(name, options, precision)`: the model in this precision and its spec."""
    import reference_models
    from export.precision import LoweringRequest, lowered_network
    from export.recipe import Recipe
    from export.to_onnx import ExportRequest, export_network

    def make(name, options, precision):
        spec = reference_models.get(name, options)
        network = export_network(ExportRequest(spec, None, None), cache)
        pictures = (np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8),)
        request = LoweringRequest(network, spec, Recipe(precision, recovery="none"), pictures)
        return onnx.load(lowered_network(request, cache).main.onnx_path), spec

    return make


def _precisions():
    for name, options in (("espcn_x3", {}), ("pixel_dcn", {"depth": 2, "width": 16})):
        for precision in ("fp16", "bf16", "int8", "int8+fp16", "fp8"):
            quick = name == "espcn_x3" and precision in {"fp16", "int8+fp16"}
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(name, options, precision, marks=marks, id=f"{name} {precision}")


@pytest.mark.parametrize(("name", "options", "precision"), list(_precisions()))
def test_graphs_of_every_precision_take_plugins_and_stay_what_they_are(name, options, precision, lowered, tmp_path):
    """ONNX Runtime's CPU runs neither bf16 nor, at every level, fp8; TensorRT-RTX builds all of them."""
    from reference_models.colour import tensor_from_picture

    model, spec = lowered(name, options, precision)
    used = onnx.ModelProto.FromString(model.SerializeToString())
    names = use_plugins(used, ("FLOAT16",))
    wanted = PIXEL_SHUFFLE if name == "espcn_x3" else PIXEL_DCL if precision == "fp16" else PIXEL_INTERLEAVE
    assert names == [f"{NAMESPACE}::{wanted}"]
    onnx.checker.check_model(used, full_check=True)
    if precision in {"fp16", "int8", "int8+fp16"}:
        x = tensor_from_picture(np.random.default_rng(2).integers(0, 256, (32, 48, 3), np.uint8), spec)
        before, after = run(model, x), run(used, x)
        assert np.abs(after - before).max() < 2e-2 * max(1, np.abs(before).max())
    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    from engines.trt.builder import BuildRequest, Profile, build_plan

    onnx.save(used, tmp_path / "net.onnx")
    size = spec.tensor_size(96, 64)
    settings = engine.complete_settings({})
    request = BuildRequest(str(tmp_path / "net.onnx"), "", precision, (Profile.of(size),), settings)
    assert len(build_plan(engine.api, request, lambda phase, share: None).plan) > 1000


def test_what_only_looks_like_it_stays():
    from onnx import helper, numpy_helper

    def model(order, mode="CRD", extra=()):
        nodes = [
            helper.make_node("Concat", ["x", "x", "x", "x"], ["m"], axis=1),
            helper.make_node("Gather", ["m", "order"], ["g"], axis=1),
            helper.make_node("DepthToSpace", ["g"], ["y"], blocksize=2, mode=mode),
        ]
        ends = [helper.make_tensor_value_info(n, 1, [1, c, "H", "W"]) for n, c in (("x", 2), ("y", 2), *extra)]
        stored = [numpy_helper.from_array(np.array(order), "order")]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    right = [0, 2, 4, 6, 1, 3, 5, 7]
    assert use_plugins(model(right)) == [f"{NAMESPACE}::{PIXEL_INTERLEAVE}"]
    assert use_plugins(model(right, extra=[("g", 8)])) == [f"{NAMESPACE}::{PIXEL_SHUFFLE}"]  # somebody reads between
    assert use_plugins(model(list(range(8)))) == [f"{NAMESPACE}::{PIXEL_SHUFFLE}"]  # another order of channels
    untouched = model(right, mode="DCR")
    before = untouched.SerializeToString()
    assert use_plugins(untouched) == []
    assert untouched.SerializeToString() == before


def test_rtx_which_has_no_plugins_builds_the_function(pixel_shuffles, tmp_path):
    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    from engines.trt.builder import BuildRequest, Profile, build_plan

    onnx.save(pixel_shuffles[2][1], tmp_path / "net.onnx")
    settings = engine.complete_settings({})
    request = BuildRequest(str(tmp_path / "net.onnx"), "", "fp32", (Profile.of((32, 48)),), settings)
    assert len(build_plan(engine.api, request, lambda phase, share: None).plan) > 1000

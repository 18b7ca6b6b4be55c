"""Building with TensorRT-RTX, which needs no GPU: every network of the registry, and what the build is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import reference_models
from engines.trt.builder import BuildRequest, Profile, _configured, build_plan, parsed_network
from engines.trt.reporting import Messages, new_logger
from export.to_onnx import ExportRequest, export_network
from reference_models.errors import UserError


def silent(phase, share):
    pass


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """`model_path(node_dtype)`: a file of Conv → LeakyRelu → Conv with these types inside and float32 outside."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def make(kind="float32", sides=("H", "W"), operator="LeakyRelu", planes=3):
        rng = np.random.default_rng(0)
        number = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[kind]
        weights = []
        for name, shape in (("w1", (8, planes, 3, 3)), ("w2", (3, 8, 3, 3))):
            array = rng.standard_normal(shape).astype(np.float32)
            tensor = numpy_helper.from_array(array, name)
            if kind != "float32":
                tensor = helper.make_tensor(name, number, shape, array.flatten())
            weights.append(tensor)
        nodes = [
            helper.make_node("Cast", ["x"], ["x1"], to=number),
            helper.make_node("Conv", ["x1", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
            helper.make_node(operator, ["c1"], ["a1"], name="middle"),
            helper.make_node("Conv", ["a1", "w2"], ["c2"], name="last", pads=[1, 1, 1, 1]),
            helper.make_node("Cast", ["c2"], ["y"], to=TensorProto.FLOAT),
        ]
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, *sides]) for n in "xy"]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
        path = tmp_path_factory.mktemp("models") / "model.onnx"
        opset = [helper.make_opsetid("", 22)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
        return str(path)

    return make


def request_for(rtx, path, *sizes, precision="fp32", multiple=1, refittable=False, **settings):
    complete = rtx.complete_settings(settings)
    profiles = sizes or (Profile.of((64, 96)),)
    return BuildRequest(path, "ab", precision, profiles, complete, multiple, refittable)


def configured(rtx, request):
    """The builder's configuration, and all that must outlive it."""
    trt = rtx.api.module
    logger = new_logger(trt, Messages())
    builder = trt.Builder(logger)
    network = parsed_network(rtx.api, builder, logger, Path(request.onnx_path).read_bytes(), request.onnx_path)
    return _configured(rtx.api, builder, network, request), (builder, network, logger)


def test_every_network_builds_for_one_size_and_for_many(any_family, rtx, cache):
    spec = reference_models.get(any_family)
    network = export_network(ExportRequest(spec, None, spec.statistics[0] if spec.statistics else None), cache)
    small = spec.tensor_size(-(-320 // spec.enlarges), -(-180 // spec.enlarges))
    large = spec.tensor_size(-(-3840 // spec.enlarges), -(-2160 // spec.enlarges))
    for profile in (Profile.of(small), Profile(spec.tensor_size(1, 1), small, large)):
        request = request_for(rtx, network.main.onnx_path, profile, multiple=spec.size_multiple)
        built = build_plan(rtx.api, request, silent)
        assert len(built.plan) > 10_000
        assert built.facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, spec.input_planes, -1, -1]}]
        assert [(end["name"], end["dtype"]) for end in built.facts["outputs"]] == [("y", "float32")]
        assert built.facts["warnings"] == []


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_types_are_those_of_the_graph(kind, rtx, model_path):
    """No precision is asked for: half weights make a plan of half the size."""
    path, trt = model_path(kind), rtx.api.module
    logger = new_logger(trt, Messages())
    builder = trt.Builder(logger)
    network = parsed_network(rtx.api, builder, logger, Path(path).read_bytes(), path)
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = {layer.get_output(0).dtype.name for layer in layers if layer.type == trt.LayerType.CONVOLUTION}
    assert types == {{"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}[kind]}
    assert len(build_plan(rtx.api, request_for(rtx, path), silent).plan) > 1000


@pytest.mark.parametrize("half", [False, True])
def test_quantized_graphs_are_taken_too(half, rtx, model_path, tmp_path):
    """Symmetric int8 inputs and weights of convolutions, float biases; the rest in float32 or float16."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.transformers.float16 import convert_float_to_float16

    class Reader(CalibrationDataReader):
        left = iter([{"x": np.random.default_rng(0).random((1, 3, 16, 24), np.float32)}])

        def get_next(self):
            return next(self.left, None)

    path = tmp_path / "int8.onnx"
    quantize_static(
        model_path(), path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=["Conv"],
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )  # fmt: skip
    if half:
        onnx.save(convert_float_to_float16(onnx.load(path)), path)
    built = build_plan(rtx.api, request_for(rtx, str(path), precision="int8"), silent)
    assert len(built.plan) > 1000
    assert built.facts["inputs"][0]["dtype"] == ("float16" if half else "float32")


@pytest.mark.parametrize(("precision", "on"), [("fp32", False), ("tf32", True), ("fp16", False), ("int8", False)])
def test_tf32_is_on_only_where_it_is_asked_for(precision, on, rtx, model_path):
    config, _keep = configured(rtx, request_for(rtx, model_path(), precision=precision))
    assert config.get_flag(rtx.api.module.BuilderFlag.TF32) is on


def test_settings_reach_the_builder(rtx, model_path):
    trt = rtx.api.module
    words = {"level": "1", "workspace_mib": "64", "aux_streams": "0", "layer_names": "detailed", "target": "89"}
    config, _keep = configured(rtx, request_for(rtx, model_path(), refittable=True, **words))
    assert config.builder_optimization_level == 1
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.max_aux_streams == 0
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.get_flag(trt.BuilderFlag.REFIT)
    assert config.num_compute_capabilities == 1
    assert config.get_compute_capability(0) == trt.ComputeCapability.SM89
    config, _keep = configured(rtx, request_for(rtx, model_path()))
    assert config.builder_optimization_level == 3
    assert not config.get_flag(trt.BuilderFlag.REFIT)
    assert config.num_compute_capabilities == 0


def test_one_profile_per_size(rtx, model_path):
    sizes = (Profile.of((64, 96)), Profile((8, 8), (64, 64), (128, 256)))
    config, _keep = configured(rtx, request_for(rtx, model_path(), *sizes))
    assert config.num_optimization_profiles == 2


@pytest.mark.parametrize("target", ["75", "80", "86", "89", "120", "121"])
def test_every_target_that_is_offered_exists(target, rtx, model_path):
    config, _keep = configured(rtx, request_for(rtx, model_path(), target=target))
    assert config.get_compute_capability(0).name == f"SM{target}"


def test_progress_begins_at_nothing_ends_with_all_and_never_falls(rtx, model_path):
    shares = []
    build_plan(rtx.api, request_for(rtx, model_path()), lambda phase, share: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(set(shares)) > 10


def test_a_size_with_too_large_a_tensor_is_refused_before_the_build(rtx, model_path):
    shares = []
    request = request_for(rtx, model_path(), Profile.of((20000, 20000)))
    with pytest.raises(
        UserError, match=r"3,200,000,000 elements.*largest input of this shape that fits is 16383x16383"
    ):
        build_plan(rtx.api, request, lambda phase, share: shares.append(share))
    assert shares == []


def test_a_graph_that_the_parser_refuses_is_named_with_its_node(rtx, model_path):
    with pytest.raises(RuntimeError, match=r"parser refuses this graph at node `middle` \(NoSuchOperator\)"):
        build_plan(rtx.api, request_for(rtx, model_path(operator="NoSuchOperator")), silent)


def test_a_graph_that_cannot_be_built_is_named_with_the_library_s_reason(rtx, model_path):
    broken = model_path(planes=5)  # five planes of weights for three of input
    with pytest.raises(RuntimeError, match="TensorRT for RTX"):
        build_plan(rtx.api, request_for(rtx, broken), silent)


def test_a_graph_of_one_size_takes_no_other(rtx, model_path):
    fixed = model_path(sides=(64, 96))
    assert build_plan(rtx.api, request_for(rtx, fixed), silent).facts["inputs"][0]["shape"] == [1, 3, 64, 96]
    with pytest.raises(UserError, match="fixed to 96x64, asked for 100x64"):
        build_plan(rtx.api, request_for(rtx, fixed, Profile.of((64, 100))), silent)


def test_the_same_request_gives_the_same_facts(rtx, model_path):
    request = request_for(rtx, model_path())
    first, second = (build_plan(rtx.api, request, silent) for _ in range(2))
    assert json.dumps(first.facts) == json.dumps(second.facts)
    assert len(first.plan) == len(second.plan)

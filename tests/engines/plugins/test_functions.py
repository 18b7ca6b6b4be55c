"""Every plugin's function gives what the kernel's reference gives, in every type;
TensorRT-RTX builds them, the pictures' inlined."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

import engines
from engines.plugins.functions import function
from engines.plugins.last_steps import INT8, PICTURE, LastSteps
from engines.plugins.names import (
    NAMESPACE,
    PIXEL_DCL,
    PIXEL_DCL_INT8,
    PIXEL_DCL_OF_INT8,
    PIXEL_INTERLEAVE,
    PIXEL_INTERLEAVE_INT8,
    PIXEL_INTERLEAVE_OF_INT8,
    PIXEL_SHUFFLE,
    PLUGINS,
    TAILS,
)
from engines.plugins.pixel_dcl import PixelInterleave
from engines.plugins.pixel_dcl_int8 import PixelDclOfInt8
from engines.plugins.pixel_dcl_maps import PixelDclMaps
from engines.plugins.pixel_shuffle import PixelShuffleTail

STEP = 0.05
KINDS = {"float": 0, "int8": INT8, "picture": PICTURE, "pictures": PICTURE}


def of_plugin(name, dtype):
    """Inputs of a node (torch tensors), its attributes, and what it has to give."""
    torch.manual_seed(0)
    kind = {np.float32: torch.float32, np.float16: torch.float16}[dtype]
    if name == PIXEL_SHUFFLE:
        x = torch.randn(1, 12, 5, 7).to(kind)
        return [x], {"r": 2}, PixelShuffleTail(2).reference(x)
    if tail := TAILS.get(name):
        x, bias = torch.randn(1, 12, 5, 7), torch.randn(12).to(kind)
        x = (x * 20).to(torch.int8) if tail.of_int8 else x.to(kind)
        taken = STEP if tail.of_int8 else 1.0
        numbers = (0.25, -0.5, 0.75, KINDS[tail.output], float(dtype(STEP)), 0.25, -0.75, 170.0)
        steps = LastSteps(float(dtype(taken)), tail.tanh, *numbers)
        kernel = PixelShuffleTail(2, steps, bias=True, batched=tail.output != "picture")
        told = {"r": 2, "slope": 0.25, "low": -0.5, "high": 0.75, "taken": taken, "given": STEP}
        told |= {"rounding": 0.25, "zero": -0.75, "gain": 170.0}
        return [x, bias], told, kernel.reference(x, bias, kind)
    maps = [torch.randn(1, 3, 5, 7).to(kind) for _ in range(4)]
    if name == PIXEL_INTERLEAVE:
        return maps, {"slope": 0.25}, PixelInterleave(LastSteps(slope=0.25)).reference(*maps)
    if name == PIXEL_INTERLEAVE_OF_INT8:
        whole = [(m * 20).to(torch.int8) for m in maps]
        steps = LastSteps(STEP, slope=0.0, output=INT8, step=STEP)
        return whole, {"slope": 0.0, "step": STEP}, PixelInterleave(steps).reference(*whole)
    steps = LastSteps(slope=0.25, output=INT8, step=float(dtype(STEP)))
    if name == PIXEL_INTERLEAVE_INT8:
        return maps, {"slope": 0.25, "step": STEP}, PixelInterleave(steps).reference(*maps)
    if name == PIXEL_DCL_OF_INT8:
        whole = [(m * 20).to(torch.int8) for m in (*maps[:2], torch.randn(3, 3, 1, 2), torch.randn(3, 3, 2, 1))]
        scales = [(torch.rand(3) / 100).to(kind) for _ in range(2)]
        kernel = PixelDclOfInt8(float(dtype(STEP)), float(dtype(STEP)), 0.25)
        told = {"slope": 0.25, "a_step": STEP, "b_step": STEP}
        wanted = kernel.reference([*maps[:2], *whole[:2]], whole[2:], scales)
        return [*maps[:2], *whole, *scales], told, wanted
    assert name in {PIXEL_DCL, PIXEL_DCL_INT8}
    weights = [(torch.randn(3, 3, *size) / 3).to(kind) for size in ((1, 2), (2, 1))]
    given = [*maps[:2], *weights]
    if name == PIXEL_DCL:
        return given, {"slope": 0.25}, PixelDclMaps(LastSteps(slope=0.25)).reference(*given)
    return given, {"slope": 0.25, "step": STEP}, PixelDclMaps(steps).reference(*given)


def model_of(name, dtype):
    """A model of one node, what goes in, and what has to come out; all but maps is stored in the graph."""
    given, told, wanted = of_plugin(name, dtype)
    arrays = [tensor.numpy() for tensor in given]
    maps = [array for array in arrays if array.ndim == 4 and array.shape[2:] == (5, 7)]
    kept = [numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(arrays[len(maps) :])]
    names = [f"x{i}" for i in range(len(maps))]
    kinds = {torch.uint8: 2, torch.int8: 3, torch.float32: 1, torch.float16: 10}
    asked = {"plugin_namespace": NAMESPACE, "plugin_version": "1", "aot": 1}
    floating = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    kept += [numpy_helper.from_array(np.asarray(dtype(STEP)), "step"), numpy_helper.from_array(np.int8(0), "zero")]
    # TensorRT takes int8 behind a quantiser only, and gives it to one that undoes it.
    out = "y"
    whole = [n for n, m in zip(names, maps, strict=True) if m.dtype == np.int8]
    inside = [f"{n}.q" if n in whole else n for n in names]
    nodes = [helper.make_node("QuantizeLinear", [n, "step", "zero"], [f"{n}.q"]) for n in whole]
    scaled = [(m.astype(np.float32) * np.float32(dtype(STEP))).astype(dtype) for m in maps]
    maps = [s if m.dtype == np.int8 else m for m, s in zip(maps, scaled, strict=True)]
    if wanted.dtype == torch.int8:
        out = "y.q"
    weights = [t.name for t in kept if t.name.startswith("w")]
    nodes.append(helper.make_node(name, [*inside, *weights], [out], "node", domain=NAMESPACE, **told, **asked))
    if out == "y.q":
        nodes.append(helper.make_node("DequantizeLinear", ["y.q", "step", "zero"], ["y"]))
        wanted = (wanted.float() * float(dtype(STEP))).to({np.float32: torch.float32, np.float16: torch.float16}[dtype])
    ends = [
        helper.make_tensor_value_info(n, floating, [1, m.shape[1], "H", "W"]) for n, m in zip(names, maps, strict=True)
    ]
    last = helper.make_tensor_value_info("y", kinds[wanted.dtype], [None] * wanted.ndim)
    graph = helper.make_graph(nodes, "g", ends, [last], kept)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(NAMESPACE, 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=[function(name, 20)])
    onnx.checker.check_model(made, full_check=True)
    return made, dict(zip(names, maps, strict=True)), wanted.numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", PLUGINS)
def test_the_function_gives_what_the_reference_gives(name, dtype):
    import onnxruntime as ort

    model, given, wanted = model_of(name, dtype)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    got = session.run(None, given)[0]
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    off = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    # Where fp16 is rounded between two nodes, a value near the middle of a step goes to the other one.
    step = 1 if wanted.dtype == np.uint8 else STEP
    close = 1e-6 if dtype is np.float32 else 4e-3
    assert off.max() <= step * 1.001
    stepped = wanted.dtype == np.uint8 or "Int8" in name.replace("OfInt8", "")
    assert (off > close).mean() <= (0.02 if stepped else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", PLUGINS)
def test_rtx_which_has_no_plugins_builds_every_function(name, dtype, tmp_path):
    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    from engines.trt.reporting import Messages, new_logger

    trt, messages = engine.api.module, Messages()
    model, given, _ = model_of(name, dtype)
    builder = trt.Builder(new_logger(trt, messages))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, new_logger(trt, messages))
    parsed = parser.parse(model.SerializeToString())
    if "Picture" in name:  # its parser takes uint8 from a Cast of the graph's own alone, not from one in a function
        assert not parsed
        assert "UINT8 types for intermediate tensors" in parser.get_error(0).desc()
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, new_logger(trt, messages))
        parsed = parser.parse(inline_local_functions(model).SerializeToString())
    assert parsed, parser.get_error(0).desc()
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for end, array in given.items():
        profile.set_shape(end, array.shape, array.shape, array.shape)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config), messages.reason()


def test_functions_name_every_attribute_that_the_plugin_is_given():
    for name in PLUGINS:
        told = of_plugin(name, np.float32)[1]
        assert list(function(name, 20).attribute) == list(told)
    assert TensorProto.INT8 == 3

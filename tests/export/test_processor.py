"""Flags and what hangs on them; what is said of exact products is asked of the integer kernels here."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, load, numpy_helper

import engines
from export import processor
from export.processor import exact_weight_bits
from export.recipe import WEIGHT_PEAK

CHANNELS = 32
ONES = np.ones((1, CHANNELS, 8, 8), np.float32)


def text(flags: str) -> str:
    return f"processor\t: 0\nmodel name\t: EPYC\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\nflags\t\t: other\n"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2", 7),
        ("avx512f avx512bw", 7),
        ("avx2 avx_vnni", 8),
        ("avx512f avx512_vnni", 8),
        ("amx_int8", 8),
    ],
)
def test_eight_bits_need_sums_of_32(flags: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(text(flags))
    assert exact_weight_bits(tmp_path) == expected


@pytest.mark.parametrize(("machine", "expected"), [("AMD64", 7), ("aarch64", 8), ("arm64", 8)])
def test_where_no_flags_are_told_the_kind_decides(
    machine: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert exact_weight_bits(tmp_path / "absent") == expected


def test_flags_are_of_the_first_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text("avx2"))
    assert processor.flags(tmp_path) == {"fpu", "avx2"}
    assert processor.cpuinfo(tmp_path)["model name"] == "EPYC"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: asimd i8mm\n")
    assert processor.flags(tmp_path) == {"asimd", "i8mm"}
    assert processor.flags(tmp_path / "absent") == set()


def loudest(peak: int) -> ModelProto:
    """u8 x s8, every product the largest there is: `x` (1, C, 8, 8) at 1 and all weights at `peak` steps. The output is
    the mean over what it sums, in 255 levels of 1."""
    constants = {
        "weight": np.full((CHANNELS, CHANNELS, 3, 3), peak, np.int8),
        "steps": np.full(CHANNELS, 1 / (peak * CHANNELS * 9), np.float32),
        "signed": np.zeros(CHANNELS, np.int8),
        "scale": np.float32(1 / 255),
        "zero": np.uint8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "scale", "zero"], ["x.dq"]),
        helper.make_node("DequantizeLinear", ["weight", "steps", "signed"], ["w"], axis=0),
        helper.make_node("Conv", ["x.dq", "w"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "scale", "zero"], ["y.q"]),
        helper.make_node("DequantizeLinear", ["y.q", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, CHANNELS, s, s]) for n, s in (("x", 8), ("y", 6))]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "loudest", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def onnxruntime_here(model: ModelProto, folder: Path) -> tuple[np.ndarray, bool]:
    """Output, and whether an integer kernel made it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kernels = {node.op_type for node in load(options.optimized_model_filepath).graph.node}
    return session.run(None, {"x": ONES})[0], "QLinearConv" in kernels


def openvino_here(model: ModelProto, folder: Path) -> tuple[np.ndarray, bool]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model=model.SerializeToString()), "CPU")
    facts = [{k: v.astype(str) for k, v in op.get_rt_info().items()} for op in compiled.get_runtime_model().get_ops()]
    types = [fact["runtimePrecision"].lower() for fact in facts if fact["layerType"] == "Convolution"]
    return compiled([ONES])[0], types in (["u8"], ["i8"])


@pytest.mark.parametrize("bits", [bits for bits in WEIGHT_PEAK if bits <= exact_weight_bits()])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_integer_kernels_here_are_exact_with_as_many_bits_as_it_says(engine: str, bits: int, tmp_path: Path) -> None:
    if reason := engines.get(engine).missing():
        pytest.skip(reason)
    run = onnxruntime_here if engine == "onnxruntime" else openvino_here
    found, integer = run(loudest(WEIGHT_PEAK[bits]), tmp_path)
    assert integer
    assert found == pytest.approx(1.0, abs=1.1 / 255)

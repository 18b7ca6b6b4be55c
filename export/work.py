"""How much work a graph is at one input size: multiply-accumulates and the least bytes. Counted over the ONNX file."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from export.onnx_file import onnxruntime_errors

_WEIGHTED = {"Conv", "ConvTranspose", "MatMul", "Gemm"}


@dataclass(frozen=True)
class Work:
    """Work of one inference."""

    macs: int
    """Multiply-accumulates of convolutions and matrix products, those on zero padding included; 1 MAC = 2 FLOP."""
    min_bytes: int
    """Every input, weight and output of the graph once: what even a perfectly fused program must move."""

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.min_bytes + other.min_bytes)


def count_work(onnx_path: str, input_shape: tuple[int, ...]) -> Work:
    """Work of the graph for an input of this (N, C, H, W) shape.

    Raises:
        ValueError: a weighted node whose shapes cannot be inferred.
    """
    import onnx

    model = onnx.load(onnx_path)
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, input_shape, strict=True):
        dimension.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = _shapes(inferred)
    if any(_unknown(node, shapes) for node in inferred.graph.node if node.op_type in _WEIGHTED):
        with contextlib.suppress(*onnxruntime_errors()):  # then the node is named below
            inferred = onnx.shape_inference.infer_shapes(_with_constant_shapes(model), data_prop=True)
            shapes = _shapes(inferred)
    macs = sum(_macs(node, shapes) for node in inferred.graph.node if node.op_type in _WEIGHTED)
    weights = sum(prod(i.dims) for i in inferred.graph.initializer)
    ends = sum(prod(shapes.get(v.name, ())) for v in [inferred.graph.input[0], *inferred.graph.output])
    return Work(macs, 4 * (weights + ends))


def _with_constant_shapes(model: Any) -> Any:
    """The graph with its arithmetic on shapes computed, which onnx does not follow through every operator."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _unknown(node: Any, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Names of a weighted node's operands and result whose shapes are not known."""
    return [name for name in (*node.input[:2], node.output[0]) if name not in shapes]


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    found = {i.name: tuple(i.dims) for i in model.graph.initializer}
    for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = tuple(d.dim_value for d in dims)
    return found


def _macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    left, right, out = node.input[0], node.input[1], node.output[0]
    if missing := _unknown(node, shapes):
        raise ValueError(f"node {node.name!r} ({node.op_type}): shape of {', '.join(missing)} is not known")
    if node.op_type == "Conv":
        return prod(shapes[out]) * prod(shapes[right][1:])
    if node.op_type == "ConvTranspose":
        return prod(shapes[left]) * prod(shapes[right][1:])
    if node.op_type == "Gemm":
        inner = shapes[left][0 if any(a.name == "transA" and a.i for a in node.attribute) else 1]
        return prod(shapes[out]) * inner
    return prod(shapes[out]) * shapes[left][-1]

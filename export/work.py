"""How much work a graph is at one input size: multiply-accumulates and the least bytes. Counted over the ONNX file.

Counted are convolutions and matrix products, quantised ones and Einsum too, and of an If the branch with more of them.
Not counted: recurrent layers, Attention, and inside of branches products whose shapes cannot be inferred.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from export.onnx_file import all_nodes, all_tensors, folded, onnxruntime_errors

_OPERANDS = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "DeformConv", "MatMul", "MatMulInteger", "Gemm"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3)),
}
"""Operator → which of its inputs are multiplied; of Einsum all are."""
_WEIGHTED = {*_OPERANDS, "Einsum"}
_SHAPE_LIKE = 64
"""Most elements of a constant that shape inference may have to read."""


@dataclass(frozen=True)
class Work:
    """Work of one inference."""

    macs: int
    """Multiply-accumulates of convolutions and matrix products, those on zero padding included; 1 MAC = 2 FLOP."""
    min_bytes: int
    """Every input, weight and output of the graph once, each in its own type: what even a perfectly fused program must
    move."""

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.min_bytes + other.min_bytes)


def count_work(onnx_path: str, input_shape: tuple[int, ...]) -> Work:
    """Work of the graph for an input of this (N, C, H, W) shape.

    Raises:
        ValueError: a weighted node whose shapes cannot be inferred.
    """
    import onnx

    model = onnx.load(onnx_path)
    inferred, shapes = _sized(model, input_shape)
    macs = sum(_macs(node, shapes) for node in inferred.graph.node)
    weights = sum(_bytes(t.data_type, t.dims) for t in all_tensors(inferred.graph))
    ends = [inferred.graph.input[0], *inferred.graph.output]
    moved = sum(_bytes(v.type.tensor_type.elem_type, shapes.get(v.name, ())) for v in ends)
    return Work(macs, weights + moved)


def layer_macs(model: Any, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Multiply-accumulates of every weighted node, by its name.

    Raises:
        ValueError: a weighted node whose shapes cannot be inferred.
    """
    inferred, shapes = _sized(model, input_shape)
    return {node.name: _macs(node, shapes) for node in inferred.graph.node if node.op_type in _WEIGHTED}


def sized_shapes(model: Any, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Tensor → shape, where it can be inferred, for an input of this shape; the model stays as it is."""
    return _shapes(without_weights(model, input_shape))


def without_weights(model: Any, input_shape: tuple[int, ...] | None) -> Any:
    """A copy for an input of this shape, or of any, with shapes inferred; large constants, but integers, have no
    content."""
    import onnx

    copied = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    whole = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
    graph = copied.graph
    graph.name = model.graph.name
    for name in ("node", "input", "output"):
        getattr(graph, name).extend(getattr(model.graph, name))
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= _SHAPE_LIKE or tensor.data_type in whole:  # others are weights: their shape is enough
            graph.initializer.append(tensor)
        else:
            graph.initializer.append(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    if input_shape is not None:
        _set_shape(graph, input_shape)
    return onnx.shape_inference.infer_shapes(copied, data_prop=True)


def _sized(model: Any, input_shape: tuple[int, ...]) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The model for an input of this shape, its large constants without content, and the shapes in it."""
    inferred = without_weights(model, input_shape)
    shapes = _shapes(inferred)
    # Branches see the tensors around them, and onnx keeps what it inferred of their own inside.
    if any(_unknown(node, shapes) for node in all_nodes(inferred.graph) if node.op_type in _WEIGHTED):
        with contextlib.suppress(*onnxruntime_errors()):  # then the node is named below
            inferred = without_weights(folded(_resized(model, input_shape)), input_shape)
            shapes = _shapes(inferred)
    return inferred, shapes


def _resized(model: Any, input_shape: tuple[int, ...]) -> Any:
    """A copy for an input of this shape."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    _set_shape(copied.graph, input_shape)
    del copied.graph.value_info[:]
    return copied


def _set_shape(graph: Any, input_shape: tuple[int, ...]) -> None:
    for dimension, size in zip(graph.input[0].type.tensor_type.shape.dim, input_shape, strict=True):
        dimension.dim_value = size
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _bytes(kind: int, shape: Sequence[int]) -> int:
    """Of a tensor of this onnx.TensorProto.DataType; types of half a byte lie two to a byte."""
    from onnx import TensorProto, helper

    if kind in {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}:
        return -(-prod(shape) // 2)
    return prod(shape) * helper.tensor_dtype_to_np_dtype(kind).itemsize


def _unknown(node: Any, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Names of a weighted node's operands and result whose shapes are not known."""
    return [name for name in (*_operands(node), node.output[0]) if name not in shapes]


def _operands(node: Any) -> list[str]:
    return [name for i, name in enumerate(node.input) if i in _OPERANDS.get(node.op_type, range(len(node.input)))]


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return _shapes_in(model.graph)


def _shapes_in(graph: Any) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for body in (b for node in graph.node for a in node.attribute for b in (a.g, *a.graphs)):
        found |= _shapes_in(body)  # a name stands for one tensor in all of the graph, bodies included
    found |= {i.name: tuple(i.dims) for i in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = tuple(d.dim_value for d in dims)
    return found


def _macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "If":
        return max(_branch_macs(attribute.g, shapes) for attribute in node.attribute)
    if node.op_type not in _WEIGHTED:
        return 0
    if missing := _unknown(node, shapes):
        raise ValueError(f"node {node.name!r} ({node.op_type}): shape of {', '.join(missing)} is not known")
    if node.op_type == "Einsum":
        return _einsum_macs(node, shapes)
    (left, right), out = _operands(node), node.output[0]
    if node.op_type in {"Conv", "ConvInteger", "QLinearConv", "DeformConv"}:
        return prod(shapes[out]) * prod(shapes[right][1:])
    if node.op_type == "ConvTranspose":
        return prod(shapes[left]) * prod(shapes[right][1:])
    if node.op_type == "Gemm":
        inner = shapes[left][0 if any(a.name == "transA" and a.i for a in node.attribute) else 1]
        return prod(shapes[out]) * inner
    return prod(shapes[out]) * shapes[left][-1]


def _branch_macs(graph: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    shapes = shapes | _shapes_in(graph)  # both branches may use one name
    known = (node for node in graph.node if node.op_type not in _WEIGHTED or not _unknown(node, shapes))
    return sum(_macs(node, shapes) for node in known)


def _einsum_macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """One product for every combination of all its indices, for every operand but the first."""
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
    lengths: dict[str, int] = {}
    for term, name in zip(equation.split("->")[0].split(","), node.input, strict=True):
        before, _, after = term.partition("...")
        shape = shapes[name]
        more = len(shape) - len(before + after)  # axes that the ellipsis stands for, aligned at their end
        labels = [*before, *(f"...{i}" for i in range(more, 0, -1)), *after]
        for label, length in zip(labels, shape, strict=True):
            lengths[label] = max(lengths.get(label, 1), length)
    return prod(lengths.values()) * (len(node.input) - 1)

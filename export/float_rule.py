"""TypedGraph → which of its nodes must compute in FP32: a rule about what they add up, and not a list of names.

Changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from export.typed_graph import OUTPUT, QUANTIZING, TypedGraph, bodies, float_array, rounded

MANY = 64
"""What adds up more numbers than this stays FP32; and so does what adds up an unknown count."""

_SUMS = {
    "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceProd", "GlobalAveragePool", "GlobalLpPool", "AveragePool", "LpPool", "CumSum", "InstanceNormalization",
    "MeanVarianceNormalization",
}  # fmt: skip
"""LayerNormalization, GroupNormalization and matrix products promise FP32 sums inside, or engines do."""
_WEIGHTED = {"Conv", "ConvTranspose", "ConvInteger", "DeformConv", "Gemm", "MatMul", "Einsum", "GRU", "LSTM", "RNN"}
_COORDINATES = {"GridSample", "AffineGrid", "RoiAlign"}
"""A place in a 4K picture needs 12 bits and its fraction; engines want planes and places in one type."""
_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "Pow", "Neg"}
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"}
_ENLARGING = {"Expand", "Tile", "Resize", "Upsample"}


def kept_nodes(graph: TypedGraph) -> set[int]:
    """Places of the nodes that stay FP32: those that must, then, as long as there are more, what belongs to them."""
    numbers = {i for i, node in enumerate(graph.nodes) if _is_made_of_integers(graph, node)}
    for i, node in enumerate(graph.nodes):
        if _follows(graph, node, numbers):
            numbers.add(i)
    kept = numbers | {i for i, node in enumerate(graph.nodes) if _must_stay(graph, node)} | _last_skips(graph)
    known = -1
    while known < len(kept):
        known = len(kept)
        kept.update(i for i, n in reversed(list(enumerate(graph.nodes))) if i not in kept and _prepares(graph, n, kept))
        for i, node in enumerate(graph.nodes):
            if node.op_type not in _ENLARGING and _follows(graph, node, kept):
                kept.add(i)
    return kept | _scaled(graph, kept)


def _is_made_of_integers(graph: TypedGraph, node: Any) -> bool:
    """Floats out of none: a side that is cast, a range, a fill. DequantizeLinear is how planes are stored."""
    return node.op_type != "DequantizeLinear" and bool(graph.floats(node.output)) and not graph.floats(graph.read(node))


def _must_stay(graph: TypedGraph, node: Any) -> bool:
    names = [*graph.read(node), *node.output]
    if not graph.floats(names):
        return False
    if any(bodies(node)) or any(graph.types.get(name) == 0 for name in names):
        return True
    outputs = graph.schema(node).outputs
    places = [place for place, name in enumerate(node.output) if graph.floats([name])]
    if not all(graph.allows_half(node, outputs, place) for place in places):
        return True
    return node.op_type in _COORDINATES or _adds_many(graph, node) or _vanishes(graph, node)


def _adds_many(graph: TypedGraph, node: Any) -> bool:
    if node.op_type not in _SUMS:
        return False
    shape = graph.shapes.get(node.input[0], ())
    attributes = {a.name: a for a in node.attribute}
    if "kernel_shape" in attributes:
        lengths = list(attributes["kernel_shape"].ints)
    elif node.op_type.startswith("Reduce"):
        axes = _axes(graph, node, attributes)
        lengths = [shape[axis] if -len(shape) <= axis < len(shape) else -1 for axis in axes] or [*shape] or [-1]
    else:
        return True
    return min(lengths) < 0 or int(np.prod(lengths)) > MANY


def _axes(graph: TypedGraph, node: Any, attributes: Any) -> list[int]:
    """What is reduced; empty: all. They became an input with opset 13 and 18."""
    from onnx import numpy_helper

    if "axes" in attributes:
        return list(attributes["axes"].ints)
    if len(node.input) < 2 or not node.input[1]:
        return []
    stored = graph.stored.get(node.input[1])
    return [int(axis) for axis in numpy_helper.to_array(stored).ravel()] if stored is not None else [len(graph.nodes)]


def _vanishes(graph: TypedGraph, node: Any) -> bool:
    """Whether a single number in it, such as the epsilon under a square root, would become 0."""
    if node.op_type in _WEIGHTED | QUANTIZING:
        return False
    for name in graph.floats(node.input):
        if name in graph.stored and int(np.prod(graph.stored[name].dims)) == 1:
            value = float_array(graph.stored[name])
            if value.any() and not rounded(value, graph.half).any():
                return True
    return False


def _last_skips(graph: TypedGraph) -> set[int]:
    """Additions of a graph's input that make its output: both are FP32 anyway, and the picture keeps its bits."""
    found: set[int] = set()
    inputs = {value.name for value in graph.model.graph.input} if graph.ends == "fp32" else set()
    for i, node in enumerate(graph.nodes):
        if node.op_type not in {"Add", "Sub"} or not inputs & set(graph.floats(node.input)):
            continue
        path = [i]
        while (after := graph.readers[graph.nodes[path[-1]].output[0]]) != [OUTPUT]:
            if len(after) != 1 or graph.nodes[after[0]].op_type not in {"Relu", "Clip", "Identity"}:
                break
            path.append(after[0])
        else:
            found.update(path)
    return found


def _prepares(graph: TypedGraph, node: Any, kept: set[int]) -> bool:
    """x - mean, a square, a view, or arithmetic of constants alone, read by what stays FP32 only."""
    readers = [reader for name in node.output for reader in graph.readers[name]]
    if not graph.floats(node.output) or not readers or not kept.issuperset(readers):
        return False
    if node.op_type in _VIEWS or graph.fixed.issuperset(node.output):
        return True
    made_here = any(graph.maker.get(name) in kept for name in graph.floats(node.input))
    return node.op_type in _ARITHMETIC and (made_here or _is_square(node))


def _scaled(graph: TypedGraph, statistics: set[int]) -> set[int]:
    """Arithmetic of planes with a statistic, and with constants after it: rounded once, at its end.

    x * scale + offset of a trained network cancels: with scale and offset rounded CAN24 loses 4 dB in FP16, 7 in BF16.
    """
    found: set[int] = set()
    for i, node in enumerate(graph.nodes):
        moving = [name for name in graph.floats(node.input) if name not in graph.fixed]
        reads_one = any(graph.maker.get(name) in statistics for name in moving)
        goes_on = bool(moving) and all(graph.maker.get(name) in found for name in moving)
        if node.op_type in _ARITHMETIC and (reads_one or goes_on):
            found.add(i)
    return found


def _is_square(node: Any) -> bool:
    return bool(node.op_type == "Pow" or (node.op_type == "Mul" and node.input[0] == node.input[1]))


def _follows(graph: TypedGraph, node: Any, kept: set[int]) -> bool:
    """Whether all floats in it are made by these nodes or do not depend on the input."""
    if node.op_type in _WEIGHTED | QUANTIZING:
        return False
    moving = [name for name in graph.floats(graph.read(node)) if name not in graph.fixed]
    return bool(moving) and all(graph.maker.get(name) in kept for name in moving)

"""The masked 3x3 convolution of a pixel deconvolution in an ONNX graph: which nodes our kernels replace, and by what.

Maps a and b, and between them two sums of two convolutions each, as the exporter writes them; or the same behind pairs
of quantisers, as export/qdq.py does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engines.plugins.graph_view import GraphView, attribute
from engines.plugins.names import DCL_TAPS
from engines.plugins.pixel_dcl_maps import LEAST_CHANNELS


@dataclass(frozen=True)
class Masked:
    """What a node of ours needs in place of `nodes`."""

    inputs: list[str]
    """Maps a and b, the weights of a row of two taps and of a column of two; or, quantised, a and b as floats and as
    int8, both weights as int8, and their steps."""
    nodes: list[Any]
    type: str
    """Of the weights: `FLOAT`, `FLOAT16`, `INT8`."""
    steps: dict[str, float] = field(default_factory=dict)
    """`a_step` and `b_step` of int8."""


def masked_convolution(view: GraphView, maps: list[str]) -> Masked | None:
    """Of four maps by their names, in the order in which they are interleaved; None where it is something else."""
    from onnx import TensorProto

    (a, b), nodes, weights, sources = (maps[0], maps[3]), [], [], []
    for target, zeros in zip(maps[1:3], DCL_TAPS, strict=True):
        total = view.made.get(target)
        added = total.input if total is not None and total.op_type == "Add" else []
        convs = [view.made[n] for n in added if n in view.made]
        if not view.is_read_once(target) or [conv.op_type for conv in convs] != ["Conv", "Conv"]:
            return None
        for conv, wanted in zip(convs, zeros, strict=True):
            plain = attribute(conv, "pads", []) == list(wanted) and len(conv.input) == 2
            unit = all(set(attribute(conv, word, [1])) == {1} for word in ("strides", "dilations"))
            if not plain or not unit or not view.is_read_once(conv.output[0]):
                return None
            sources.append(conv.input[0])
            weights.append(conv.input[1])
        nodes += [total, *convs]
    row, column = weights[:2]
    if weights[2:] != [column, row] or sources[2:] != sources[:2]:
        return None
    if sources[:2] != [a, b]:
        return _of_int8(view, (a, b), sources[:2], (row, column), nodes)
    if not _are_taps(view, row, column):
        return None
    return Masked([a, b, row, column], nodes, TensorProto.DataType.Name(view.stored[row].data_type))


def _are_taps(view: GraphView, row: str, column: str) -> bool:
    """Whether these are stored weights of a row and a column, of enough channels."""
    if not {row, column} <= set(view.stored):
        return False
    shapes = [[*view.stored[name].dims] for name in (row, column)]
    channels = shapes[0][0]
    return channels >= LEAST_CHANNELS and shapes == [[channels, channels, 1, 2], [channels, channels, 2, 1]]


def _of_int8(
    view: GraphView, maps: tuple[str, str], sources: list[str], weights: tuple[str, str], nodes: list[Any]
) -> Masked | None:
    """Where sources are the maps behind a pair of quantisers each, and weights int8 with a step per channel."""
    from onnx import TensorProto

    taken, steps = [], {}
    for name, given, source in zip("ab", maps, sources, strict=True):
        behind: Any = view.made.get(source)
        before: Any = view.made.get(behind.input[0]) if behind is not None and behind.input else None
        step = view.step(behind, "DequantizeLinear")
        if step is None or view.step(before, "QuantizeLinear") != step or before.input[0] != given:
            return None
        taken.append(before.output[0])
        steps[f"{name}_step"] = step
    stored = [view.made.get(name) for name in weights]
    for node in stored:
        if node is None or node.op_type != "DequantizeLinear" or attribute(node, "axis", 1) != 0:
            return None
        zero = view.constant(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.any() or node.input[1] not in view.stored:
            return None
    row, column = (node.input[0] for node in stored if node is not None)
    row_step, column_step = (node.input[1] for node in stored if node is not None)
    whole = all(view.type_of(name) == TensorProto.INT8 for name in (row, column))
    channels = [[*view.stored[name].dims] for name in (row_step, column_step)]
    same = view.stored[row_step].data_type == view.type_of(maps[0])
    if not whole or not same or not _are_taps(view, row, column) or channels != [[view.stored[row].dims[0]]] * 2:
        return None
    return Masked([*maps, *taken, row, column, row_step, column_step], nodes, "INT8", steps)

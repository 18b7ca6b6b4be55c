"""Times of a library's nodes → times of our layers, of Q/DQ nodes, of nodes that only reorder or convert, of the rest.

Libraries rename what they merge, split or move; what a name cannot be traced to is `other`, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.proof import plain_name
from engines.engine import LayerTime
from export.recipe import WEIGHTED

QDQ, REFORMAT, OTHER = "Q/DQ", "reformat", "other"
PLACES = (QDQ, REFORMAT, OTHER)
"""Where a node's time goes that is no layer's."""
_QDQ = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "FakeQuantize"}
_REFORMAT = {"Reorder", "ReorderInput", "ReorderOutput", "Transpose", "Cast", "Convert", "ConvertTruncation"}
_POINTWISE = {
    *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Softplus"),
    *("Add", "Sub", "Mul", "Div", "Identity", "BatchNormalization"),
}
"""They belong to the layer that makes their input; of several, to the one that comes last."""
_KERNELS = {
    *("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"),
    *("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat"),
    *("Convolution", "Deconvolution", "FullyConnected"),
}
"""Weighted kernels of both libraries, whatever they are named after: some after a pair behind them."""

_APPENDED = r"(_nchwc|_original|/\w*Fusion\w*)$"
"""What libraries append to names, besides what `plain_name` knows."""


@dataclass(frozen=True)
class Owners:
    """Of one graph, by names of nodes and of the tensors that they make."""

    layers: Mapping[str, str]
    operators: Mapping[str, str]


def owners_in(model: Any, starts: Mapping[str, str]) -> Owners:
    """Which layer every node of a graph belongs to, where it belongs to one.

    Args:
        model: the ONNX graph that the library was given.
        starts: name of a weighted node, or of a tensor that it makes → layer, in the graph's order.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    order = {layer: place for place, layer in enumerate(starts.values())}
    layers: dict[str, str] = {}
    operators: dict[str, str] = {}
    for node in model.graph.node:
        names = [name for name in (node.name, *node.output) if name]
        operators |= dict.fromkeys(names, node.op_type)
        own = next((starts[name] for name in names if name in starts), None)
        if own is None and node.op_type in _POINTWISE | _QDQ:
            own = max((layers[i] for i in node.input if i in layers), key=order.__getitem__, default=None)
        elif own is not None:
            layers |= dict.fromkeys(_merged_before(node, makers), own)
        if own is not None:
            layers |= dict.fromkeys(names, own)
    return Owners(layers, operators)


def _merged_before(node: Any, makers: Mapping[str, Any]) -> Iterator[str]:
    """Names of what folding merges into a node: of a batch normalisation, the convolution before it."""
    while node.op_type not in WEIGHTED and node.input[0] in makers:
        node = makers[node.input[0]]
        yield from (name for name in (node.name, *node.output) if name)


def place_of(time: LayerTime, owners: Owners) -> str:
    """The layer that a node's time belongs to, or one of PLACES."""
    word = next((word for word in _words(time.name) if word in owners.operators), "")
    operator, layer = owners.operators.get(word), owners.layers.get(word, OTHER)
    if time.kind in _KERNELS:
        return layer
    if time.kind in _QDQ or operator in _QDQ:
        return QDQ
    if time.kind in _REFORMAT and time.kind != operator:  # else it is the network's own
        return REFORMAT
    return layer


def times_by_place(times: Sequence[LayerTime], owners: Owners) -> dict[str, float]:
    """ms by layer or place, of those that have nodes of their own."""
    found: dict[str, float] = {}
    for time in times:
        place = place_of(time, owners)
        found[place] = found.get(place, 0.0) + time.ms
    return found


def _words(name: str) -> list[str]:
    """What a library's name may have been made from: a node's name, or that of what it makes."""
    plain = plain_name(name.removeprefix("fused "))
    return [name, plain, plain_name(re.sub(_APPENDED, "", plain))]

"""DepthToSpace and pixel deconvolution's interleaving → nodes that are plugins where those are registered.

Each node lives in its own domain and has a function of standard operators in the same file, so that the file also runs
where there is no plugin: ONNX Runtime, and TensorRT-RTX, which has none. An onnx.ModelProto is changed in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from engines.plugins.pixel_dcl_maps import LEAST_CHANNELS
from engines.plugins.registration import NAMESPACE, PIXEL_DCL, PIXEL_INTERLEAVE, PIXEL_SHUFFLE

_ONNX = {"", "ai.onnx"}
_MAPS = 4


def use_plugins(model: Any, products: Collection[str] = ()) -> list[str]:
    """Names of the plugins that the graph asks for from now on; empty where it has nothing for them.

    Args:
        model: onnx.ModelProto of opset 11 or later, changed in place. Of any precision: what Q/DQ pairs or casts stand
            between is left as it is.
        products: types of weights (`FLOAT16`, `FLOAT`) whose products may be computed by our kernel for tensor cores:
            `FLOAT` where TF32 is allowed.
    """
    _interleave(model.graph, products)
    _shuffle(model.graph)
    used = {node.op_type for node in model.graph.node if node.domain == NAMESPACE}
    if not used:
        return []
    opset = next(entry.version for entry in model.opset_import if entry.domain in _ONNX)
    from onnx import helper

    model.opset_import.append(helper.make_opsetid(NAMESPACE, 1))
    names = [name for name in _FUNCTIONS if name in used]
    model.functions.extend(_FUNCTIONS[name](opset) for name in names)
    return [f"{NAMESPACE}::{name}" for name in names]


def _node(name: str, source: Any, inputs: list[str], output: str, **attributes: Any) -> Any:
    """A node that TensorRT takes for the plugin, ahead of time, and everybody else for the function."""
    from onnx import helper

    asked: dict[str, Any] = {"plugin_namespace": NAMESPACE, "plugin_version": "1", "aot": 1, **attributes}
    return helper.make_node(name, inputs, [output], name=source.name, domain=NAMESPACE, **asked)


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _shuffle(graph: Any) -> None:
    """Every DepthToSpace in torch's order of channels."""
    for number, node in enumerate(graph.node):
        if node.op_type == "DepthToSpace" and node.domain in _ONNX and _attribute(node, "mode", b"DCR") == b"CRD":
            r = _attribute(node, "blocksize", 0)
            graph.node[number].CopyFrom(_node(PIXEL_SHUFFLE, node, [node.input[0]], node.output[0], r=r))


def _interleave(graph: Any, products: Collection[str]) -> None:
    """Concat → Gather of channels → DepthToSpace → Relu, as the exporter writes `interleave` of the pixel layers."""
    import numpy as np

    made: dict[str, Any] = {name: node for node in graph.node for name in node.output}
    stored = _constants(graph)
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(value.name for value in graph.output)
    gone: list[Any] = []
    for shuffle in [node for node in graph.node if node.op_type == "DepthToSpace"]:
        gather = made.get(shuffle.input[0])
        concat = made.get(gather.input[0]) if gather is not None and gather.op_type == "Gather" else None
        if gather is None or concat is None or concat.op_type != "Concat" or len(concat.input) != _MAPS:
            continue
        order = stored.get(gather.input[1])
        if (
            order is None
            or order.size % _MAPS
            or not np.array_equal(order.ravel(), np.arange(order.size).reshape(_MAPS, -1).T.ravel())
            or (_attribute(concat, "axis", 0), _attribute(gather, "axis", 0)) != (1, 1)
            or (_attribute(shuffle, "mode", b"DCR"), _attribute(shuffle, "blocksize", 0)) != (b"CRD", 2)
            or reads[concat.output[0]] != 1
            or reads[gather.output[0]] != 1
        ):
            continue
        last, slope = shuffle, 1.0
        readers = [node for node in graph.node if shuffle.output[0] in node.input]
        if reads[shuffle.output[0]] == 1 and [node.op_type for node in readers] == ["Relu"]:
            last, slope = readers[0], 0.0
            gone.append(shuffle)
        found = _masked(graph, list(concat.input), made, reads) if products else None
        if found and found.type in products:
            node = _node(PIXEL_DCL, shuffle, found.inputs, last.output[0], slope=slope)
            gone += found.nodes
        else:
            node = _node(PIXEL_INTERLEAVE, shuffle, list(concat.input), last.output[0], slope=slope)
        last.CopyFrom(node)
        gone += [concat, gather]
    for node in gone:
        graph.node.remove(node)


@dataclass(frozen=True)
class _Masked:
    """The masked convolution of a pixel deconvolution with a 3x3 kernel."""

    inputs: list[str]
    """Maps a and b, the weights of a row of two taps and of a column of two."""
    nodes: list[Any]
    type: str
    """Of the weights."""


_TAPS = (((0, 0, 0, 1), (1, 0, 0, 0)), ((0, 0, 1, 0), (0, 1, 0, 0)))
"""Zeros around a and around b, for the top right and the bottom left map."""


def _masked(graph: Any, maps: list[str], made: Mapping[str, Any], reads: Mapping[str, int]) -> _Masked | None:
    """Four maps that are a, two sums of two convolutions each, and b."""
    from onnx import TensorProto

    a, b, nodes, weights = maps[0], maps[3], [], []
    for target, zeros in zip(maps[1:3], _TAPS, strict=True):
        total = made.get(target)
        convs = [made[n] for n in total.input if n in made] if total is not None and total.op_type == "Add" else []
        if reads[target] != 1 or [conv.op_type for conv in convs] != ["Conv", "Conv"]:
            return None
        for conv, source, wanted in zip(convs, (a, b), zeros, strict=True):
            plain = _attribute(conv, "pads", []) == list(wanted) and len(conv.input) == 2
            unit = all(set(_attribute(conv, word, [1])) == {1} for word in ("strides", "dilations"))
            if conv.input[0] != source or not plain or not unit or reads[conv.output[0]] != 1:
                return None
            weights.append(conv.input[1])
        nodes += [total, *convs]
    row, column = weights[:2]
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.name in {row, column}}
    if weights[2:] != [column, row] or len(stored) != 2:
        return None
    channels = stored[row].dims[0]
    if [*stored[row].dims] != [channels, channels, 1, 2] or [*stored[column].dims] != [channels, channels, 2, 1]:
        return None
    kind = TensorProto.DataType.Name(stored[row].data_type)
    return _Masked([a, b, row, column], nodes, kind) if channels >= LEAST_CHANNELS else None


def _constants(graph: Any) -> Mapping[str, Any]:
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if len(tensor.dims) <= 2}
    for node in graph.node:
        if node.op_type == "Constant" and any(a.name == "value" for a in node.attribute):
            found[node.output[0]] = numpy_helper.to_array(_attribute(node, "value", None))
    return found


def _reference(node: Any, name: str, attribute: str, kind: int) -> Any:
    """The node with an attribute that takes its value from one of the function's."""
    added = node.attribute.add()
    added.name, added.ref_attr_name, added.type = name, attribute, kind
    return node


def _shuffle_function(opset: int) -> Any:
    from onnx import AttributeProto, helper

    body = helper.make_node("DepthToSpace", ["X"], ["Y"], mode="CRD")
    body = _reference(body, "blocksize", "r", AttributeProto.INT)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(NAMESPACE, PIXEL_SHUFFLE, ["X"], ["Y"], [body], opsets, attributes=["r"])


def _interleave_function(opset: int) -> Any:
    """The order DCR takes maps one after the other, so that nothing needs to be gathered."""
    from onnx import AttributeProto, helper

    inputs = ["A", "B", "C", "D"]
    activate = _reference(helper.make_node("LeakyRelu", ["Z"], ["Y"]), "alpha", "slope", AttributeProto.FLOAT)
    body = [
        helper.make_node("Concat", inputs, ["M"], axis=1),
        helper.make_node("DepthToSpace", ["M"], ["Z"], mode="DCR", blocksize=2),
        activate,
    ]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(NAMESPACE, PIXEL_INTERLEAVE, inputs, ["Y"], body, opsets, attributes=["slope"])


def _dcl_function(opset: int) -> Any:
    """What it replaces, with the convolutions in their places."""
    from onnx import AttributeProto, helper

    terms = zip(
        "PQRS", ("A", "B", "A", "B"), ("V", "W", "W", "V"), (zeros for pair in _TAPS for zeros in pair), strict=True
    )
    activate = _reference(helper.make_node("LeakyRelu", ["Z"], ["Y"]), "alpha", "slope", AttributeProto.FLOAT)
    body = [
        *(helper.make_node("Conv", [source, taps], [name], pads=zeros) for name, source, taps, zeros in terms),
        helper.make_node("Add", ["P", "Q"], ["TR"]),
        helper.make_node("Add", ["R", "S"], ["BL"]),
        helper.make_node("Concat", ["A", "TR", "BL", "B"], ["M"], axis=1),
        helper.make_node("DepthToSpace", ["M"], ["Z"], mode="DCR", blocksize=2),
        activate,
    ]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(NAMESPACE, PIXEL_DCL, ["A", "B", "V", "W"], ["Y"], body, opsets, attributes=["slope"])


_FUNCTIONS = {PIXEL_DCL: _dcl_function, PIXEL_INTERLEAVE: _interleave_function, PIXEL_SHUFFLE: _shuffle_function}

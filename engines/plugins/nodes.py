"""DepthToSpace and pixel deconvolution's interleaving → nodes that are plugins where those are registered.

Each node lives in its own domain and has a function of standard operators in the same file, so that the file also runs
where there is no plugin: ONNX Runtime, and TensorRT-RTX, which has none. An onnx.ModelProto is changed in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from engines.plugins.registration import NAMESPACE, PIXEL_INTERLEAVE, PIXEL_SHUFFLE

_ONNX = {"", "ai.onnx"}
_MAPS = 4


def use_plugins(model: Any) -> list[str]:
    """Names of the plugins that the graph asks for from now on; empty where it has nothing for them.

    Args:
        model: onnx.ModelProto of opset 11 or later, changed in place.
    """
    used = [
        name for name, change in ((PIXEL_INTERLEAVE, _interleave), (PIXEL_SHUFFLE, _shuffle)) if change(model.graph)
    ]
    if not used:
        return []
    opset = next(entry.version for entry in model.opset_import if entry.domain in _ONNX)
    from onnx import helper

    model.opset_import.append(helper.make_opsetid(NAMESPACE, 1))
    model.functions.extend(_FUNCTIONS[name](opset) for name in used)
    return [f"{NAMESPACE}::{name}" for name in used]


def _node(name: str, source: Any, inputs: list[str], output: str, **attributes: Any) -> Any:
    """A node that TensorRT takes for the plugin, ahead of time, and everybody else for the function."""
    from onnx import helper

    asked: dict[str, Any] = {"plugin_namespace": NAMESPACE, "plugin_version": "1", "aot": 1, **attributes}
    return helper.make_node(name, inputs, [output], name=source.name, domain=NAMESPACE, **asked)


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _shuffle(graph: Any) -> bool:
    """Every DepthToSpace in torch's order of channels."""
    found = False
    for number, node in enumerate(graph.node):
        if node.op_type == "DepthToSpace" and node.domain in _ONNX and _attribute(node, "mode", b"DCR") == b"CRD":
            r = _attribute(node, "blocksize", 0)
            graph.node[number].CopyFrom(_node(PIXEL_SHUFFLE, node, [node.input[0]], node.output[0], r=r))
            found = True
    return found


def _interleave(graph: Any) -> bool:
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
        node = _node(PIXEL_INTERLEAVE, shuffle, list(concat.input), last.output[0], slope=slope)
        last.CopyFrom(node)
        gone += [concat, gather]
    for node in gone:
        graph.node.remove(node)
    return bool(gone)


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


_FUNCTIONS = {PIXEL_SHUFFLE: _shuffle_function, PIXEL_INTERLEAVE: _interleave_function}

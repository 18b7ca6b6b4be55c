"""DepthToSpace, pixel deconvolution's interleaving and what follows them → nodes that are plugins where registered.

Each node lives in its own domain and has a function of standard operators in the same file, so that the file also runs
where there is no plugin: ONNX Runtime, and but for two limits of its parser (docs/tensorrt.md) TensorRT-RTX. An
onnx.ModelProto is changed in place.

A quantiser behind a node is taken into it where that saves a pass over memory. Behind a convolution's bare shuffle, or
one with a ReLU, it goes in front instead: the convolution then writes int8, and the shuffle moves single bytes. Both
give the same numbers, since a shuffle only moves them and int8 around 0 keeps a ReLU.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from engines.plugins.followers import Followers, followers
from engines.plugins.functions import function
from engines.plugins.graph_view import ONNX, GraphView, attribute
from engines.plugins.masked import masked_convolution
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
    TAIL_ATTRIBUTES,
    Tail,
)

_MAPS = 4
_OPSET = 15
"""Oldest with CastLike, which functions of followers need."""


def use_plugins(model: Any, products: Collection[str] = (), pictures: bool = False) -> list[str]:
    """Names of the plugins that the graph asks for from now on; empty where it has nothing for them.

    Args:
        model: onnx.ModelProto of opset 13 or later (followers: 15), changed in place, of any precision.
        products: types of weights (`FLOAT16`, `FLOAT`, `INT8`) whose products may be computed by our kernels for tensor
            cores: `FLOAT` where TF32 is allowed.
        pictures: whether a shuffle may write the uint8 picture that follows it. Off, since nobody has seen TensorRT
            take uint8 from a plugin: by its documents that type is for a network's ends, by Identity and Cast.
    """
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if entry.domain in ONNX)
    for node in [node for node in graph.node if _is_shuffle(node)]:
        if not _interleave(graph, node, products, opset >= _OPSET):
            _shuffle(graph, node, opset >= _OPSET, pictures)
    used = {node.op_type for node in graph.node if node.domain == NAMESPACE}
    if not used:
        return []
    from onnx import helper

    model.opset_import.append(helper.make_opsetid(NAMESPACE, 1))
    names = [name for name in PLUGINS if name in used]
    model.functions.extend(function(name, opset) for name in names)
    return [f"{NAMESPACE}::{name}" for name in names]


def _is_shuffle(node: Any) -> bool:
    """Whether it is a PixelShuffle: torch's order of channels, and something to move."""
    crd = node.op_type == "DepthToSpace" and node.domain in ONNX and attribute(node, "mode", b"DCR") == b"CRD"
    return crd and attribute(node, "blocksize", 0) > 1


def _node(name: str, source: Any, inputs: list[str], output: str, **attributes: Any) -> Any:
    """A node that TensorRT takes for the plugin, ahead of time, and everybody else for the function."""
    from onnx import helper

    asked: dict[str, Any] = {"plugin_namespace": NAMESPACE, "plugin_version": "1", "aot": 1, **attributes}
    return helper.make_node(name, inputs, [output], name=source.name, domain=NAMESPACE, **asked)


def _replace(graph: Any, gone: Collection[Any], new: list[Any]) -> None:
    """The nodes at the place of the last one that goes: all that they read is there, and their readers come later."""
    places = [place for place, node in enumerate(graph.node) if any(node is other for other in gone)]
    at = places[-1] + 1 - len(places)
    for place in reversed(places):
        del graph.node[place]
    for offset, node in enumerate(new):
        graph.node.insert(at + offset, node)


def _shuffle(graph: Any, node: Any, with_followers: bool, pictures: bool) -> None:
    """A DepthToSpace, its followers and a DequantizeLinear in front of it as nodes of ours."""
    from onnx import helper

    view = GraphView(graph)
    x, r, found = node.input[0], attribute(node, "blocksize", 0), Followers(node.output[0])
    if with_followers and view.type_of(x) in _floats():
        found = followers(view, node.output[0], enlarged=r, channels=view.channels(x) // (r * r), pictures=pictures)
    before: Any = view.made.get(x)
    gone, new = [node, *found.nodes], []
    taken = view.step(before, "DequantizeLinear")
    if taken is not None:
        if view.is_read_once(x):
            gone.append(before)
        same = found.kind == "int8" and found.steps.step == taken and found.only_relu and found.steps.slope == 1.0
        if same:
            new = [_node(PIXEL_SHUFFLE, node, [before.input[0]], found.output, r=r)]
        elif not found.nodes:
            moved = f"{node.output[0]}/int8"
            behind = helper.make_node("DequantizeLinear", [moved, *before.input[1:]], [found.output], f"{moved}.dq")
            new = [_node(PIXEL_SHUFFLE, node, [before.input[0]], moved, r=r), behind]
    elif not found.nodes:
        new = [_node(PIXEL_SHUFFLE, node, [x], found.output, r=r)]
    elif found.kind == "int8" and found.only_relu and view.is_read_once(x) and _is_weighted(before):
        new = _quantised_first(node, found, r)
    new = new or _tail(graph, view, node, found, taken)
    _replace(graph, gone, new)


def _floats() -> set[int]:
    """ONNX's numbers of the types that our kernels compute on."""
    from onnx import TensorProto

    return {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def _is_weighted(node: Any) -> bool:
    return node is not None and node.op_type in {"Conv", "ConvTranspose"}


def _quantised_first(node: Any, found: Followers, r: int) -> list[Any]:
    """ReLU and quantiser, which then ride in the convolution in front, and a shuffle of int8."""
    *relu, quantiser = found.nodes
    tensor, new = node.input[0], []
    for moved in (*relu, quantiser):
        copied = type(moved)()
        copied.CopyFrom(moved)
        copied.input[0], tensor = tensor, f"{moved.output[0]}/first"
        copied.output[0] = tensor
        new.append(copied)
    return [*new, _node(PIXEL_SHUFFLE, node, [tensor], found.output, r=r)]


def _tail(graph: Any, view: GraphView, node: Any, found: Followers, taken: float | None) -> list[Any]:
    """A shuffle with its followers, behind a Slice where they cut something off.

    Args:
        taken: step of the DequantizeLinear in front, which the node takes in; None where there is none.
    """
    from onnx import TensorProto, helper, numpy_helper

    before: Any = view.made.get(node.input[0])
    r, steps = attribute(node, "blocksize", 0), found.steps
    source = node.input[0] if taken is None else before.input[0]
    kind = view.type_of(node.input[0])
    values = np.zeros(1) if found.bias is None else np.repeat(found.bias, r * r)
    bias = f"{node.output[0]}/bias"
    # In fp32 alone: a sum without its bias that is rounded to 16 bits, and then again with it, is another sum.
    if found.bias is None and taken is None and kind == TensorProto.FLOAT and _has_own_bias(view, before):
        bias = before.input[2]
        del before.input[2:]
    else:
        stored = values.astype(helper.tensor_dtype_to_np_dtype(kind))
        graph.initializer.append(numpy_helper.from_array(stored, bias))
    tail = Tail(found.kind, steps.tanh, taken is not None)
    numbers = (r, steps.slope, steps.low, steps.high, taken or 1.0, steps.step, steps.rounding, steps.zero, steps.gain)
    told = {name: value if name == "r" else float(value) for name, value in zip(TAIL_ATTRIBUTES, numbers, strict=True)}
    cut = _cut_first(graph, node, source, found, r) if found.crop else []
    return [*cut, _node(tail.name, node, [cut[-1].output[0] if cut else source, bias], found.output, **told)]


def _cut_first(graph: Any, node: Any, source: str, found: Followers, r: int) -> list[Any]:
    """The Slice behind a shuffle by r as one in front of it; what it keeps are multiples of r."""
    from onnx import helper, numpy_helper

    name, (starts, ends, axes) = f"{node.output[0]}/cut", found.crop
    graph.initializer.append(numpy_helper.from_array(np.array([r]), f"{name}/by"))
    return [
        helper.make_node("Div", [ends, f"{name}/by"], [f"{name}/ends"], f"{name}/ends"),
        helper.make_node("Slice", [source, starts, f"{name}/ends", axes], [name], name),
    ]


def _has_own_bias(view: GraphView, node: Any) -> bool:
    """Whether it is a convolution with nobody else behind it and a stored bias of fp32."""
    from onnx import TensorProto

    if not _is_weighted(node) or len(node.input) < 3 or not view.is_read_once(node.output[0]):
        return False
    stored = view.stored.get(node.input[2])
    return stored is not None and stored.data_type == TensorProto.FLOAT


def _interleave(graph: Any, shuffle: Any, products: Collection[str], with_followers: bool) -> bool:
    """Concat → Gather of channels → DepthToSpace and its followers, as the exporter writes `interleave` of the pixel
    layers, as a node of ours; False, and nothing changed, where the graph has something else here."""
    view = GraphView(graph)
    gather = view.made.get(shuffle.input[0])
    concat = view.made.get(gather.input[0]) if gather is not None and gather.op_type == "Gather" else None
    if gather is None or concat is None or concat.op_type != "Concat" or len(concat.input) != _MAPS:
        return False
    order = view.constant(gather.input[1])
    if (
        order is None
        or order.size % _MAPS
        or not np.array_equal(order.ravel(), np.arange(order.size).reshape(_MAPS, -1).T.ravel())
        or (attribute(concat, "axis", 0), attribute(gather, "axis", 0)) != (1, 1)
        or attribute(shuffle, "blocksize", 0) != 2
        or not view.is_read_once(concat.output[0])
        or not view.is_read_once(gather.output[0])
    ):
        return False
    found = followers(view, shuffle.output[0], slope_only=True)
    if not with_followers:
        found = found.unquantised()
    maps, slope, gone = list(concat.input), {"slope": found.steps.slope}, [concat, gather, shuffle]
    if whole := _of_int8(view, shuffle, maps, found):
        found, new = whole
        _replace(graph, [*gone, *found.nodes], new)
        return True
    masked = masked_convolution(view, maps) if products else None
    if masked and masked.type not in products:
        masked = None
    if masked and masked.type == "INT8":
        found = found.unquantised()
        new = [_node(PIXEL_DCL_OF_INT8, shuffle, masked.inputs, found.output, **slope, **masked.steps)]
    else:
        step = {"step": found.steps.step} if found.kind == "int8" else {}
        names = (PIXEL_DCL, PIXEL_DCL_INT8) if masked else (PIXEL_INTERLEAVE, PIXEL_INTERLEAVE_INT8)
        inputs = masked.inputs if masked else maps
        new = [_node(names[bool(step)], shuffle, inputs, found.output, **slope, **step)]
    gone += masked.nodes if masked else []
    _replace(graph, [*gone, *found.nodes], new)
    return True


def _of_int8(view: GraphView, shuffle: Any, maps: list[str], found: Followers) -> tuple[Followers, list[Any]] | None:
    """The followers that are replaced and the nodes in their place, where all maps come from int8 of one step."""
    from onnx import helper

    before: list[Any] = [view.made.get(name) for name in maps]
    step = view.step(before[0], "DequantizeLinear")
    if step is None or not found.only_relu or any(view.step(n, "DequantizeLinear") != step for n in before):
        return None
    given = [node.input[0] for node in before]
    if found.kind == "int8" and found.steps.step == step:
        last, behind = found.output, []
    else:
        found = found.unquantised()
        last = f"{shuffle.output[0]}/int8"
        behind = [helper.make_node("DequantizeLinear", [last, *before[0].input[1:]], [found.output], f"{last}.dq")]
    node = _node(PIXEL_INTERLEAVE_OF_INT8, shuffle, given, last, slope=found.steps.slope, step=step)
    return found, [node, *behind]

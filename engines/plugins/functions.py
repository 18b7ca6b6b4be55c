"""Every plugin's function of standard ONNX operators, which stands in the same file as its nodes and runs without it.

Their steps are attributes and therefore constants inside; CastLike gives them the type of a tensor, since a function
serves graphs of every precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.plugins.names import (
    DCL_TAPS,
    NAMESPACE,
    PIXEL_DCL,
    PIXEL_DCL_INT8,
    PIXEL_DCL_OF_INT8,
    PIXEL_INTERLEAVE_INT8,
    PIXEL_INTERLEAVE_OF_INT8,
    PIXEL_SHUFFLE,
    TAIL_ATTRIBUTES,
    TAILS,
    Tail,
)


def function(name: str, opset: int) -> Any:
    """The onnx.FunctionProto of a plugin, in the operators of this opset."""
    from onnx import helper

    if name == PIXEL_SHUFFLE:
        inputs, nodes, attributes = ["X"], [_shuffle("X", "Y")], ["r"]
    elif name in TAILS:
        inputs, nodes, attributes = ["X", "B"], _tail(TAILS[name]), list(TAIL_ATTRIBUTES)
    else:
        inputs, nodes, attributes = _of_maps(name)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(NAMESPACE, name, inputs, ["Y"], nodes, opsets, attributes=attributes)


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, list(inputs), [output], **attributes)


def _referring(node: Any, name: str, attribute: str, kind: str) -> Any:
    """The node with an attribute that takes its value from one of the function's."""
    from onnx import AttributeProto

    added = node.attribute.add()
    added.name, added.ref_attr_name, added.type = name, attribute, AttributeProto.AttributeType.Value(kind)
    return node


def _shuffle(source: str, target: str) -> Any:
    return _referring(_node("DepthToSpace", [source], target, mode="CRD"), "blocksize", "r", "INT")


def _leaky(source: str, target: str) -> Any:
    return _referring(_node("LeakyRelu", [source], target), "alpha", "slope", "FLOAT")


def _constant(output: str, value: Any) -> Any:
    import numpy as np
    from onnx import numpy_helper

    return _node("Constant", [], output, value=numpy_helper.from_array(np.asarray(value)))


def _given(output: str, attribute: str, like: str) -> list[Any]:
    """A constant from an attribute, in the type of the tensor `like`."""
    plain = _referring(_node("Constant", [], f"{output}_"), "value_float", attribute, "FLOAT")
    return [plain, _node("CastLike", [f"{output}_", like], output)]


def _quantised(source: str, attribute: str, like: str) -> list[Any]:
    """`Y` of int8."""
    import numpy as np

    step = _given("given_step", attribute, like)
    return [*step, _constant("zero_out", np.int8(0)), _node("QuantizeLinear", [source, "given_step", "zero_out"], "Y")]


def _tail(tail: Tail) -> list[Any]:
    """X, B → Y, in B's type up to the output."""
    import numpy as np

    nodes = [_constant("sides", np.array([1, 2])), _node("Unsqueeze", ["B", "sides"], "beside")]
    source = "X"
    if tail.of_int8:
        nodes += [*_given("taken_step", "taken", "B"), _constant("zero_in", np.int8(0))]
        nodes.append(_node("DequantizeLinear", ["X", "taken_step", "zero_in"], "V"))
        source = "V"
    nodes += [_node("Add", [source, "beside"], "biased"), _shuffle("biased", "large")]
    nodes.append(_node("Tanh", ["large"], "active") if tail.tanh else _leaky("large", "active"))
    nodes += [*_given("least", "low", "B"), *_given("most", "high", "B")]
    nodes.append(_node("Clip", ["active", "least", "most"], "clipped"))
    if tail.output == "int8":
        return [*nodes, *_quantised("clipped", "given", "B")]
    if tail.output == "float":
        return [*nodes, _node("Identity", ["clipped"], "Y")]
    # UINT8 last: TensorRT takes it at a network's ends only.
    planes = "clipped"
    if tail.output == "picture":
        nodes += [_constant("first", np.array([0])), _node("Squeeze", ["clipped", "first"], "one")]
        planes = "one"
    return [
        *nodes,
        *(_constant(name, np.float32(value)) for name, value in {"black": 0, "white": 255}.items()),
        *(
            _referring(_node("Constant", [], f"its_{w}"), "value_float", w, "FLOAT")
            for w in ("zero", "gain", "rounding")
        ),
        _node("Cast", [planes], "single", to=1),
        _node("Sub", ["single", "its_zero"], "shifted"),
        _node("Mul", ["shifted", "its_gain"], "scaled"),
        _node("Clip", ["scaled", "black", "white"], "levels"),
        _node("Add", ["levels", "its_rounding"], "rounded"),
        _node("Transpose", ["rounded"], "last", perm=[1, 2, 0] if planes == "one" else [0, 2, 3, 1]),
        _node("Cast", ["last"], "Y", to=2),
    ]


def _of_maps(name: str) -> tuple[list[str], list[Any], list[str]]:
    """Inputs, nodes and attributes. The order DCR takes maps one after the other, so that nothing is gathered."""
    import numpy as np

    maps = ["A", "B", "C", "D"]
    if name == PIXEL_INTERLEAVE_OF_INT8:
        plain = _referring(_node("Constant", [], "step"), "value_float", "step", "FLOAT")
        nodes = [
            _node("Concat", maps, "M", axis=1),
            plain,
            _constant("zero", np.int8(0)),
            _node("DequantizeLinear", ["M", "step", "zero"], "V"),
            _node("DepthToSpace", ["V"], "Z", mode="DCR", blocksize=2),
            _leaky("Z", "active"),
            _node("QuantizeLinear", ["active", "step", "zero"], "Y"),
        ]
        return maps, nodes, ["slope", "step"]
    convolved = name in {PIXEL_DCL, PIXEL_DCL_INT8, PIXEL_DCL_OF_INT8}
    nodes = _masked("A", "B", "V", "W") if convolved else []
    inputs = ["A", "B", "V", "W"] if convolved else maps
    attributes = ["slope"]
    if name == PIXEL_DCL_OF_INT8:
        inputs, attributes = ["A", "B", "AQ", "BQ", "V", "W", "VS", "WS"], ["slope", "a_step", "b_step"]
        nodes = [_constant("none", np.int8(0))]
        for m in "AB":
            nodes += _given(f"{m}S", f"{m.lower()}_step", m)
            nodes.append(_node("DequantizeLinear", [f"{m}Q", f"{m}S", "none"], f"{m}F"))
        nodes += [_node("DequantizeLinear", [w, f"{w}S"], f"{w}F", axis=0) for w in "VW"]
        nodes += _masked("AF", "BF", "VF", "WF")
    quantised = name in {PIXEL_DCL_INT8, PIXEL_INTERLEAVE_INT8}
    nodes += [
        _node("Concat", ["A", "TR", "BL", "B"] if convolved else maps, "M", axis=1),
        _node("DepthToSpace", ["M"], "Z", mode="DCR", blocksize=2),
        _leaky("Z", "active" if quantised else "Y"),
    ]
    if quantised:
        nodes += _quantised("active", "step", "A")
        attributes.append("step")
    return inputs, nodes, attributes


def _masked(a: str, b: str, row: str, column: str) -> list[Any]:
    """TR and BL of two maps and the weights of a row and a column."""
    zeros = (zeros for pair in DCL_TAPS for zeros in pair)
    terms = zip("PQRS", (a, b, a, b), (row, column, column, row), zeros, strict=True)
    convs = [_node("Conv", [source, taps], name, pads=zeros) for name, source, taps, zeros in terms]
    return [*convs, _node("Add", ["P", "Q"], "TR"), _node("Add", ["R", "S"], "BL")]

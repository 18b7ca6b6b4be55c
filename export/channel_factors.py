"""Channels of a tensor divided by factors of their own, and what reads them made up for, so that a graph computes the
same: where normalisation with the picture's own statistics stands between convolutions and cannot be folded.

Only tensors without a picture's height and width are multiplied anew, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_MEANS = ("ReduceMean", "ReduceSum", "GlobalAveragePool")


@dataclass(frozen=True)
class Affine:
    """`x * scale + shift` with a value per channel, which may be computed from the picture."""

    small: tuple[tuple[str, str], ...]
    """Name of the node that reads it, and of the tensor: `scale` and `shift`, 1 high and wide."""
    inner: str
    """What stands between the two nodes."""
    out: str


def affine_at(add: Any, made: Mapping[str, Any], flat: Collection[str]) -> Affine | None:
    """The node, an Add, and the product in front of it, where one operand of each has a value per channel.

    Args:
        made: tensor → the node that makes it.
        flat: tensors without height and width (`flat_tensors`).
    """
    for inner, shift in (add.input, reversed(add.input)):
        mul = made.get(inner)
        if shift not in flat or mul is None or mul.op_type != "Mul":
            continue
        for x, scale in (mul.input, reversed(mul.input)):
            if scale in flat and x not in flat:
                return Affine(((mul.name, scale), (add.name, shift)), inner, add.output[0])
    return None


def flat_tensors(model: Any) -> set[str]:
    """Tensors of four axes that are 1 high and wide whatever the picture's size; scalars too."""
    from export.work import without_weights

    inferred = without_weights(model, None).graph
    shapes = {t.name: [d or None for d in t.dims] for t in inferred.initializer}
    for value in (*inferred.value_info, *inferred.input):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            shapes[value.name] = [d.dim_value or None for d in kind.shape.dim]
    return {name for name, shape in shapes.items() if not shape or (len(shape) == 4 and shape[2:] == [1, 1])}


def divide(graph: Any, affine: Affine, factor: np.ndarray) -> None:
    """Divides channel c of `scale` and `shift` by the factor's."""
    for reader, tensor in affine.small:
        _multiply(graph, _node(graph, reader), tensor, 1 / factor)


def make_up(model: Any, tensor: str, factor: np.ndarray, flat: Collection[str]) -> bool:
    """Has all that reads a tensor, whose channels were divided by the factor, compute what it did; False, and nothing
    changed, where something reads it that this cannot be done for.

    What can be: means and sums over height and width, products with themselves and with flat tensors, differences from
    those. That is mean and variance, however they are spelled, and the normalisation itself.
    """
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    ends = {value.name for value in graph.output}
    power = {tensor: -1}
    """Tensor → the power of the factor that its channels have too much."""
    changes: list[tuple[Any, str, int]] = []
    """Node, tensor, and the power of the factor that it is multiplied by: where the node reads it, or makes it."""
    for node in graph.node:
        read = {name: power[name] for name in node.input if name in power}
        if not read:
            continue
        if ends & set(read):
            return False
        out = node.output[0]
        if node.op_type in _MEANS and _keeps_channels(node, constants):
            changes.append((node, out, -power[node.input[0]]))
        elif node.op_type == "Mul" and all(name in read for name in node.input):
            power[out] = sum(power[name] for name in node.input)
        elif node.op_type == "Mul" and _other(node, read) in flat:
            changes.append((node, _other(node, read), -next(iter(read.values()))))
        elif node.op_type in {"Sub", "Add"} and len(read) == 1 and _other(node, read) in flat:
            power[out] = next(iter(read.values()))
            changes.append((node, _other(node, read), power[out]))
        else:
            return False
    if ends & set(power):
        return False
    for node, name, exponent in changes:
        _multiply(graph, node, name, factor.astype(np.float64) ** exponent)
    return True


def _other(node: Any, read: Collection[str]) -> str:
    return str(next(name for name in node.input if name not in read))


def _keeps_channels(node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether the node keeps all four axes and reduces height and width alone."""
    from onnx import helper, numpy_helper

    if node.op_type == "GlobalAveragePool":
        return True

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axes = attributes.get("axes")
    if len(node.input) > 1 and node.input[1] in constants:
        axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
    return axes is not None and len(axes) > 0 and set(axes) <= {2, 3, -1, -2} and attributes.get("keepdims", 1) == 1


def _multiply(graph: Any, node: Any, tensor: str, value: np.ndarray) -> None:
    """Multiplies channels of a tensor where the node reads it, or behind the node that makes it."""
    from onnx import helper, numpy_helper

    made = f"{tensor}/{node.name}/factors"
    constant = f"{made}.value"
    graph.initializer.append(numpy_helper.from_array(value.astype(np.float32).reshape(1, -1, 1, 1), constant))
    at = next(i for i, other in enumerate(graph.node) if other.name == node.name)
    if tensor in node.output:
        own = f"{made}.before"
        node.output[list(node.output).index(tensor)] = own
        graph.node.insert(at + 1, helper.make_node("Mul", [own, constant], [tensor], name=made))
        return
    node.input[list(node.input).index(tensor)] = made
    graph.node.insert(at, helper.make_node("Mul", [tensor, constant], [made], name=made))


def _node(graph: Any, name: str) -> Any:
    return next(node for node in graph.node if node.name == name)

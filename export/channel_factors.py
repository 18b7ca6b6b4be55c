"""Channels of a tensor divided by factors of their own, and what reads them made up for, so that a graph computes the
same: where normalisation with the picture's own statistics stands between convolutions and cannot be folded.

Nothing of a picture's height and width is multiplied anew, so that no pass over the planes is added: factors go into
constants, and into tensors of one value per channel, or per channel and row where a mean is taken in two steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.typed_graph import bodies_of, captured

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
        for scale in mul.input:
            if scale in flat:
                return Affine(((mul.name, scale), (add.name, shift)), inner, add.output[0])
    return None


def flat_tensors(model: Any) -> set[str]:
    """Tensors that are 1 high and wide whatever the picture's size, such as (1, C, 1, 1) and (C, 1, 1); scalars too."""
    from export.work import without_weights

    inferred = without_weights(model, None).graph
    shapes = {t.name: [d or None for d in t.dims] for t in inferred.initializer}
    for value in (*inferred.value_info, *inferred.input):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            shapes[value.name] = [d.dim_value or None for d in kind.shape.dim]
    return {name for name, shape in shapes.items() if not shape or (len(shape) in {3, 4} and shape[-2:] == [1, 1])}


def divide(graph: Any, affine: Affine, factor: np.ndarray) -> None:
    """Divides channel c of `scale` and `shift` by the factor's."""
    for reader, tensor in affine.small:
        _multiply(graph, _node(graph, reader), tensor, 1 / factor)


def make_up(model: Any, tensor: str, factor: np.ndarray, flat: Collection[str]) -> bool:
    """Has all that reads a tensor, whose channels were divided by the factor, compute what it did; False, and nothing
    changed, where something reads it that this cannot be done for.

    What can be: means and sums over height and width; sums, differences and products of tensors that were divided
    alike; products, quotients, sums and differences with flat tensors; whole powers. That is mean, variance and what
    normalises by them, and squeeze-and-excitation; not InstanceNormalization, which divides by itself.

    Args:
        tensor: of four axes.
    """
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    power = {tensor: -1}
    """Tensor → the power of the factor that its channels have too much."""
    changes: list[tuple[Any, str, int]] = []
    """Node, tensor, and the power of the factor that it is multiplied by: where the node reads it, or makes it."""
    for node in graph.node:
        if any(power.keys() & captured(body) for body in bodies_of(node)):
            return False
        if not power.keys() & set(node.input):
            continue
        found = _passed_on(node, power, flat, constants)
        if found is None:
            return False
        own, small, exponent = found
        if own:
            power[node.output[0]] = own
        if small:
            changes.append((node, small, exponent))
    if power.keys() & {value.name for value in graph.output}:
        return False
    for node, name, exponent in changes:
        _multiply(graph, node, name, factor.astype(np.float64) ** exponent)
    return True


def _passed_on(
    node: Any, power: Mapping[str, int], flat: Collection[str], constants: Mapping[str, Any]
) -> tuple[int, str, int] | None:
    """What becomes of powers of the factor in what a node reads: the power in what it makes, or 0, and a tensor with
    the power that it has to be multiplied by, or none; None: something else would be computed."""
    read = [power[name] for name in node.input if name in power]
    others = [name for name in node.input if name not in power]
    kind, first = node.op_type, read[0]
    if kind in _MEANS:
        return (0, node.output[0], -first) if _keeps_channels(node, constants) else None
    if not others:
        alike = first if len(set(read)) == 1 else 0
        made = {"Mul": sum(read), "Add": alike, "Sub": alike}.get(kind, 0)
        return (made, "", 0) if made else None
    if kind == "Pow":
        exponent = _whole(constants.get(others[0])) if others == [node.input[1]] else None
        return (exponent * first, "", 0) if exponent else None
    if len(others) != 1 or others[0] not in flat or (kind == "Div" and others == [node.input[0]]):
        return None
    ways = {"Mul": (0, -first), "Div": (0, first), "Add": (first, first), "Sub": (first, first)}
    return (ways[kind][0], others[0], ways[kind][1]) if kind in ways else None


def _whole(constant: Any) -> int | None:
    """The value of a scalar constant that is a whole number above 0."""
    from onnx import numpy_helper

    if constant is None or (value := numpy_helper.to_array(constant)).size != 1:
        return None
    return int(value.item()) if value.item() == int(value.item()) > 0 else None


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
    factors = value.astype(np.float32).reshape(1, -1, 1, 1)
    known = next((i for i in graph.initializer if i.name == tensor), None)
    if known is not None:  # a product of constants would be lowered to half as it stands, and may not fit
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(known) * factors, made))
        node.input[list(node.input).index(tensor)] = made
        return
    graph.initializer.append(numpy_helper.from_array(factors, constant))
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

"""How much memory a graph's activations take at once: tensors by the time between who makes and who last reads them.

Input: an ONNX graph and the size of its input. Output: bytes. Order is the file's; what engines fuse is not stored:
an activation function writes over its input, integer arithmetic between DequantizeLinear and QuantizeLinear stays
integer. What a particular library adds is for bench/memory_plan.py to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from export.work import without_weights

_IN_PLACE = frozenset(
    (
        *("Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Elu", "HardSwish", "HardSigmoid", "Gelu", "Identity"),
        *("Dropout", "BatchNormalization", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"),
    )
)
"""They may write over what they read; of Reshape and its like nothing is written at all."""
_ADDING = {"Add", "Sub", "Mul", "Div", "Sum"}
"""They may write over an operand of their result's size."""
_BLOCKED = {"Conv", "FusedConv", "MaxPool", "AveragePool"}


@dataclass(frozen=True)
class Live:
    """Of one inference, in bytes."""

    peak: int
    """Activations between the graph's input and output, at the worst moment."""
    weights: int


def live_tensors(model: Any, input_shape: tuple[int, ...], block: int = 1) -> Live:
    """
    Args:
        model: onnx.ModelProto, unchanged.
        block: channels are stored in multiples of this behind convolutions, as in blocked layouts.

    Raises:
        ValueError: the size of a tensor cannot be inferred.
    """
    inferred = without_weights(model, input_shape)
    sizes = _sizes(inferred, block)
    graph = inferred.graph
    fixed = {i.name for i in graph.initializer}
    last = _last_reads(graph)
    ends = {graph.input[0].name, *(value.name for value in graph.output)}
    held: dict[str, str] = {}
    """Tensor → the tensor whose memory it lies in."""
    users: dict[str, int] = {}
    """Memory → number of the last node that reads it."""
    now = peak = 0
    for number, node in enumerate(graph.node):
        if all(name in fixed for name in node.input if name):
            fixed |= set(node.output)
            continue
        for out in node.output:
            if not out or out in ends:
                continue
            if out not in sizes:
                raise ValueError(f"node {node.name!r} ({node.op_type}): the size of {out} is not known")
            home = _home(node, number, held, users, sizes)
            held[out] = home or out
            users[held[out]] = max(users.get(held[out], 0), last.get(out, number))
            now += 0 if home else sizes[out]
        peak = max(peak, now)
        for memory in [m for m, reader in users.items() if reader <= number]:
            now -= sizes[memory]
            del users[memory]
    from onnx import helper

    weights = sum(prod(i.dims) * helper.tensor_dtype_to_np_dtype(i.data_type).itemsize for i in model.graph.initializer)
    return Live(peak, weights)


def _home(node: Any, number: int, held: dict[str, str], users: dict[str, int], sizes: dict[str, int]) -> str | None:
    """The memory that a node's output takes over; None where it needs its own."""
    if node.op_type not in _IN_PLACE | _ADDING | {"DequantizeLinear"}:
        return None
    for name in node.input[: len(node.input) if node.op_type in _ADDING else 1]:
        memory = held.get(name)
        if memory is None or memory not in users:
            continue
        if node.op_type == "DequantizeLinear" or (users[memory] <= number and sizes[memory] >= sizes[node.output[0]]):
            return memory
    return None


def _last_reads(graph: Any) -> dict[str, int]:
    return {name: number for number, node in enumerate(graph.node) for name in node.input}


def _sizes(inferred: Any, block: int) -> dict[str, int]:
    """Tensor → bytes; of what only a QuantizeLinear reads, those of what comes out of it."""
    from onnx import helper

    graph = inferred.graph
    made = {out: node for node in graph.node for out in node.output}
    found = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
        if None in dims or not tensor.elem_type:
            continue
        shape = [int(d or 0) for d in dims]
        if len(shape) == 4 and value.name in made and made[value.name].op_type in _BLOCKED:
            shape[1] = -(-shape[1] // block) * block
        found[value.name] = prod(shape) * helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for name, nodes in readers.items():
        if name in found and len(nodes) == 1 and nodes[0].op_type == "QuantizeLinear":
            found[name] = min(found[name], found.get(nodes[0].output[0], found[name]))
    return found

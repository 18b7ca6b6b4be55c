"""Questions about an ONNX graph that is being changed: who makes a tensor, who reads it, what is constant in it.

A view tells the state at the time it was made; nothing is changed here.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

ONNX = {"", "ai.onnx"}
_IMAGE_RANK = 4
_POINTWISE = {"Relu", "LeakyRelu", "PRelu", "Clip", "Tanh", "Cast", "Identity", "QuantizeLinear", "DequantizeLinear"}
"""Their output has the shape of their first input."""
_BESIDE = {"Conv": 1, "ConvTranspose": 1, "DequantizeLinear": 1, "Where": 1}
"""Input that has the output's type, where it is not the first; a weight's is found in fewer steps."""


def attribute(node: Any, name: str, default: Any) -> Any:
    """Value of a node's attribute."""
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


class GraphView:
    """Of an onnx.GraphProto."""

    def __init__(self, graph: Any) -> None:
        self.made: dict[str, Any] = {name: node for node in graph.node for name in node.output}
        self.stored: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self._ends = {value.name for value in graph.output}
        self._sizes = {v.name: v.type.tensor_type.shape.dim for v in (*graph.input, *graph.output, *graph.value_info)}
        self._types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)

    def is_read_once(self, name: str) -> bool:
        """By one input of one node, and it is no output of the graph."""
        return name not in self._ends and len(self._readers[name]) == 1

    def only_reader(self, name: str) -> Any | None:
        """The node that alone reads this tensor, an operator of ONNX's; None where there is no such one."""
        if not self.is_read_once(name) or self._readers[name][0].domain not in ONNX:
            return None
        return self._readers[name][0]

    def constant(self, name: str) -> Any | None:
        """Its value, a NumPy array; None where it is computed."""
        from onnx import numpy_helper

        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self.made.get(name)
        value = attribute(node, "value", None) if node is not None and node.op_type == "Constant" else None
        return None if value is None else numpy_helper.to_array(value)

    def number(self, name: str) -> float | None:
        """The constant where all its elements are one number."""
        value = self.constant(name) if name else None
        if value is None or not value.size or not np.all(value == value.flat[0]):
            return None
        return float(value.flat[0])

    def type_of(self, name: str) -> int:
        """ONNX's number of a tensor's type, found by following who makes it; 0 where that leads nowhere."""
        while name in self.made:
            node = self.made[name]
            if node.op_type == "Cast":
                return int(attribute(node, "to", 0))
            if node.op_type == "Constant":
                return int(attribute(node, "value", None).data_type)
            if self._types.get(name):
                return int(self._types[name])
            if not node.input:
                return 0
            name = node.input[_BESIDE.get(node.op_type, 0)]
        return int(self.stored[name].data_type) if name in self.stored else int(self._types.get(name, 0))

    def channels(self, name: str) -> int:
        """Of an image (N, C, H, W), by its stored shape or the weights that make it; 0 where neither says."""
        while True:
            if len(sizes := self._sizes.get(name, ())) == _IMAGE_RANK and sizes[1].dim_value > 0:
                return int(sizes[1].dim_value)
            node = self.made.get(name)
            if node is None or node.domain not in ONNX:
                return 0
            if node.op_type in {"Conv", "ConvTranspose"}:
                shape = self._stored_shape(node.input[1])
                if node.op_type == "Conv":
                    return shape[0] if shape else 0
                return shape[1] * int(attribute(node, "group", 1)) if shape else 0
            if node.op_type not in _POINTWISE:
                return 0
            name = node.input[0]

    def _stored_shape(self, name: str) -> tuple[int, ...]:
        """Of a constant, be it quantised; empty where it is computed otherwise."""
        while name in self.made and self.made[name].op_type in _POINTWISE:
            name = self.made[name].input[0]
        value = self.constant(name)
        return () if value is None else tuple(value.shape)

    def step(self, node: Any | None, operator: str) -> float | None:
        """Of a QuantizeLinear or DequantizeLinear (`operator`) with one step around 0 in int8; None for others."""
        if node is None or node.op_type != operator or node.domain not in ONNX or len(node.input) < 3:
            return None
        zero, step = self.constant(node.input[2]), self.constant(node.input[1])
        if zero is None or step is None or zero.dtype != np.int8 or zero.any() or step.size != 1:
            return None
        return float(step.flat[0])

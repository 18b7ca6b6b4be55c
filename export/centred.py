"""FP32 graph → an FP32 graph that computes the same and reads its picture around 0.

TensorRT takes int8 around 0 alone. A picture in [0, 1] has then 128 levels of its 256: VDSR lost 6 dB by it. Around
128/255 it has all of them, and an 8-bit picture stays as it is.

Not done between layers, where a ReLU leaves half of the range empty too: zero padding would have to become padding with
a constant, which the convolution has no place for, and a node that pads planes of 64 channels reads and writes them all
once more. Here it pads the picture's few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LEVELS = 255
_MIDDLE = 128 / LEVELS


def centred(model: Any, inputs: Sequence[np.ndarray]) -> tuple[Any, dict[str, float]]:
    """A copy whose convolutions of the input read `x - 128/255` instead, padded with what is 0 there, and have a bias
    that makes up for it; and the step of int8 for each of the new tensors. Nothing is done (the model itself, no steps)
    where no such convolution has constant weights and stated padding, or the input leaves [0, 1].

    Args:
        model: onnx.ModelProto, folded, its nodes named.
        inputs: (1, C, H, W) float32 calibration pictures.
    """
    import onnx

    if not inputs or min(x.min() for x in inputs) < 0 or max(x.max() for x in inputs) > 1:
        return model, {}
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    writer = _Writer(copied)
    for node in [node for node in model.graph.node if writer.can_be_centred(node)]:
        writer.centre(next(n for n in copied.graph.node if n.name == node.name))
    if not writer.steps:
        return model, {}
    nodes = [*writer.nodes, *copied.graph.node]
    del copied.graph.node[:], copied.graph.value_info[:]
    copied.graph.node.extend(nodes)
    return copied, writer.steps


class _Writer:
    def __init__(self, model: Any) -> None:
        graph = model.graph
        self.nodes: list[Any] = []
        self.steps: dict[str, float] = {}
        self._graph = graph
        self._input = graph.input[0].name
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)} | set(self._constants)
        self._shifted: dict[tuple[int, ...], str] = {}

    def can_be_centred(self, node: Any) -> bool:
        if node.op_type != "Conv" or node.input[0] != self._input or node.input[1] not in self._constants:
            return False
        bias = node.input[2] if len(node.input) > 2 else ""
        automatic = next((a.s for a in node.attribute if a.name == "auto_pad"), b"NOTSET")
        return (not bias or bias in self._constants) and automatic in {b"NOTSET", b"VALID"}

    def centre(self, node: Any) -> None:
        from onnx import numpy_helper

        weight = numpy_helper.to_array(self._constants[node.input[1]]).astype(np.float64)
        bias = weight.sum(axis=tuple(range(1, weight.ndim))) * _MIDDLE
        if len(node.input) > 2 and node.input[2]:
            bias = bias + numpy_helper.to_array(self._constants[node.input[2]])
        inputs = [self._padded(self._pads(node)), node.input[1], self._stored(f"{node.name}.bias", bias)]
        del node.input[:]
        node.input.extend(inputs)

    def _pads(self, node: Any) -> tuple[int, ...]:
        """Of the node, which gives them up."""
        found = (0, 0, 0, 0)
        for attribute in list(node.attribute):
            if attribute.name == "pads":
                found = tuple(attribute.ints)
                node.attribute.remove(attribute)
        return found

    def _padded(self, pads: tuple[int, ...]) -> str:
        """The tensor that a convolution with this padding reads."""
        from onnx import helper

        if pads in self._shifted:
            return self._shifted[pads]
        name = self._fresh("centred")
        if any(pads):
            ends = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
            given = [self._padded((0, 0, 0, 0)), self._stored("pads", ends), self._stored("zero", -_MIDDLE)]
            self.nodes.append(helper.make_node("Pad", given, [name], name=name))
        else:
            given = [self._input, self._stored("middle", _MIDDLE)]
            self.nodes.append(helper.make_node("Sub", given, [name], name=name))
        self._shifted[pads] = name
        self.steps[name] = 1 / LEVELS
        return name

    def _stored(self, title: str, value: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = self._fresh(title if "." in title else f"centred.{title}")
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

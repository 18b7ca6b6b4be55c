"""Where Q/DQ pairs stand in a graph. FP32 graph + ranges → the same graph with quantised convolutions and products.

Own code, since ONNX Runtime's quantizer wires every reader of a tensor to its DQ, global skips too, quantises a
convolution's output before its activation or nowhere, and takes no weights that were rounded before. What it gets
right it is tested against.

Two placements, and which one an engine wants decides whether it computes in integers at all:
- `inputs`: what goes into weighted nodes, and the weights. Activations, biases and additions stay in float and ride in
  the kernel's epilogue. TensorRT and OpenVINO want it; ONNX Runtime's CPU provider falls back to float here.
- `integer`: also what comes out, biases in int32, and pointwise nodes between two quantised tensors. ONNX Runtime's CPU
  provider has kernels for whole groups DQ → node → Q alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from export.kept_float import kept_from_rounding
from export.ranges import SHIFTED, SYMMETRIC, Levels
from export.recipe import WEIGHTED

LARGEST_BIAS = 2**31 - 128
Placement = Literal["inputs", "integer"]
_KINDS = {"int8": "INT8", "fp8": "FLOAT8E4M3FN"}
_FUSED = ("Relu", "Clip")
"""ONNX Runtime merges these into the Q that follows them."""
_INTEGER = ("LeakyRelu", "Add", "Concat", "Sigmoid", "MaxPool", "DepthToSpace", "Transpose", "Reshape")
"""Nodes between two quantised tensors that ONNX Runtime's CPU provider computes in integers, or only moves."""
_MOVING = ("MaxPool", "DepthToSpace", "Transpose", "Reshape")
"""They leave values as they are, and so scales too."""
_POINTWISE = ("Relu", "Clip", "Sigmoid", "Tanh", "Identity", "Cast", "DepthToSpace")


@dataclass(frozen=True)
class Scheme:
    """How a graph is quantised; stands in every run."""

    placement: Placement = "inputs"
    shifted: bool = False
    """Whether activations are uint8 with a zero point; TensorRT takes int8 around 0 alone."""
    number: Literal["int8", "fp8"] = "int8"

    @property
    def levels(self) -> Levels:
        return SHIFTED if self.shifted else SYMMETRIC

    @property
    def words(self) -> str:
        activations = "fp8 e4m3" if self.number == "fp8" else "uint8 with zero points" if self.shifted else "int8"
        return f"Q/DQ on {'inputs' if self.placement == 'inputs' else 'inputs and outputs'}, activations {activations}"


@dataclass(frozen=True)
class Layer:
    """A weighted node that can be quantised."""

    name: str
    """Its weight's name, without a `.weight` at its end; a second reader of the same weight is `NAME/2`."""
    node: str
    operator: str
    data: str
    """Tensor that goes in."""
    weight: str
    bias: str | None
    out: str
    """Tensor that comes out, of the ReLU behind it where placement `integer` merges the two."""
    axis: int | None
    """Of the weight, along which scales differ; None: one scale, also where its readers disagree about the axis."""


def named_nodes(model: Any) -> Any:
    """The same model, in place, with a name for every node."""
    taken = {node.name for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{number}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
    return model


def layers(model: Any, scheme: Scheme) -> list[Layer]:
    """The weighted nodes of a folded FP32 graph that this scheme can quantise, in the graph's order.

    Left out: nodes whose weight is computed, and under `integer` those that ONNX Runtime has no integer kernel for or
    whose bias is computed.
    """
    constants = {i.name: i for i in model.graph.initializer}
    readers = _readers(model)
    ends = {value.name for value in model.graph.output}
    found = []
    for node in model.graph.node:
        if node.op_type not in WEIGHTED or node.input[1] not in constants or node.input[0] in constants:
            continue
        if scheme.placement == "integer" and node.op_type in {"ConvTranspose", "Gemm"}:
            continue
        weight = constants[node.input[1]]
        out = _merged(node, readers, ends) if scheme.placement == "integer" else node.output[0]
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        if scheme.placement == "integer" and bias and bias not in constants:
            continue
        found.append(Layer("", node.name, node.op_type, node.input[0], weight.name, bias, out, _axis(node, weight)))
    return _told_apart(found)


def _told_apart(found: Sequence[Layer]) -> list[Layer]:
    """The layers with names of their own, and with one scale where readers of one weight have no axis in common."""
    axes: dict[str, set[int | None]] = {}
    for layer in found:
        axes.setdefault(layer.weight, set()).add(layer.axis)
    named: dict[str, Layer] = {}
    for layer in found:
        title, number = layer.weight.removesuffix(".weight"), 1
        name = title
        while name in named:
            number += 1
            name = f"{title}/{number}"
        axis = layer.axis if len(axes[layer.weight]) == 1 else None
        named[name] = replace(layer, name=name, axis=axis)
    return list(named.values())


def tensors(model: Any, scheme: Scheme, chosen: Collection[Layer]) -> list[str]:
    """Activations that get a Q/DQ pair, in the graph's order: their ranges are what calibration has to find."""
    pointed = {layer.data for layer in chosen}
    if scheme.placement == "integer":
        pointed |= {layer.out for layer in chosen}
        inputs, ends = {value.name for value in model.graph.input}, set(_leading_to_end(model))
        readers = _readers(model)
        for node in model.graph.node:
            through = set(_data(node))
            if node.op_type in _INTEGER and through <= pointed - inputs and node.output[0] not in ends:
                pointed.add(_merged(node, readers, ends) if node.op_type == "Add" else node.output[0])
    order = [value.name for value in model.graph.input] + [o for node in model.graph.node for o in node.output]
    return [name for name in order if name in pointed]


def scale_sources(model: Any, names: Collection[str]) -> dict[str, str]:
    """Tensor → the tensor whose scale it shares, itself in most cases: nodes that only move values keep it."""
    source = {name: name for name in names}
    for node in model.graph.node:
        if node.op_type in _MOVING and node.output[0] in source and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
    return source


def with_qdq(
    model: Any,
    scheme: Scheme,
    chosen: Collection[Layer],
    activations: Mapping[str, tuple[float, int]],
    weights: Mapping[str, np.ndarray],
) -> Any:
    """A copy of the graph with Q/DQ pairs, weights still float in front of theirs.

    Args:
        chosen: the layers to quantise.
        activations: scale and zero point of every tensor of `tensors(model, scheme, chosen)`; of those that share one
            (`scale_sources`), the source's are taken for all.
        weights: scales of every chosen layer's weight, (channels,) along its axis or ().
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    writer = _Writer(copied, scheme)
    sources = scale_sources(model, activations)
    for name in activations:
        writer.activation(name, sources[name], *activations[sources[name]])
    by_node = {layer.node: layer for layer in chosen}
    inputs = {value.name for value in model.graph.input}
    residual = _residual_adds(model, chosen, activations) if scheme.placement == "inputs" else {}
    for node in list(copied.graph.node):
        if layer := by_node.get(node.name):
            node.input[0] = writer.dq(layer.data)
            node.input[1] = writer.weight(layer, weights[layer.weight])
            if scheme.placement == "integer" and layer.bias:
                steps = np.float32(activations[sources[layer.data]][0]) * np.float32(weights[layer.weight])
                node.input[2] = writer.bias(layer, steps)
        elif node.name in residual:
            place = residual[node.name]
            node.input[place] = writer.dq(node.input[place])
        elif scheme.placement == "integer":
            _read_quantised(node, writer, activations, inputs)
    if scheme.placement == "integer":
        writer.end_quantised(activations)
    writer.finish()
    return kept_from_rounding(copied) if scheme.placement == "integer" else copied


def folded_weights(model: Any) -> Any:
    """The same graph, in place, with quantised weights stored as int8 in place of a float and its Q."""
    from onnx import numpy_helper

    constants = {i.name: i for i in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type != "QuantizeLinear" or node.input[0] not in constants:
            continue
        weight, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
        if zero.dtype != np.int8:
            continue  # float8 weights: the builders want to see the float and its Q
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        if scale.ndim and axis is not None:
            scale = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        stored = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        name = node.input[0]
        if sum(name in reader.input for reader in model.graph.node) > 1:  # somebody reads it as a float too
            name = node.output[0]
            model.graph.initializer.append(numpy_helper.from_array(stored, name))
        else:
            constants[name].CopyFrom(numpy_helper.from_array(stored, name))
        for reader in model.graph.node:
            reader.input[:] = [name if i == node.output[0] else i for i in reader.input]
        model.graph.node.remove(node)
    return model


class _Writer:
    """Puts pairs into a model; each tensor's Q stands behind the node that makes it."""

    def __init__(self, model: Any, scheme: Scheme) -> None:
        self.model = model
        self.scheme = scheme
        self._behind: dict[str, list[Any]] = {}
        """Tensor → nodes to insert once it is there; weights' under the empty name."""
        self._pairs: dict[str, str] = {}
        self._stored: dict[str, tuple[str, str]] = {}
        graph = model.graph
        self._taken = {value.name for value in (*graph.input, *graph.initializer, *graph.node)}
        self._taken |= {output for node in graph.node for output in node.output}

    def activation(self, name: str, source: str, scale: float, zero: int) -> None:
        kind = "UINT8" if self.scheme.number == "int8" and self.scheme.shifted else _KINDS[self.scheme.number]
        self._pairs[name] = self._pair(name, name, self._numbers(source, kind, np.float32(scale), zero), None)

    def dq(self, name: str) -> str:
        return self._pairs[name]

    def weight(self, layer: Layer, scales: np.ndarray) -> str:
        if layer.weight not in self._pairs:
            numbers = self._numbers(layer.weight, _KINDS[self.scheme.number], np.float32(scales), 0)
            self._pairs[layer.weight] = self._pair(layer.weight, "", numbers, layer.axis if scales.ndim else None)
        return self._pairs[layer.weight]

    def bias(self, layer: Layer, scales: Any) -> str:
        """int32 in steps of input times weight, as the accumulator has them. Stored at once: Q gives no int32. A bias
        that is beyond int32 in such steps stays float: the layer then computes in float, but right."""
        from onnx import helper, numpy_helper

        assert layer.bias
        value = numpy_helper.to_array(next(i for i in self.model.graph.initializer if i.name == layer.bias))
        steps = np.broadcast_to(scales, value.shape).astype(np.float32)
        if np.abs(value / steps).max(initial=0) > LARGEST_BIAS:
            return layer.bias
        stored = np.rint(value / steps).astype(np.int32)
        names = [self._fresh(f"{layer.node}.bias.{word}") for word in ("int32", "scale", "zero", "dq")]
        for name, array in zip(names, (stored, steps, np.zeros(value.shape, np.int32)), strict=False):
            self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        node = helper.make_node("DequantizeLinear", names[:3], names[3:], name=names[3], axis=0)
        self._behind.setdefault("", []).append(node)
        return names[3]

    def end_quantised(self, activations: Mapping[str, Any]) -> None:
        """Graph outputs that have a pair are read behind it: the node in front then ends in a Q, as groups must."""
        for value in self.model.graph.output:
            if value.name in activations:
                inner = self._fresh(f"{value.name}.float")
                maker = next(n for n in self.model.graph.node if value.name in n.output)
                maker.output[:] = [inner if o == value.name else o for o in maker.output]
                for node in self._behind.pop(value.name):
                    node.input[:] = [inner if name == value.name else name for name in node.input]
                    node.output[:] = [value.name if o == self._pairs[value.name] else o for o in node.output]
                    self._behind.setdefault(inner, []).append(node)
                for node in self.model.graph.node:
                    node.input[:] = [value.name if i == self._pairs[value.name] else i for i in node.input]

    def finish(self) -> None:
        nodes = list(self.model.graph.node)
        ordered = [*self._behind.pop("", [])]
        for value in self.model.graph.input:
            ordered += self._behind.pop(value.name, [])
        for node in nodes:
            ordered.append(node)
            for name in node.output:
                ordered += self._behind.pop(name, [])
        del self.model.graph.node[:], self.model.graph.value_info[:]
        self.model.graph.node.extend(ordered)

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _numbers(self, source: str, kind: str, scale: Any, zero: int) -> tuple[str, str]:
        """Names of the stored scale and zero point of a tensor, for all pairs that share them."""
        from onnx import TensorProto, helper, numpy_helper

        if source not in self._stored:
            names = self._fresh(f"{source}.scale"), self._fresh(f"{source}.zero")
            zeros = np.full(scale.shape, zero, np.float32).reshape(-1)
            self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), names[0]))
            self.model.graph.initializer.append(
                helper.make_tensor(names[1], getattr(TensorProto, kind), scale.shape, zeros)
            )
            self._stored[source] = names
        return self._stored[source]

    def _pair(self, name: str, behind: str, numbers: tuple[str, str], axis: int | None) -> str:
        from onnx import helper

        q, dq = self._fresh(f"{name}.q"), self._fresh(f"{name}.dq")
        more: dict[str, Any] = {} if axis is None else {"axis": axis}
        self._behind.setdefault(behind, []).extend(
            [
                helper.make_node("QuantizeLinear", [name, *numbers], [q], name=q, **more),
                helper.make_node("DequantizeLinear", [q, *numbers], [dq], name=dq, **more),
            ]
        )
        return dq


def _axis(node: Any, weight: Any) -> int | None:
    """Output channels of a weight. None for deconvolutions: builders of TensorRT are said to refuse several scales
    there, and accuracy was equal."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return len(weight.dims) - 1 if node.op_type == "MatMul" and len(weight.dims) > 1 else None


def _merged(node: Any, readers: Mapping[str, list[Any]], ends: Collection[str]) -> str:
    """What a node makes, or the ReLU that ONNX Runtime merges into it."""
    out = str(node.output[0])
    behind = readers.get(out, [])
    alone = len(behind) == 1 and behind[0].op_type in _FUSED and out not in ends
    return str(behind[0].output[0]) if alone else out


def _readers(model: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _data(node: Any) -> list[str]:
    """Tensors that flow through a node; shapes and constants do not."""
    return list(node.input[:1]) if node.op_type in _MOVING else list(node.input)


def _read_quantised(node: Any, writer: _Writer, activations: Mapping[str, Any], inputs: Collection[str]) -> None:
    """Every reader of a quantised tensor reads it behind its pair: a float reader would force the node in front to
    compute in float. No node is in front of the graph's input, and what adds to it wants all of its bits."""
    for place, name in enumerate(node.input):
        if name in activations and name not in inputs:
            node.input[place] = writer.dq(name)


def _residual_adds(model: Any, chosen: Collection[Layer], activations: Collection[str]) -> dict[str, int]:
    """Add node → which of its inputs is read behind its pair, so that it can be fused into the layer that makes the
    other: a tensor that is quantised anyway, added to what a quantised layer gives it alone.

    Never the graph's input, and never where only pointwise nodes follow: a global skip carries the picture itself, and
    would cut it to 8 bits.
    """
    readers, outs = _readers(model), {layer.out for layer in chosen}
    ends = set(_leading_to_end(model))
    inputs = {value.name for value in model.graph.input}
    found = {}
    for node in model.graph.node:
        if node.op_type != "Add" or node.output[0] in ends:
            continue
        for place, (name, other) in enumerate(zip(node.input, reversed(node.input), strict=True)):
            alone = other in outs and len(readers[other]) == 1
            if name in activations and name not in inputs and alone:
                found[node.name] = place
                break
    return found


def _leading_to_end(model: Any) -> Iterator[str]:
    """Graph outputs, and tensors from which only pointwise nodes lead there."""
    last = {value.name for value in model.graph.output}
    yield from last
    for node in reversed(model.graph.node):
        if node.op_type in _POINTWISE and node.output[0] in last:
            last.add(node.input[0])
            yield node.input[0]

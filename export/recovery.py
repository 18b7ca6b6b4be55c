"""Gives back what 8 bits cost: equalised channels, corrected biases, and rounding learned from the FP32 network.

Input: FP32 graph. Output: an FP32 graph that computes the same and quantises better, or Q/DQ numbers that do. The
teacher is always the FP32 network on calibration pictures; no labels, no other pictures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.qdq import LARGEST_BIAS, Layer
from export.ranges import Report

_HOMOGENEOUS = ("LeakyRelu", "Relu", "PRelu")
"""f(s x) = s f(x) for s > 0; PRelu too, since its slopes belong to channels."""


def equalised(model: Any, chosen: Collection[Layer], peaks: Mapping[str, np.ndarray]) -> Any:
    """A copy whose channels between two convolutions have equal peaks, so that one step serves them all; None where no
    two convolutions follow each other.

    Channel c is divided by s_c = peak_c / geometric mean of the peaks where it is made, and multiplied by it where it
    is read: weights per output channel have scales of their own, so that the first costs nothing. Weights alone, as in
    the source, made it worse on networks whose channels' ranges differ by their inputs (docs/precision.md).

    Source: M. Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
    section 4.1, on measured activations in place of weights.

    Args:
        peaks: largest magnitude per channel of the tensors that the layers read.
    """
    import onnx
    from onnx import numpy_helper

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    constants = {i.name: i for i in copied.graph.initializer}
    pairs = _pairs(copied, chosen)
    if not pairs:
        return None
    for first, second in pairs:
        peak = peaks[second.data].astype(np.float64)
        alive = peak > 0
        if not alive.any():
            continue
        peak = np.maximum(peak, 1e-6 * peak.max())
        factor = np.where(alive, peak / np.exp(np.log(peak[alive]).mean()), 1.0)
        for name, axis, power in ((first.weight, 0, -1), (first.bias, 0, -1), (second.weight, 1, 1)):
            if name:
                value = numpy_helper.to_array(constants[name])
                shape = [-1 if i == axis else 1 for i in range(value.ndim)]
                scaled = (value * (factor**power).reshape(shape)).astype(np.float32)
                constants[name].CopyFrom(numpy_helper.from_array(scaled, name))
    return copied


def _pairs(model: Any, chosen: Collection[Layer]) -> list[tuple[Layer, Layer]]:
    """Convolutions with nothing between them but an activation that can be scaled, and whose tensors are their own."""
    made = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    reads: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            reads[name] = reads.get(name, 0) + 1
    for value in model.graph.output:
        reads[value.name] = reads.get(value.name, 0) + 1
    nodes = {node.name: node for node in model.graph.node}
    by_output = {nodes[layer.node].output[0]: layer for layer in chosen if layer.operator == "Conv"}
    found = []
    for second in chosen:
        before = made.get(second.data)
        if before is None or second.operator != "Conv" or _groups(nodes[second.node]) != 1:
            continue
        name = before.input[0] if before.op_type in _HOMOGENEOUS else second.data
        first = by_output.get(name)
        if first is None or _groups(nodes[first.node]) != 1:
            continue
        scaled = {second.weight, first.weight, *([first.bias] if first.bias else [])}
        if scaled <= constants and all(reads[n] == 1 for n in {name, second.data, *scaled}):
            found.append((first, second))
    return found


def _groups(node: Any) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


@dataclass(frozen=True)
class Lesson:
    """How rounding is learned."""

    steps: int = 600
    crop: int = 256
    """Side of the squares that are cut from the calibration pictures, pixels."""
    multiple: int = 1
    """Sides of the squares are a multiple of this."""
    rate: float = 1e-4
    """Of weights and biases, in units of the weight's largest value; scales and zero points learn ten times as fast."""
    seed: int = 0


def learned(quantised: Any, original: Any, inputs: Sequence[np.ndarray], lesson: Lesson, report: Report) -> Any:
    """A copy of a graph with Q/DQ pairs (weights float in front of theirs), its weights, biases, scales and zero points
    those with which it comes closest to the original on crops of the calibration pictures.

    Adam on the mean squared difference of the outputs; rounding passes gradients as if it were not there. What is
    learned is how every number is rounded and clipped: weights move by fractions of a step, scales by a few percent.

    Source: S. K. Esser et al., "Learned step size quantization", ICLR 2020; the FP32 network as only teacher as in
    M. Nagel et al., "Up or down? Adaptive rounding for post-training quantization", ICML 2020.

    Raises:
        ValueError: an operator that export/torch_graph.py lacks.
    """
    import torch

    from export.torch_graph import TorchGraph

    teacher, student = TorchGraph(original), TorchGraph(quantised)
    numbers = _Numbers(quantised, student.constants, lesson.rate)
    optimiser = torch.optim.Adam(numbers.groups)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, lesson.steps)
    random = np.random.default_rng(lesson.seed)
    tensors = [torch.from_numpy(x) for x in inputs]
    for step in range(lesson.steps):
        x = _crop(tensors, lesson, random)
        with torch.no_grad():
            expected = teacher(x)
        loss = torch.nn.functional.mse_loss(student(x, numbers.values()), expected)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
        report(
            f"learn rounding, {-10 * math.log10(max(float(loss.detach()), 1e-12)):.1f} dB", (step + 1) / lesson.steps
        )
    return numbers.written(quantised)


class _Numbers:
    """What is learned of a quantised graph, and how it stands in the graph."""

    def __init__(self, model: Any, constants: Mapping[str, Any], rate: float) -> None:
        import torch

        quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
        scales = {node.input[1] for node in quantisers}
        zeros = {node.input[2] for node in quantisers if constants[node.input[2]].dtype == torch.uint8}
        weights = {node.input[0] for node in quantisers} & constants.keys()
        biases = {
            node.input[2]
            for node in model.graph.node
            if node.op_type in {"Conv", "ConvTranspose", "Gemm"} and len(node.input) > 2 and node.input[2] in constants
        }
        self._integers = {bias.input[0]: (bias.input[1], x, w) for bias, x, w in _integer_biases(model, constants)}
        """int32 bias → the names of its steps, of its input's and of its weight's: it counts in their product."""
        biases |= self._integers.keys()
        self._scales = {name: constants[name].log().requires_grad_() for name in sorted(scales)}
        self._zeros = {name: constants[name].float().requires_grad_() for name in sorted(zeros)}
        self._plain = {name: constants[name].float().clone().requires_grad_() for name in sorted(weights | biases)}
        self.groups = [
            {"params": [value], "lr": rate * max(float(value.detach().abs().max()), 1e-3)}
            for value in self._plain.values()
        ]
        self.groups.append({"params": list(self._scales.values()), "lr": 10 * rate})
        self.groups.append({"params": list(self._zeros.values()), "lr": 1000 * rate})

    def values(self) -> dict[str, Any]:
        """Constants as the graph is to see them."""
        scales = {name: value.exp() for name, value in self._scales.items()}
        return {**self._plain, **scales, **self._zeros}

    def written(self, model: Any) -> Any:
        import onnx
        import torch
        from onnx import numpy_helper

        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        values = self.values()
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for bias, (steps, x, w) in self._integers.items():
            wanted = values[x].detach() * values[w].detach()
            values[bias] = values[bias].detach() * torch.from_numpy(stored[steps].copy()) / wanted
            values[steps] = wanted.expand(values[bias].shape)
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[0] in self._plain:  # as qdq.folded_weights stores them
                axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
                weight, step = values[node.input[0]].detach(), values[node.input[1]].detach()
                most = 127 * (step.reshape([-1 if i == axis else 1 for i in range(weight.ndim)]) if step.ndim else step)
                values[node.input[0]] = weight.clamp(-most, most)
        for tensor in copied.graph.initializer:
            if tensor.name in values:
                old, new = numpy_helper.to_array(tensor), values[tensor.name].detach().numpy()
                if old.dtype != np.float32:
                    low, high = (0, 255) if old.dtype == np.uint8 else (-LARGEST_BIAS, LARGEST_BIAS)
                    new = np.clip(np.rint(new.astype(np.float64)), low, high)
                tensor.CopyFrom(numpy_helper.from_array(new.astype(old.dtype).reshape(old.shape), tensor.name))
        return copied


def _integer_biases(model: Any, constants: Mapping[str, Any]) -> Iterator[tuple[Any, str, str]]:
    """Nodes that bring an int32 bias to float, with the names of the scales of its layer's input and weight."""
    made = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        parts = [made[name] for name in node.input if name in made]
        if len(parts) == 3 and node.op_type == "Conv" and parts[2].input[0] in constants:
            yield parts[2], parts[0].input[1], parts[1].input[1]


def _crop(tensors: Sequence[Any], lesson: Lesson, random: np.random.Generator) -> Any:
    """A square of a picture, mirrored half of the time; smaller where the picture is."""
    x = tensors[int(random.integers(len(tensors)))]
    corner, size = [], []
    for length in x.shape[2:]:
        taken = max(min(lesson.crop, length) // lesson.multiple, 1) * lesson.multiple
        corner.append(int(random.integers(0, (length - taken) // lesson.multiple + 1)) * lesson.multiple)
        size.append(taken)
    crop = x[:, :, corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    return crop.flip(3) if random.random() < 0.5 else crop

"""FP32 graph → an FP32 graph that computes the same and loses less in 8 bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from export.channel_factors import Affine, affine_at, divide, flat_tensors, make_up
from export.qdq import Layer
from export.typed_graph import bodies_of, captured

_HOMOGENEOUS = ("LeakyRelu", "Relu", "PRelu")
"""f(s x) = s f(x) for s > 0; PRelu too, since its slopes belong to channels."""


_LEAST_SHARE = 1e-4
"""Of the largest peak, that a channel counts for at least."""


def equalised(model: Any, chosen: Collection[Layer], peaks: Mapping[str, np.ndarray]) -> Any:
    """A copy whose channels in front of convolutions have equal peaks, so that one step serves them all; None where
    there are none whose channels can be scaled.

    Channel c is divided by s_c = peak_c / geometric mean of the peaks where it is made, and multiplied by it where it
    is read. It is made by a convolution, whose weights per output channel have scales of their own, so that this costs
    nothing; or by what a normalisation with the picture's own statistics ends in, `x * scale + shift`, where the two
    small tensors are divided. By weights alone, as in the source, CAN24 lost 9 dB.

    Source: M. Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
    section 4.1, on measured activations in place of weights.

    Args:
        peaks: largest magnitude per channel of the tensors that are quantised.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    pairs = _pairs(copied, chosen)
    for first, second in pairs:
        # Where what the first makes is quantised too, before its activation: LeakyReLU's negative half is widest there.
        factor = _factor(peaks.get(first.out, peaks[second.data]))
        if isinstance(first, Affine):
            divide(copied.graph, first, factor)
        else:
            _scale(copied, first.weight, 0, 1 / factor)
            _scale(copied, first.bias, 0, 1 / factor)
        _scale(copied, second.weight, 1, factor)
    more = [layer for layer in chosen if layer.out in peaks and _own(copied, layer)]
    flat = flat_tensors(copied) if more else set()  # with what the lines above have put in
    for layer in list(more):
        factor = _factor(peaks[layer.out])
        if make_up(copied, layer.out, factor, flat):
            _scale(copied, layer.weight, 0, 1 / factor)
            _scale(copied, layer.bias, 0, 1 / factor)
        else:
            more.remove(layer)
    return copied if pairs or more else None


def _factor(peak: np.ndarray) -> np.ndarray:
    """Per channel: its peak over their geometric mean; 1 where it is always 0. One that is all but dead is not made as
    large as the others: what divides it would be beyond FP16."""
    peak = peak.astype(np.float64)
    alive = peak > 0
    if not alive.any():
        return np.ones(peak.shape)
    peak = np.maximum(peak, _LEAST_SHARE * peak.max())
    return np.where(alive, peak / np.exp(np.log(peak[alive]).mean()), 1.0)


def _scale(model: Any, name: str | None, axis: int, factor: np.ndarray) -> None:
    """Multiplies a constant along an axis; nothing where there is none."""
    from onnx import numpy_helper

    if name is None:
        return
    constant = next(i for i in model.graph.initializer if i.name == name)
    value = numpy_helper.to_array(constant)
    shape = [-1 if i == axis else 1 for i in range(value.ndim)]
    constant.CopyFrom(numpy_helper.from_array((value * factor.reshape(shape)).astype(np.float32), name))


def _own(model: Any, layer: Layer) -> bool:
    """Whether a convolution's channels can be scaled: over height and width, its weight and bias constants of its own,
    and no activation merged into what it makes."""
    reads = _reads(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    node = next(n for n in model.graph.node if n.name == layer.node)
    scaled = {layer.weight, *([layer.bias] if layer.bias else [])}
    return (
        layer.operator == "Conv"
        and _groups(node) == 1
        and node.output[0] == layer.out
        and scaled <= constants.keys()
        and all(reads[name] == 1 for name in scaled)
        and len(constants[layer.weight].dims) == 4
    )


def _reads(model: Any) -> dict[str, int]:
    """Tensor → by how many it is read, bodies of nodes among them; leaving the graph counts."""
    reads: dict[str, int] = {}
    inner = (name for node in model.graph.node for body in bodies_of(node) for name in captured(body))
    for name in (*(n for node in model.graph.node for n in node.input), *inner, *(v.name for v in model.graph.output)):
        reads[name] = reads.get(name, 0) + 1
    return reads


def _pairs(model: Any, chosen: Collection[Layer]) -> list[tuple[Layer | Affine, Layer]]:
    """Convolutions, and what makes the channels they read, with nothing between but an activation that can be scaled;
    all of their tensors are read by nobody else."""
    made = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    reads = _reads(model)
    nodes = {node.name: node for node in model.graph.node}
    by_output = {nodes[layer.node].output[0]: layer for layer in chosen if layer.operator == "Conv"}
    found: list[tuple[Layer | Affine, Layer]] = []
    flat: set[str] | None = None
    for second in chosen:
        before = made.get(second.data)
        if before is None or second.operator != "Conv" or _groups(nodes[second.node]) != 1:
            continue
        name = before.input[0] if before.op_type in _HOMOGENEOUS else second.data
        weight = constants.get(second.weight)
        if (
            weight is not None
            and len(weight.dims) == 4
            and all(reads[n] == 1 for n in (weight.name, name, second.data))
        ):
            maker = made.get(name)
            if maker is not None and maker.op_type == "Add":
                flat = flat_tensors(model) if flat is None else flat
                affine = affine_at(maker, made, flat)
                if affine is not None and reads[affine.inner] == 1:
                    found.append((affine, second))
                    continue
        first = by_output.get(name)
        if first is None or _groups(nodes[first.node]) != 1:
            continue
        scaled = {second.weight, first.weight, *([first.bias] if first.bias else [])}
        if scaled <= constants.keys() and all(reads[n] == 1 for n in {name, second.data, *scaled}):
            found.append((first, second))
    return found


def _groups(node: Any) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)

"""Float nodes between quantised tensors, written so that ONNX Runtime leaves them as they are.

Its optimiser WeightBiasQuantization rounds float weights between a DQ and a Q to int8, with one scale for all channels,
at every optimisation level but `off`: layers that are kept in float because 8 bits ruin them. Float biases it casts to
int32, also where they are beyond it. It looks for a DQ with one scale; equal scales per channel are passed by, and cost
no time. Source: weight_bias_quantization.cc of ONNX Runtime; seen in 1.31.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from export.recipe import WEIGHTED


def kept_from_rounding(model: Any) -> Any:
    """The same graph, in place: weighted nodes with a float weight or bias behind a DQ read one of their own."""
    from onnx import helper, numpy_helper

    constants = {i.name: i for i in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in list(model.graph.node):
        behind = makers.get(node.input[0]) if node.op_type in WEIGHTED else None
        if behind is None or behind.op_type != "DequantizeLinear" or not constants.keys() & set(node.input[1:]):
            continue
        weight = node.input[1]
        while weight not in constants:  # behind its pair: the bias alone is float
            weight = makers[weight].input[0]
        channels, names = _channels_in(node, constants[weight]), []
        for name in behind.input[1:3]:
            value = numpy_helper.to_array(constants[name])
            names.append(f"{name}.{channels}")
            if names[-1] not in constants:
                constants[names[-1]] = numpy_helper.from_array(np.full(channels, value, value.dtype), names[-1])
                model.graph.initializer.append(constants[names[-1]])
        own = f"{node.name}.{node.input[0]}"
        made = helper.make_node("DequantizeLinear", [behind.input[0], *names], [own], name=own, axis=1)
        model.graph.node.insert(list(model.graph.node).index(node), made)
        node.input[0] = own
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    for node in [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.output[0] not in read]:
        model.graph.node.remove(node)
    return model


def _channels_in(node: Any, weight: Any) -> int:
    """Of the tensor that a weighted node reads, along axis 1."""
    if node.op_type == "Conv":
        return int(weight.dims[1] * next((a.i for a in node.attribute if a.name == "group"), 1))
    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return int(weight.dims[1 if transposed else 0])

"""A graph in low precision, as it would compute where every tensor really has its type: the strict reading of it.

ONNX Runtime's CPU runs FP16 graphs in float32 and drops most of the roundings (it gives VDSR 110 dB where its types
give 78), and has no BF16 convolutions at all. Engines on GPUs keep sums in float32 and round what they store: that is
what this does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from export.network import INPUT
from export.onnx_file import session_of, without_content


def as_rounded(model: Any) -> Any:
    """The same graph in float32 kernels, every tensor of a half type rounded to it as it is made. Q/DQ stay."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rounding, types = onnx.ModelProto(), types_of(model)
    rounding.CopyFrom(model)
    graph, nodes = rounding.graph, []
    half = {TensorProto.FLOAT16, TensorProto.BFLOAT16}

    def add_rounded(source: str, target: str) -> None:
        nodes.append(helper.make_node("Cast", [source], [f"{target}/half"], to=types[target]))
        nodes.append(helper.make_node("Cast", [f"{target}/half"], [target], to=TensorProto.FLOAT))

    for value in graph.input:
        if value.type.tensor_type.elem_type in half:
            add_rounded(f"{value.name}/given", value.name)
            value.name += "/given"
    for tensor in graph.initializer:
        if tensor.data_type in half:
            array = np.asarray(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i in half:
                attribute.i = TensorProto.FLOAT
        for place, name in enumerate(node.output):
            if types[name] in half:
                node.output[place] = f"{name}/exact"
                add_rounded(f"{name}/exact", name)
    nodes = list(nodes)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return rounding


def types_of(model: Any) -> dict[str, int]:
    """TensorProto.DataType of every tensor, as onnx infers it from the nodes alone."""
    import onnx

    bare, _ = without_content(model)
    del bare.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**found, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


def strict_session(model: Any, threads: int = 0) -> Any:
    """A CPU session that runs every node as it stands there; nothing is fused or dropped.

    Args:
        threads: 0 lets ONNX Runtime take all cores.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return session_of(model, options)


def run_graph(model: Any, x: np.ndarray) -> np.ndarray:
    """What the graph computes of x, node by node."""
    return np.asarray(strict_session(model).run(None, {INPUT: x})[0])

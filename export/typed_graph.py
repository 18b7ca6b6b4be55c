"""onnx.ModelProto → TypedGraph: a copy in FP32, of an opset that half types need, and what is known of its tensors.

Half types that the model already has are widened, which is exact. Decides nothing about precision, writes no file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from export.onnx_file import all_nodes, all_tensors, default_opset, one_line, without_content
from reference_models.errors import UserError

Kind = Literal["fp16", "bf16"]
Ends = Literal["fp32", "lowered"]

FLOAT, FLOAT16, BFLOAT16 = 1, 10, 16
"""onnx.TensorProto.DataType, which is fixed for good; onnx itself is imported where it is used."""
HALF = {"fp16": FLOAT16, "bf16": BFLOAT16}
WORD = {FLOAT: "float32", FLOAT16: "float16", BFLOAT16: "bfloat16"}
LEAST_OPSET = {"fp16": 19, "bf16": 22}
"""First opset whose Q/DQ take FP16 scales (asked for only where there are some), and whose Conv takes BF16."""
QUANTIZING = {"QuantizeLinear", "DequantizeLinear"}
OUTPUT = -1
"""Stands among the readers of a tensor that leaves the graph."""


@dataclass
class TypedGraph:
    """A copy of the model that is being lowered, and what was found about it."""

    model: Any
    half: int
    ends: Ends
    nodes: list[Any]
    types: dict[str, int]
    """TensorProto.DataType of every tensor; 0 where it is none (a sequence)."""
    shapes: dict[str, tuple[int, ...]]
    """Of tensors whose number of axes is known; -1 where a length is not."""
    stored: dict[str, Any]
    """Initializers."""
    maker: dict[str, int] = field(default_factory=dict)
    readers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    fixed: set[str] = field(default_factory=set)
    """Tensors that do not depend on the input: stored, or made of stored ones alone."""

    def __post_init__(self) -> None:
        self.fixed.update(self.stored)
        for i, node in enumerate(self.nodes):
            read = list(self.read(node))
            self.maker.update((name, i) for name in node.output if name)
            for name in read:
                self.readers[name].append(i)
            if read and all(name in self.fixed for name in read):
                self.fixed.update(node.output)
        for value in self.model.graph.output:
            self.readers[value.name].append(OUTPUT)

    def read(self, node: Any) -> Iterator[str]:
        """Tensors that the node or a body in it reads."""
        yield from (name for name in node.input if name)
        yield from (name for body in bodies(node) for name in captured(body) if name in self.types)

    def floats(self, names: Iterable[str]) -> list[str]:
        """Those among these tensors that are FP32."""
        return [name for name in names if self.types.get(name) == FLOAT]

    def schema(self, node: Any) -> Any:
        """onnx.defs.OpSchema of the node's operator in this opset."""
        import onnx

        try:
            return onnx.defs.get_schema(node.op_type, default_opset(self.model), node.domain)
        except onnx.defs.SchemaError:
            raise UserError(
                f"node `{node_name(node)}`: operator `{node.domain or 'ai.onnx'}::{node.op_type}` is not ONNX's own",
                "a graph whose types are known",
                "Export it without custom operators",
            ) from None

    def allows_half(self, node: Any, formals: Any, place: int) -> bool:
        """Whether the operator takes, or gives, the half type at this place."""
        formal = formals[min(place, len(formals) - 1)]
        return f"tensor({WORD[self.half]})" in formal.types


def typed_graph(model: Any, kind: Kind, ends: Ends) -> TypedGraph:
    """What is known of a copy of this onnx.ModelProto, whose tensors are loaded.

    Raises:
        UserError: operators that are not ONNX's own, or an opset that cannot be raised.
    """
    import onnx
    from onnx.inliner import inline_local_functions

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    if copied.functions:
        copied = inline_local_functions(copied)
    _widen(copied.graph)
    _store_constants(copied.graph)
    if kind == "bf16" or any(node.op_type in QUANTIZING for node in copied.graph.node):
        copied = with_opset(copied, LEAST_OPSET[kind])
    types, shapes = _inferred(copied)
    _drop_casts(copied.graph, types)
    stored = {tensor.name: tensor for tensor in copied.graph.initializer}
    nodes = list(copied.graph.node)
    kept = [value for value in copied.graph.input if value.name not in stored]  # older files list both
    del copied.graph.input[:]
    copied.graph.input.extend(kept)
    return TypedGraph(copied, HALF[kind], ends, nodes, types, shapes, stored)


def _widen(graph: Any) -> None:
    """Every half type in a graph and its bodies becomes FP32, which is exact."""
    for tensor in all_tensors(graph):
        if tensor.data_type in WORD and tensor.data_type != FLOAT:
            array = float_array(tensor)
            tensor.ClearField("int32_data")
            tensor.data_type, tensor.raw_data = FLOAT, array.astype("<f4").tobytes()
    for node in all_nodes(graph):
        for attribute in node.attribute:
            if attribute.name in {"to", "dtype", "output_dtype"} and attribute.i in WORD:
                attribute.i = FLOAT
        for body in bodies(node):
            _widen_values(body)
    _widen_values(graph)


def _widen_values(graph: Any) -> None:
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in WORD:
            value.type.tensor_type.elem_type = FLOAT


def _store_constants(graph: Any) -> None:
    """Constant nodes of numbers become initializers, of which a copy per type can be made."""
    import onnx
    from onnx import numpy_helper

    nodes = []
    for node in graph.node:
        given = next(iter(node.attribute)) if node.op_type == "Constant" else None
        if given is None or given.name not in {"value", "value_float", "value_floats", "value_int", "value_ints"}:
            nodes.append(node)
        elif given.name == "value":
            graph.initializer.append(given.t)
            graph.initializer[-1].name = node.output[0]
        else:
            kind = np.float32 if "float" in given.name else np.int64
            numbers = np.asarray(onnx.helper.get_attribute_value(given), kind)
            graph.initializer.append(numpy_helper.from_array(numbers, node.output[0]))
    del graph.node[:]
    graph.node.extend(nodes)


def with_opset(model: Any, least: int) -> Any:
    """The model at this opset or a newer one.

    Raises:
        UserError: onnx cannot raise it.
    """
    from onnx import version_converter

    if default_opset(model) >= least:
        return model
    try:
        return version_converter.convert_version(model, least)
    except (version_converter.ConvertError, RuntimeError, ValueError, IndexError) as error:  # others: of its C++
        raise UserError(
            f"opset {default_opset(model)} cannot be raised to {least}: {one_line(error)}",
            f"a graph of opset {least}, as its types need",
            f"Export it again with opset {least}",
        ) from None


def _inferred(model: Any) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    import onnx

    found = onnx.shape_inference.infer_shapes(without_content(model)[0], data_prop=True).graph
    types = {tensor.name: tensor.data_type for tensor in found.initializer}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in found.initializer}
    for value in (*found.input, *found.value_info, *found.output):
        types[value.name] = value.type.tensor_type.elem_type
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
    for node in model.graph.node:
        for name in node.output:
            if name and name not in types:
                what = f"node `{node_name(node)}`: onnx cannot tell the type of `{name}`, which {node.op_type} makes"
                raise UserError(what, "a graph whose types onnx can infer", "Use `fp32` for this network")
    return types, shapes


def _drop_casts(graph: Any, types: dict[str, int]) -> None:
    """A Cast from FP32 to FP32 does nothing, and CastLike is a Cast."""
    from onnx import helper

    for node in graph.node:
        if node.op_type == "CastLike" and types[node.input[1]] == FLOAT:
            node.op_type = "Cast"
            del node.input[1:], node.attribute[:]
            node.attribute.append(helper.make_attribute("to", FLOAT))
        if node.op_type == "Cast" and types[node.input[0]] == types[node.output[0]] == FLOAT:
            node.op_type = "Identity"
            del node.attribute[:]


def bodies(node: Any) -> Iterator[Any]:
    """Graphs inside a node, such as the branches of an If."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def bodies_of(node: Any) -> list[Any]:
    """Graphs inside a node: branches of an If, bodies of loops."""
    return [body for a in node.attribute for body in (a.g, *a.graphs) if body.node or body.output]


def captured(body: Any) -> set[str]:
    """Names that a body reads, its own and those of the graph around it."""
    return {name for node in all_nodes(body) for name in node.input if name} | {value.name for value in body.output}


def rename(body: Any, names: dict[str, str]) -> None:
    """Lets a body read other tensors, in place."""
    for node in all_nodes(body):
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


def node_name(node: Any) -> str:
    """Its name, or that of its first output where it has none."""
    return str(node.name or node.output[0])


def float_array(tensor: Any) -> np.ndarray:
    """A stored tensor of any float type, in float32."""
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor)).astype(np.float32)


def half_bits(array: np.ndarray, half: int) -> np.ndarray:
    """uint16 patterns of the nearest numbers of the half type, to even between two; NumPy itself has no BF16."""
    if half == FLOAT16:
        with np.errstate(over="ignore"):
            return array.astype(np.float16).view(np.uint16)
    bits = array.astype(np.float32).view(np.uint32)
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, nearest).astype(np.uint16)


def rounded(array: np.ndarray, half: int) -> np.ndarray:
    """The float32 numbers that the half type leaves of float32 ones; what is beyond its range becomes infinite."""
    bits = half_bits(array, half)
    if half == FLOAT16:
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)

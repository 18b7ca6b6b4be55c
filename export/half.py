"""FP32 graph → the same graph with FP16 or BF16 inside, strongly typed. What adds up many numbers stays FP32.

Own code, since onnxconverter-common 1.16 and onnxruntime.transformers.float16 1.31 make no BF16 graphs; NVIDIA's
AutoCast (modelopt 0.47) makes them but pins older onnx and onnxruntime and needs CuPy; all three clamp weights that do
not fit, and none finds a picture's statistics by itself: they take lists of names and operators, or measured ranges.
No torch here, no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.float_rule import kept_nodes
from export.typed_graph import (
    BFLOAT16,
    FLOAT,
    FLOAT16,
    OUTPUT,
    QUANTIZING,
    WORD,
    Ends,
    Kind,
    TypedGraph,
    bodies,
    captured,
    float_array,
    half_bits,
    node_name,
    rename,
    rounded,
    typed_graph,
)
from reference_models.errors import UserError

SCALE_TOLERANCE = {FLOAT16: 2e-3, BFLOAT16: 2.0**-8}
"""Largest relative error of a quantization scale. FP16 has more only below 2^-16, BF16 never."""
_AS_IT_COMES = {"Shape", "Size", "Cast"}
"""They take their input in the type that it has."""
_STAYS = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
"""Operator and place of inputs that are no planes but sizes."""


@dataclass(frozen=True)
class Lowered:
    """A graph with half types inside, and what is not."""

    model: Any
    """onnx.ModelProto, checked, with inferred shapes."""
    kept: tuple[str, ...]
    """Names of the nodes that compute in FP32 (of their first output, where they have none), in the graph's order."""


def lowered(model: Any, kind: Kind, ends: Ends = "fp32") -> Lowered:
    """The same graph, its planes and weights in FP16 or BF16; names of inputs, outputs and weights stay.

    FP32 stay: sums over many numbers, what only prepares them (the deviation from a mean, squares) and what is made of
    them alone (a scale and an offset), and the arithmetic of planes with these; numbers made of integers, such as sides
    and coordinates; operators without the half type; arithmetic with a constant that would vanish; and, where both ends
    are FP32, the addition of the input that makes the output. Quantized tensors and zero points stay as they are, their
    scales are lowered.

    Args:
        model: onnx.ModelProto with its tensors loaded, of ONNX's own operators; not changed. Half types that it already
            has count as FP32 first.
        ends: `fp32`: inputs and outputs are FP32, with a Cast each; `lowered`: they are of the half type.

    Raises:
        UserError: a weight beyond the type's range, a scale that it cannot hold, an operator that onnx does not know,
            or an opset that cannot be raised as far as the type needs.
    """
    graph = typed_graph(model, kind, ends)
    return written(graph, kept_nodes(graph))


def written(graph: TypedGraph, kept: set[int]) -> Lowered:
    """The graph with a Cast where a tensor is read in another type than it is made in, one per tensor."""
    import onnx

    floats = [i for i in sorted(kept) if graph.floats([*graph.read(graph.nodes[i]), *graph.nodes[i].output])]
    names = tuple(node_name(graph.nodes[i]) for i in floats)
    writer = _Writer(graph, kept)
    for i, node in enumerate(graph.nodes):
        writer.add(i, node)
    writer.finish()
    model = graph.model
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(writer.nodes)
    model.graph.initializer.extend(writer.stored)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return Lowered(model, names)


class _Writer:
    """Nodes and stored tensors of the lowered graph, collected in the graph's order."""

    def __init__(self, graph: TypedGraph, kept: set[int]) -> None:
        self.graph, self.kept = graph, kept
        self.nodes: list[Any] = []
        self.stored = [tensor for tensor in graph.stored.values() if tensor.data_type != FLOAT]
        self.end = FLOAT if graph.ends == "fp32" else graph.half
        self.taken = {*graph.types, *(node.name for node in graph.nodes)}
        self.taken.update(name for node in graph.nodes for body in bodies(node) for name in captured(body))
        self.copies: dict[tuple[str, int], str] = {}
        """Tensor of the given graph and type → its name in the lowered one."""
        self.made: dict[str, int] = {}
        self._place_ends()
        for i, node in enumerate(graph.nodes):
            for place, name in enumerate(node.output):
                if graph.floats([name]):
                    self._make(name, self._gives(i, node, place))
        self._place_stored()

    def _make(self, name: str, kind: int) -> None:
        leaves = OUTPUT in self.graph.readers[name] and kind != self.end
        self.made[name] = kind
        self.copies[name, kind] = self._fresh(name, WORD[kind]) if leaves else name

    def _fresh(self, name: str, suffix: str) -> str:
        """A name that no tensor and no node has yet."""
        wanted, number = f"{name}/{suffix}", 0
        while wanted in self.taken:
            wanted, number = f"{name}/{suffix}_{number}", number + 1
        self.taken.add(wanted)
        return wanted

    def _place_ends(self) -> None:
        ends = self.graph.model.graph
        for value in ends.input:
            if self.graph.floats([value.name]):
                self.made[value.name] = self.end
                self.copies[value.name, self.end] = value.name
        for value in (*ends.input, *ends.output):
            if self.graph.floats([value.name]):
                value.type.tensor_type.elem_type = self.end

    def _place_stored(self) -> None:
        """Every stored tensor in the types that its readers need; the half one has its name, which refitting knows."""
        for name in self.graph.floats(self.graph.stored):
            readers = [i for i in self.graph.readers[name] if i != OUTPUT]
            kinds = {kind for i in readers for kind in self._needs(i, name)} or {FLOAT}
            for kind in sorted(kinds, reverse=True):
                tensor = self.graph.stored[name]
                tensor = tensor if kind == FLOAT else self._lowered_tensor(name)
                tensor.name = self.copies[name, kind] = name if kind == max(kinds) else self._fresh(name, WORD[kind])
                self.stored.append(tensor)
            self.made[name] = max(kinds)

    def _needs(self, i: int, name: str) -> Iterator[int]:
        """Types in which node i reads it; bodies read FP32."""
        node = self.graph.nodes[i]
        places = [place for place, read in enumerate(node.input) if read == name]
        yield from (kind for place in places if (kind := self._takes(i, node, place)))
        yield from () if places else (FLOAT,)

    def _takes(self, i: int, node: Any, place: int) -> int | None:
        """The type in which a node reads this float input; None: as it comes."""
        if node.op_type in _AS_IT_COMES and i not in self.kept:
            return None
        if i in self.kept or (node.op_type, place) in _STAYS:
            return FLOAT
        graph = self.graph
        return graph.half if graph.allows_half(node, graph.schema(node).inputs, place) else FLOAT

    def _gives(self, i: int, node: Any, place: int) -> int:
        graph = self.graph
        lowers = i not in self.kept and graph.allows_half(node, graph.schema(node).outputs, place)
        return graph.half if lowers else FLOAT

    def add(self, i: int, node: Any) -> None:
        """The node, after the Casts of what it is first to read in another type."""
        graph = self.graph
        captured = {name: self._copy(name, FLOAT) for name in graph.floats(graph.read(node)) if any(bodies(node))}
        for body in bodies(node):
            rename(body, captured)
        for place, name in enumerate(node.input):
            if graph.floats([name]):
                node.input[place] = self._copy(name, self._takes(i, node, place))
        for place, name in enumerate(node.output):
            if name in self.made:
                node.output[place] = self.copies[name, self.made[name]]
        for attribute in node.attribute:
            if attribute.name in {"to", "dtype", "output_dtype"} and attribute.i == FLOAT and i not in self.kept:
                attribute.i = graph.half
        self.nodes.append(node)

    def finish(self) -> None:
        """Casts of what leaves the graph in another type than it is made in."""
        for value in self.graph.model.graph.output:
            if value.name in self.made:
                self._copy(value.name, self.end)

    def _copy(self, name: str, kind: int | None) -> str:
        kind = kind or self.made[name]
        if (name, kind) not in self.copies:
            source = self.copies[name, self.made[name]]
            leaves = OUTPUT in self.graph.readers[name] and kind == self.end
            self.copies[name, kind] = name if leaves else self._fresh(name, WORD[kind])
            self._cast(source, self.copies[name, kind], kind)
        return self.copies[name, kind]

    def _cast(self, source: str, target: str, kind: int) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node("Cast", [source], [target], name=self._fresh(target, "cast"), to=kind))

    def _lowered_tensor(self, name: str) -> Any:
        from onnx import helper

        graph = self.graph
        array = float_array(graph.stored[name])
        readers = [graph.nodes[i] for i in graph.readers[name] if i != OUTPUT]
        near, word = rounded(array, graph.half), WORD[graph.half]
        # A bound beyond the type's range is none, and as an infinity it stays none.
        if not all(node.op_type == "Clip" for node in readers) and (np.isinf(near) & np.isfinite(array)).any():
            largest = f"{np.abs(array[np.isfinite(array)]).max():.4g}"
            raise _refused(name, f"{largest} is beyond the range of {word}", "numbers that it can hold")
        if any(node.op_type in QUANTIZING and node.input[1] == name for node in readers):
            error = float((np.abs(near - array) / np.where(array, np.abs(array), 1)).max(initial=0))
            if error > (most := SCALE_TOLERANCE[graph.half]):
                raise _refused(name, f"as {word} this scale is {error:.2%} off", f"at most {most:.1%}")
        raw = half_bits(array, graph.half).astype("<u2").tobytes()
        return helper.make_tensor(name, graph.half, array.shape, raw, raw=True)


def _refused(name: str, what: str, expected: str) -> UserError:
    return UserError(f"tensor `{name}`: {what}", expected, "Use `fp32` for this network, or the other half type")

"""Reshape-Transpose-Reshape → DepthToSpace: PixelShuffle as it is written where an exporter has no operator for it.

An onnx.ModelProto is changed in place. Only the main graph is looked at, not the bodies of If and Loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export.onnx_file import fixed_shape, onnxruntime_errors, onnxruntime_session

Shape = tuple[int, ...]

_RESHAPING = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}
"""They keep the order of the elements in memory."""
_ONNX = {"", "ai.onnx"}
_LONGEST = 4
"""Most such nodes on either side of the Transpose; torch's exporter for dynamic sizes writes 2 and 3."""
_ORDERS = {
    # order of the axes → mode, and the axes before: r by r elements of a block become a square of pixels
    (0, 1, 4, 2, 5, 3): ("CRD", ("n", "c", "r", "r", "h", "w")),
    (0, 3, 4, 1, 5, 2): ("DCR", ("n", "r", "r", "c", "h", "w")),
    (0, 3, 1, 4, 2): ("CRD", ("nc", "r", "r", "h", "w")),
    (2, 3, 0, 4, 1): ("DCR", ("r", "r", "c", "h", "w")),
}
_TRIED_SIZES = (((24, 40), (40, 56)), ((48, 80), (80, 112)), ((96, 160), (160, 224)), ((64, 128), (128, 192)))
"""Pairs of height and width, for networks that take multiples of 8 to 64; two, lest one fits by chance."""
CRD_OPSET = 11
"""First opset whose DepthToSpace has a mode; before, it was DCR always."""


@dataclass(frozen=True)
class _Chain:
    """A Transpose between nodes that only reshape; nobody else reads the tensors between."""

    above: tuple[str, ...]
    """Its input, the input of the node before it, and so on."""
    below: tuple[str, ...]
    """Its output, the output of the node behind it, and so on."""
    order: tuple[int, ...]


@dataclass(frozen=True)
class _Block:
    """What a chain computes."""

    source: str
    target: str
    mode: str
    size: int


def fuse_pixel_shuffle(model: Any) -> int:
    """Number of DepthToSpace nodes that took the place of reshaping and transposing nodes.

    Where shapes cannot be inferred, the graph is run in ONNX Runtime at two sizes, to see what it makes of them.
    What is no PixelShuffle in every one of these shapes is left alone, and so is CRD order below opset 11, where
    DepthToSpace cannot say it. Names of the graph's inputs, outputs and other tensors stay.

    Args:
        model: onnx.ModelProto with its tensors loaded, valid, changed in place.

    Source: DepthToSpace in https://onnx.ai/onnx/operators/onnx__DepthToSpace.html; CRD is torch.nn.PixelShuffle, DCR
    is tf.nn.depth_to_space.
    """
    chains = list(_chains(model.graph))
    shapes = _shapes(model, {name for chain in chains for name in (*chain.above, *chain.below)}) if chains else []
    blocks = [block for chain in chains if (block := _block(chain, shapes))]
    opset = max(entry.version for entry in model.opset_import if entry.domain in _ONNX)
    blocks = [block for block in blocks if block.mode == "DCR" or opset >= CRD_OPSET]
    for block in blocks:
        _replace(model.graph, block, opset)
    return len(blocks)


def reads(graph: Any) -> Counter[str]:
    """How often each tensor of the graph is read: by its nodes, by bodies inside them, as its output."""
    found = Counter(value.name for value in graph.output)
    for node in graph.node:
        found.update(name for name in node.input if name)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                found.update(reads(body))
    return found


def _chains(graph: Any) -> Iterator[_Chain]:
    producer = {name: node for node in graph.node for name in node.output}
    reader = {name: node for node in graph.node for name in node.input}
    count = reads(graph)
    for node in graph.node:
        order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
        if node.op_type != "Transpose" or order not in _ORDERS:
            continue
        above, below = [node.input[0]], [node.output[0]]
        while count[above[-1]] == 1 and _reshapes(producer.get(above[-1])) and len(above) <= _LONGEST:
            above.append(producer[above[-1]].input[0])
        while count[below[-1]] == 1 and _reshapes(reader.get(below[-1]), below[-1]) and len(below) <= _LONGEST:
            below.append(reader[below[-1]].output[0])
        if len(above) > 1 and len(below) > 1:
            yield _Chain(tuple(above), tuple(below), order)


def _reshapes(node: Any, data: str | None = None) -> bool:
    """Whether the node only reshapes (the tensor `data`, and not by using it as a shape)."""
    return node is not None and node.op_type in _RESHAPING and node.domain in _ONNX and data in {None, node.input[0]}


def _block(chain: _Chain, shapes: Sequence[Mapping[str, Shape]]) -> _Block | None:
    """The shortest part of the chain that is a PixelShuffle in all of these shapes."""
    mode, axes = _ORDERS[chain.order]
    for source in chain.above[1:]:
        for target in chain.below[1:]:
            sizes = {_block_size(axes, s[source], s[chain.above[0]], s[target]) for s in shapes}
            if len(sizes) == 1 and (size := sizes.pop()):
                return _Block(source, target, mode, size)
    return None


def _block_size(axes: tuple[str, ...], source: Shape, before: Shape, target: Shape) -> int | None:
    """r, if a source of this shape becomes a target of r times its height and width, by way of these axes."""
    if len(source) != 4 or len(target) != 4 or 0 in source:
        return None
    n, c, h, w = source[0], target[1], *source[2:]
    r = target[2] // h
    length = {"n": n, "c": c, "nc": n * c, "r": r, "h": h, "w": w}
    fits = r > 1 and target == (n, c, r * h, r * w) and source[1] == c * r * r
    return r if fits and before == tuple(length[axis] for axis in axes) else None


def _shapes(model: Any, names: set[str]) -> list[dict[str, Shape]]:
    """Shapes of these tensors: inferred, or else as they are when the graph runs; empty where it does not run."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found: dict[str, Shape] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shape = fixed_shape(value)
        if value.name in names and shape and None not in shape:
            found[value.name] = tuple(d for d in shape if d is not None)
    return [found] if found.keys() == names else _shapes_by_running(model, sorted(names))


def _shapes_by_running(model: Any, names: Sequence[str]) -> list[dict[str, Shape]]:
    import numpy as np
    import onnx

    stored = {i.name for i in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    shape = fixed_shape(inputs[0]) if len(inputs) == 1 else None
    if shape is None or len(shape) != 4:
        return []
    batch, planes, height, width = shape
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(inputs[0].type.tensor_type.elem_type)
    tried: Iterable[tuple[tuple[int, int], ...]] = _TRIED_SIZES
    if height and width:
        tried = [((height, width),)]
    try:
        session = onnxruntime_session(probe)
    except onnxruntime_errors():
        return []
    for sizes in tried:
        try:
            runs = []
            for h, w in sizes:
                x = np.zeros((batch or 1, planes or 3, height or h, width or w), dtype)
                runs.append(session.run(list(names), {inputs[0].name: x}))
            return [{name: array.shape for name, array in zip(names, run, strict=True)} for run in runs]
        except onnxruntime_errors():  # not a size for this network
            continue
    return []


def _replace(graph: Any, block: _Block, opset: int) -> None:
    from onnx import helper

    mode = {"mode": block.mode} if opset >= CRD_OPSET else {}
    nodes = list(graph.node)
    last = next(i for i, node in enumerate(nodes) if block.target in node.output)
    suspects = {*nodes[last].input}
    name = nodes[last].name
    nodes[last] = helper.make_node(
        "DepthToSpace", [block.source], [block.target], name=name, blocksize=block.size, **mode
    )
    _set_nodes(graph, nodes)
    _forget_unread(graph, suspects)


def _forget_unread(graph: Any, suspects: set[str]) -> None:
    """Removes the nodes and stored tensors that make these tensors, as far as nobody reads them any more."""
    producer = {name: node for node in graph.node for name in node.output}
    count, dead, gone = reads(graph), set(), set[str]()
    waiting = list(suspects)
    while waiting:
        name = waiting.pop()
        if not name or count[name] or name in gone:
            continue
        gone.add(name)
        node = producer.get(name)
        if node is None or any(count[output] for output in node.output) or any(a.HasField("g") for a in node.attribute):
            continue
        dead.add(node.output[0])
        for read in node.input:
            count[read] -= 1
            waiting.append(read)
    _set_nodes(graph, [node for node in graph.node if not node.output or node.output[0] not in dead])
    stored = {i.name for i in graph.initializer} & gone
    for values, unread in ((graph.initializer, stored), (graph.input, stored), (graph.value_info, gone)):
        kept = [value for value in values if value.name not in unread]
        if len(kept) < len(values):
            del values[:]
            values.extend(kept)


def _set_nodes(graph: Any, nodes: Sequence[Any]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)

"""An ONNX network on tensors → one on pictures: uint8 (H, W, 3) RGB in and out, so that a runtime is all one needs.

What reference_models/colour.py does before and behind a network stands in the graph, operation by operation in the
same order and type, so that both give the same bytes. NaN, which colour.py refuses, becomes some grey value here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from export.cache import code_sha256, made_once
from export.network import INPUT, OUTPUT, PICTURE, RESULT, Network, file_sha256
from reference_models.colour import _FROM_YCC, _TO_CHROMA, _TO_LUMA, class_colours
from reference_models.errors import UserError
from reference_models.resample import cubic
from reference_models.spec import ModelSpec

_REACH = 3
"""Pixels beyond the border that the bicubic kernel may take."""
_LACKING = {
    "lightness": "its picture goes through CIE L*a*b*, whose powers no two runtimes compute to the same bit",
    "noise": "of a picture it takes only the size",
}


def check_can_take_pictures(spec: ModelSpec) -> None:
    """
    Raises:
        UserError: the conversion of this network's pictures is not written as a graph.
    """
    if reason := _LACKING.get(spec.input):
        raise UserError(
            f"pictures in the graph of model `{spec.name}`: {reason}",
            "a network on RGB or luma",
            "Leave its graph on tensors: `bench build --output`, and engines.load for pictures",
        )


def picture_graph(path: str | Path, spec: ModelSpec, exact: bool = True) -> Any:
    """The onnx.ModelProto that has the network of a file (`x` → `y`) inside.

    Pictures stay uint8 at its very ends only, as TensorRT wants them.

    Args:
        exact: enlarges in float64, as colour.py does. TensorRT has none: without, the sums are float32, and a value
            that lies between two grey values may become the other one.

    Raises:
        UserError: as check_can_take_pictures.
    """
    import onnx
    from onnx import TensorProto, helper

    check_can_take_pictures(spec)
    model = onnx.load(str(path))
    graph, before, behind = model.graph, _Nodes("before", exact), _Nodes("behind", exact)
    _write_input(before, spec)
    _write_output(behind, spec)
    nodes = [*before.nodes, *graph.node, *behind.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *behind.constants])
    shapes: dict[str, list[str | int | None]] = {
        PICTURE: ["height", "width", 3],
        RESULT: ["result_height", "result_width", 3],
    }
    ends = {name: helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in shapes.items()}
    for values, name in ((graph.input, PICTURE), (graph.output, RESULT)):
        del values[:]
        values.append(ends[name])
    onnx.checker.check_model(model, full_check=True)
    return model


def picture_network(network: Network, spec: ModelSpec, cache: Path, exact: bool = True) -> Network:
    """The same network with a main graph on pictures, made once.

    Args:
        exact: as picture_graph.

    Raises:
        UserError: as check_can_take_pictures, or statistics that a second graph finds.
    """
    check_can_take_pictures(spec)
    if network.thumbnail is not None:
        raise UserError(
            "pictures in the graph with statistics `thumbnail`: new weights are folded for every picture",
            "statistics image or frozen",
            "Choose one of these",
        )
    facts = [network.main.sha256, network.lowering, spec.to_json(), exact, code_sha256(), metadata.version("onnx")]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def write(folder: Path) -> Network:
        path = folder / "picture.onnx"
        path.write_bytes(picture_graph(network.main.onnx_path, spec, exact).SerializeToString())
        graph = replace(network.main, onnx_path=str(path), sha256=file_sha256(path), state_path="", role="picture")
        return replace(network, main=graph)

    return made_once(cache, key, write)


class _Nodes:
    """Nodes in the order in which they are added; their names begin with `prefix`."""

    def __init__(self, prefix: str, exact: bool) -> None:
        self._prefix, self.exact = prefix, exact
        self._float_picture = ""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, operator: str, *inputs: Any, to: str | None = None, **attributes: Any) -> str:
        """Name of what one node gives; inputs that are no names become constants."""
        from onnx import helper

        name = f"{self._prefix}/{len(self.nodes)}_{operator}"
        names = [given if isinstance(given, str) else self._constant(given) for given in inputs]
        self.nodes.append(helper.make_node(operator, names, [to or name], name, **attributes))
        return to or name

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def cast(self, tensor: str, kind: str, to: str | None = None) -> str:
        """To the type that ONNX calls so."""
        from onnx import TensorProto, helper

        name = f"{self._prefix}/{len(self.nodes)}_Cast"
        self.nodes.append(helper.make_node("Cast", [tensor], [to or name], name, to=getattr(TensorProto, kind)))
        return to or name

    def picture(self) -> str:
        """The picture in float32, cast once."""
        self._float_picture = self._float_picture or self.cast(PICTURE, "FLOAT")
        return self._float_picture

    def sides(self, tensor: str, first: int, last: int) -> str:
        """Lengths of the axes from `first` to before `last`, int64."""
        return self("Shape", tensor, start=first, end=last)


def _float(value: float) -> np.ndarray:
    return np.asarray(value, np.float32)


def _ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def _int(value: int) -> np.ndarray:
    return np.asarray(value, np.int64)


def _double(value: float) -> np.ndarray:
    return np.asarray(value, np.float64)


def _write_input(add: _Nodes, spec: ModelSpec) -> None:
    """Nodes from `picture` to `x`."""
    if spec.input == "luma":
        planes = add("Unsqueeze", _weighted(add, _colour_planes(add), _TO_LUMA, start=16), _ints(0))
    else:
        planes = add("Transpose", add.picture(), perm=[2, 0, 1])
        if spec.input == "bgr":
            planes = add("Gather", planes, _ints(2, 1, 0), axis=0)
    planes = add("Div", _enlarged(add, planes, spec.pre_upscale), _float(255))
    tensor = _padded(add, add("Unsqueeze", planes, _ints(0)), spec)
    if spec.constant_planes:
        values = np.asarray(spec.constant_planes, np.float32).reshape(1, -1, 1, 1)
        shape = add("Concat", _ints(1, len(spec.constant_planes)), add.sides(tensor, 2, 4), axis=0)
        tensor = add("Concat", tensor, add("Expand", values, shape), axis=1)
    add("Identity", tensor, to=INPUT)


def _colour_planes(add: _Nodes) -> list[str]:
    """R, G and B, each float32 (H, W) in 0..255."""
    return [add("Gather", add.picture(), _int(i), axis=2) for i in range(3)]


def _weighted(add: _Nodes, planes: list[str], weights: np.ndarray, start: float | None = None) -> str:
    """Sum of weighted planes, from the first to the last, as NumPy adds them."""
    total: Any = None if start is None else _float(start)
    for plane, weight in zip(planes, weights.astype(np.float32), strict=True):
        term = add("Mul", plane, weight)
        total = term if total is None else add("Add", total, term)
    return str(total)


def _padded(add: _Nodes, tensor: str, spec: ModelSpec) -> str:
    """(1, C, H, W) whose border is repeated at the right and the bottom, to what the network takes."""
    if not _pads(spec):
        return tensor
    k, sides = spec.size_multiple, add.sides(tensor, 2, 4)
    least = add("Max", sides, _ints(spec.min_size))
    wanted = add("Mul", add("Div", add("Add", least, _ints(k - 1)), _ints(k)), _ints(k))
    pads = add("Concat", _ints(0, 0, 0, 0, 0, 0), add("Sub", wanted, sides), axis=0)
    return add("Pad", tensor, pads, mode="edge")


def _pads(spec: ModelSpec) -> bool:
    return spec.size_multiple > 1 or spec.min_size > 1


def _write_output(add: _Nodes, spec: ModelSpec) -> None:
    """Nodes from `y`, and from `picture` where it carries the colour, to `result`."""
    y = OUTPUT
    if _pads(spec) or spec.is_own:
        size = add("Mul", add.sides(PICTURE, 0, 2), _ints(spec.enlarges, spec.enlarges))
        y = add("Slice", y, _ints(0, 0), size, _ints(2, 3))
    if spec.output == "classes":
        best = add("Squeeze", add("ArgMax", y, axis=1, keepdims=0), _ints(0))
        colours = class_colours(spec.output_planes).astype(np.float32)
        add.cast(add("Gather", colours, best, axis=0), "UINT8", to=RESULT)
        return
    planes = _luma_output(add, y, spec) if spec.output == "luma" else _planes_output(add, y, spec)
    if spec.rounding == "nearest":
        planes = add("Add", planes, _float(0.5))
    if spec.output == "bgr":
        planes = add("Gather", planes, _ints(2, 1, 0), axis=0)
    add.cast(add("Transpose", planes, perm=[1, 2, 0]), "UINT8", to=RESULT)


def _planes_output(add: _Nodes, y: str, spec: ModelSpec) -> str:
    """(3, H, W) float32 in 0..255."""
    low, high = spec.output_range
    planes = add("Clip", add("Squeeze", y, _ints(0)), _float(low), _float(high))
    if (low, high) != (0, 1):
        planes = add("Div", add("Sub", planes, _float(low)), _float(high - low))
    return add("Mul", planes, _float(255))


def _luma_output(add: _Nodes, y: str, spec: ModelSpec) -> str:
    """(3, H, W) float32 in 0..255: luma of the network, chroma of the picture, enlarged."""
    luma = add("Squeeze", y, _ints(0, 1))
    luma = add("Sub", add("Mul", add("Clip", luma, _float(0), _float(1)), _float(255)), _float(16))
    colours = _colour_planes(add)
    rows = [add("Unsqueeze", _weighted(add, colours, weights), _ints(0)) for weights in _TO_CHROMA]
    chroma = _enlarged(add, add("Concat", *rows, axis=0), spec.enlarges)
    parts = [luma, *(add("Gather", chroma, _int(i), axis=0) for i in (0, 1))]
    mixed = [add("Unsqueeze", _weighted(add, parts, weights), _ints(0)) for weights in _FROM_YCC]
    return add("Clip", add("Concat", *mixed, axis=0), _float(0), _float(255))


def _enlarged(add: _Nodes, planes: str, factor: int) -> str:
    """Float32 (C, H, W) enlarged as reference_models/resample.py does: rows, rounding to float32, columns."""
    if factor == 1:
        return planes
    return _enlarged_along(add, _enlarged_along(add, planes, factor, 1), factor, 2)


@dataclass(frozen=True)
class _Axis:
    """One axis that is enlarged."""

    number: int
    """1: rows, 2: columns of (C, H, W)."""
    side: str
    """Its length, int64 (1,)."""
    factor: int


def _enlarged_along(add: _Nodes, planes: str, factor: int, number: int) -> str:
    """One axis; every output is a sum of up to four products, in float64 where it has to be exact."""
    axis = _Axis(number, add.sides(planes, number, number + 1), factor)
    taken = add.cast(planes, "DOUBLE") if add.exact else planes
    wide = add("Gather", taken, _mirrored(add, axis.side), axis=number)
    phases = [add("Unsqueeze", _phase(add, wide, axis, phase), _ints(number + 1)) for phase in range(factor)]
    stacked = add("Concat", *phases, axis=number + 1)  # (C, H, factor, W) or (C, H, W, factor)
    if number == 1:
        shape: Any = add("Concat", _ints(0, -1), add.sides(planes, 2, 3), axis=0)
    else:
        shape = _ints(0, 0, -1)
    flat = add("Reshape", stacked, shape)
    return add.cast(flat, "FLOAT") if add.exact else flat


def _mirrored(add: _Nodes, side: str) -> str:
    """Indices from -_REACH to side + _REACH - 1, folded back at the borders, the edge repeated."""
    length = add("Squeeze", side, _ints(0))
    given = add("Range", _int(-_REACH), add("Add", length, _int(_REACH)), _int(1))
    twice = add("Mul", length, _int(2))
    folded = add("Mod", given, twice)
    return add("Min", folded, add("Sub", add("Sub", twice, _int(1)), folded))


def _phase(add: _Nodes, wide: str, axis: _Axis, phase: int) -> str:
    """The outputs `factor` * n + `phase` for all n."""
    centre = (phase + 0.5) / axis.factor - 0.5
    taps = [tap for tap in range(math.ceil(centre - 2), math.ceil(centre - 2) + 5) if abs(centre - tap) < 2]
    others, terms = _ints(*({0, 1, 2} - {axis.number})), []
    # Without the bits that the exact weights gain with n, they are the same for all n.
    weights = (
        [add("Unsqueeze", weight, others) for weight in _weights(add, axis, phase, taps)]
        if add.exact
        else [np.full((1, 1, 1), weight, np.float32) for weight in _nominal_weights(centre, taps)]
    )
    for tap, weight in zip(taps, weights, strict=True):
        start = _ints(tap + _REACH)
        part = add("Slice", wide, start, add("Add", axis.side, start), _ints(axis.number))
        terms.append(add("Mul", part, weight))
    return functools.reduce(lambda total, term: add("Add", total, term), terms)


def _nominal_weights(centre: float, taps: Sequence[int]) -> np.ndarray:
    """Of one phase, float64, with the sum 1."""
    weights = cubic(centre - np.asarray(taps, np.float64))
    return weights / weights.sum()


def _weights(add: _Nodes, axis: _Axis, phase: int, taps: Sequence[int]) -> list[str]:
    """Per tap its weight for all n, float64 (side,): as `contributions` in reference_models/resample.py computes them,
    whose last bits grow with n where the factor is no power of two."""
    length = add("Squeeze", axis.side, _ints(0))
    n = add.cast(add("Range", _int(0), length, _int(1)), "DOUBLE")
    place = add("Add", add("Mul", n, _double(axis.factor)), _double(phase + 0.5))
    centre = add("Sub", add("Div", place, _double(axis.factor)), _double(0.5))
    nominal = (phase + 0.5) / axis.factor - 0.5
    weights = []
    for tap in taps:
        x = add("Abs", add("Sub", centre, add("Add", n, _double(tap))))
        weights.append(_near(add, x) if abs(nominal - tap) <= 1 else _far(add, x))
    total = functools.reduce(lambda a, b: add("Add", a, b), weights)
    return [add("Div", weight, total) for weight in weights]


def _near(add: _Nodes, x: str) -> str:
    """The cubic kernel up to 1: ((1.5 x - 2.5) x) x + 1, see `cubic` in reference_models/resample.py."""
    inner = add("Sub", add("Mul", x, _double(1.5)), _double(2.5))
    return add("Add", add("Mul", add("Mul", inner, x), x), _double(1))


def _far(add: _Nodes, x: str) -> str:
    """The cubic kernel from 1 to 2: ((-0.5 x + 2.5) x - 4) x + 2."""
    inner = add("Add", add("Mul", x, _double(-0.5)), _double(2.5))
    return add("Add", add("Mul", add("Sub", add("Mul", inner, x), _double(4)), x), _double(2))

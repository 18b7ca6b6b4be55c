"""Confirms by changing pixels what export/receptive_field.py says of a graph: nothing is taken on its word.

The graph is run in ONNX Runtime with every weight positive and every bias zero, on a picture of zeros with large values
at one end: no path from those pixels can cancel out or be rounded away, so what changes is all that they reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from export.network import INPUT, OUTPUT
from export.onnx_file import onnxruntime_session
from export.receptive_field import Reach, Side

_LARGE = 1e12
_ENDS = ("top", "bottom", "left", "right")


@dataclass(frozen=True)
class Proof:
    """One side of the window."""

    end: str
    """`top`, `bottom`, `left` or `right`."""
    said_px: int
    """Output pixels that the graph's reach gives up there."""
    found_px: int
    """Output pixels there that pixels outside of the window do change."""

    @property
    def holds(self) -> bool:
        return self.found_px <= self.said_px


def prove(model: Any, reach: Reach) -> list[Proof]:
    """What pixels outside of a window change inside of it, for its four ends.

    Args:
        model: onnx.ModelProto that `reach` is of; unchanged.

    Raises:
        ValueError: a graph that cannot be tiled, or with a branch of the whole picture, whose pixels reach everything.
    """
    if reach.height is None or reach.width is None or reach.branch:
        raise ValueError("only graphs whose output pixels see a bounded part of the picture can be proven so")
    session = onnxruntime_session(_positive(model))
    planes = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value

    def run(x: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([OUTPUT], {INPUT: x})[0])

    found = []
    for axis, side in ((2, reach.height), (3, reach.width)):
        for at_start in (True, False):
            said = side.before if at_start else side.after
            end = _ENDS[2 * (axis - 2) + (not at_start)]
            found.append(Proof(end, said, _changed(run, planes, (axis, side), at_start)))
    return found


def _changed(run: Callable[[np.ndarray], np.ndarray], planes: int, along: tuple[int, Side], at_start: bool) -> int:
    """Output pixels of a window that change with what lies before (or behind) it."""
    axis, side = along
    outside = side.align * ceil(max(64, side.before, side.after) / side.scale / side.align)
    length = 3 * outside + side.align * ceil(sum(side.halo) / side.align)
    shape = [1, planes, side.align * ceil(64 / side.align), side.align * ceil(64 / side.align)]
    shape[axis] = length
    x = np.zeros(shape, np.float32)
    before = run(x)
    border = outside if at_start else length - outside
    part = [slice(None)] * 4
    part[axis] = slice(0, border) if at_start else slice(border, None)
    x[tuple(part)] = _LARGE
    others = tuple(i for i in range(4) if i != axis)
    changed = np.flatnonzero((run(x) != before).any(axis=others))
    if not changed.size:
        return 0
    border = int(border * side.scale)
    return max(int(changed[-1]) + 1 - border, 0) if at_start else max(border - int(changed[0]), 0)


def _positive(model: Any) -> Any:
    """A copy whose convolutions only add up."""
    import onnx
    from onnx import numpy_helper

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    biases = {n.input[2] for n in copied.graph.node if n.op_type in {"Conv", "ConvTranspose"} and len(n.input) > 2}
    for tensor in copied.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        if tensor.name in biases:
            value = np.zeros(tuple(tensor.dims), np.float32)
        elif len(tensor.dims) >= _KERNEL_RANK:
            value = np.full(tuple(tensor.dims), 1 / np.prod(tensor.dims[1:]), np.float32)
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return copied


_KERNEL_RANK = 4

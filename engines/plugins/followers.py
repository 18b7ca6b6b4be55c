"""What stands behind a tensor in an ONNX graph, as far as a kernel of ours computes it in the same pass.

Each node is the only reader of the one before. Bias, activation and clipping, in this order, then one end: a quantiser,
or the displayable picture as export/picture_graph.py writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from engines.plugins.graph_view import GraphView, attribute
from engines.plugins.last_steps import INT8, PICTURE, LastSteps

_FLOAT, _UINT8 = 1, 2
"""ONNX's numbers of types."""
_BIASED, _ACTIVE, _CLIPPED = range(1, 4)
"""How far an order has come."""


@dataclass(frozen=True)
class Followers:
    """Nodes that one kernel replaces."""

    output: str
    """What the last of them gives."""
    kind: Literal["float", "int8", "picture", "pictures"] = "float"
    steps: LastSteps = field(default_factory=LastSteps)
    bias: Any = None
    """NumPy array (C,) of an Add's constant; None: no Add."""
    nodes: tuple[Any, ...] = ()
    crop: tuple[str, ...] = ()
    """Inputs of a Slice of rows and columns behind the data: starts of 0, ends, axes; empty: nothing is cut off."""

    @property
    def only_slope(self) -> bool:
        """Nothing but what elements below 0 are multiplied by, and a quantiser."""
        return self.bias is None and self.kind in {"float", "int8"} and self._free

    @property
    def only_relu(self) -> bool:
        """Nothing but a ReLU, or not even that, and a quantiser: what int8 computes exactly."""
        return self.only_slope and self.steps.slope in {0.0, 1.0}

    @property
    def _free(self) -> bool:
        return (self.steps.tanh, self.steps.low, self.steps.high) == (False, -np.inf, np.inf)

    def unquantised(self) -> Followers:
        """Without the quantiser at the end."""
        if self.kind != "int8":
            return self
        *nodes, quantiser = self.nodes
        steps = self.steps._replace(output=LastSteps().output, step=1.0)
        return replace(self, output=quantiser.input[0], kind="float", steps=steps, nodes=tuple(nodes))


def followers(
    view: GraphView,
    tensor: str,
    *,
    slope_only: bool = False,
    enlarged: int = 0,
    channels: int = 0,
    pictures: bool = False,
) -> Followers:
    """The longest chain behind this tensor.

    Args:
        slope_only: stop in front of anything that is neither a slope nor a quantiser.
        enlarged: how many rows and columns become of one in front of it: a picture may be cut to multiples of that
            many, which can be done in front. 0: it may not be cut.
        channels: of the tensor; 0: not known, and an Add ends the chain.
        pictures: whether the chain may end with the picture. Else it ends in front of what only a picture has.
    """
    found, stage = Followers(tensor), 0
    while (node := view.only_reader(found.output)) is not None:
        if pictures and not slope_only and (picture := _picture(view, found, enlarged)):
            return picture
        if step := view.step(node, "QuantizeLinear"):
            steps = found.steps._replace(output=INT8, step=step)
            return replace(found, output=node.output[0], kind="int8", steps=steps, nodes=(*found.nodes, node))
        grown = _pointwise(view, node, found, stage, channels)
        if grown is None or (slope_only and not grown[0].only_slope):
            return found
        found, stage = grown
    return found


def _pointwise(view: GraphView, node: Any, found: Followers, stage: int, channels: int) -> tuple[Followers, int] | None:
    """The chain with one more node, and how far the order has come."""
    steps, bias = found.steps, found.bias
    if node.op_type == "Clip" or (node.op_type == "Relu" and stage >= _ACTIVE):
        ends = (0.0, np.inf) if node.op_type == "Relu" else _bounds(view, node)
        if ends is None or max(steps.low, ends[0]) > min(steps.high, ends[1]):
            return None
        steps, stage = steps._replace(low=max(steps.low, ends[0]), high=min(steps.high, ends[1])), _CLIPPED
    elif node.op_type == "Add" and stage < _BIASED:
        bias, stage = _channel_constant(view, node, found.output, channels), _BIASED
        if bias is None:
            return None
    elif stage < _ACTIVE and node.op_type == "Tanh":
        steps, stage = steps._replace(tanh=True), _ACTIVE
    elif stage < _ACTIVE and (slope := _slope(view, node)) is not None and node.input[0] == found.output:
        steps, stage = steps._replace(slope=slope), _ACTIVE
    else:
        return None
    return replace(found, output=node.output[0], steps=steps, bias=bias, nodes=(*found.nodes, node)), stage


def _slope(view: GraphView, node: Any) -> float | None:
    """Of an activation that multiplies what is below 0 by one number."""
    if node.op_type == "Relu":
        return 0.0
    if node.op_type == "LeakyRelu":
        return float(attribute(node, "alpha", 0.01))
    return view.number(node.input[1]) if node.op_type == "PRelu" else None


def _bounds(view: GraphView, node: Any) -> tuple[float, float] | None:
    """Of a Clip; None where they are computed."""
    found = []
    for place, none in ((1, -np.inf), (2, np.inf)):
        given = len(node.input) > place and node.input[place]
        number = view.number(node.input[place]) if given else float(none)
        if number is None:
            return None
        found.append(number)
    return found[0], found[1]


def _channel_constant(view: GraphView, node: Any, tensor: str, channels: int) -> Any | None:
    """(C,) where one side of an Add is a constant, or one per channel, of an image of this many channels."""
    others = [name for name in node.input if name != tensor]
    value = view.constant(others[0]) if len(others) == 1 else None
    if value is None:
        return None
    shape = (1,) * (4 - value.ndim) + value.shape
    if len(shape) != 4 or max(shape[0], *shape[2:]) > 1 or not channels or shape[1] not in {1, channels}:
        return None
    return np.broadcast_to(value.reshape(-1), channels)


@dataclass
class _Planes:
    """State of a tensor on its way to a picture."""

    low: float
    high: float
    axes: list[str] = field(default_factory=lambda: ["n", "c", "h", "w"])
    zero: float = 0.0
    unit: float = 1.0
    """A tensor's values are (y - zero) / unit, times 255 where `scaled`."""
    scaled: bool = False
    added: float | None = None
    floored: bool = False
    bytes: bool = False
    crop: tuple[str, ...] = ()


def _picture(view: GraphView, found: Followers, enlarged: int) -> Followers | None:
    """The chain up to a uint8 picture whose channels come last, in whichever order its axes and type are changed."""
    state, nodes, tensor, whole = _Planes(found.steps.low, found.steps.high), list(found.nodes), found.output, None
    while (node := view.only_reader(tensor)) is not None and (
        _cropped(view, node, state, enlarged) or _towards_picture(view, node, tensor, state)
    ):
        nodes.append(node)
        tensor = node.output[0]
        if state.bytes and state.axes[-3:] == ["h", "w", "c"]:
            picture: dict[str, Any] = {"rounding": state.added or 0.0, "zero": state.zero, "gain": 255 / state.unit}
            steps = found.steps._replace(low=state.low, high=state.high, output=PICTURE, **picture)
            kind: Any = "pictures" if state.axes[0] == "n" else "picture"
            whole = replace(found, output=tensor, kind=kind, steps=steps, nodes=tuple(nodes), crop=state.crop)
    return whole


def _cropped(view: GraphView, node: Any, state: _Planes, enlarged: int) -> bool:
    """Whether this is a Slice from the first row and column to a multiple of `enlarged`; noted in the state."""
    if not enlarged or node.op_type != "Slice" or state.crop or state.axes != ["n", "c", "h", "w"]:
        return False
    _, *where = node.input
    plain = len(where) == 3 and view.number(where[0]) == 0
    if not plain or np.asarray(view.constant(where[2])).tolist() != [2, 3]:
        return False
    ends = view.constant(where[1])
    if ends is None and (made := view.made.get(where[1])) is not None and made.op_type == "Mul":
        factors = [view.constant(name) for name in made.input]
        ends = next((factor for factor in factors if factor is not None), None)
    if ends is None or np.any(np.asarray(ends) % enlarged):
        return False
    state.crop = tuple(where)
    return True


def _towards_picture(view: GraphView, node: Any, tensor: str, state: _Planes) -> bool:
    """Whether this node may stand in the chain; notes in the state what it does."""
    if node.op_type in {"Squeeze", "Unsqueeze", "Transpose", "Identity"}:
        return _moved_axes(view, node, state)
    if state.bytes:
        return False
    if node.op_type == "Cast":
        kind = attribute(node, "to", 0)
        within = state.low >= state.zero and state.high <= state.zero + state.unit
        state.bytes = kind == _UINT8 and state.scaled and within
        return state.bytes or (kind == _FLOAT and not state.scaled)
    if node.op_type == "Clip":
        ends, unit = _bounds(view, node), state.unit / (255 if state.scaled else 1)
        if ends is None or state.added is not None:
            return False
        low, high = (end * unit + state.zero for end in ends)
        state.low, state.high = max(state.low, low), min(state.high, high)
        return state.low <= state.high
    if node.op_type == "Floor":
        state.floored = state.scaled
        return state.scaled
    number = _float_number(view, node, tensor)
    if number is not None and not state.scaled and state.unit == 1 and node.input[0] == tensor:
        if node.op_type == "Sub" and not state.zero:
            state.zero = number
            return True
        if node.op_type == "Div" and number > 0:
            state.unit = number
            return True
    if node.op_type == "Mul" and number == 255 and not state.scaled:
        state.scaled = True
        return True
    if node.op_type == "Add" and number is not None and 0 <= number < 1 and state.scaled and state.added is None:
        # What is added to whole levels moves none of them: that is no rounding.
        state.added = number
        return not state.floored
    return False


def _moved_axes(view: GraphView, node: Any, state: _Planes) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Transpose":
        order = attribute(node, "perm", list(range(len(state.axes)))[::-1])
        state.axes = [state.axes[i] for i in order]
        return True
    given = view.constant(node.input[1]) if len(node.input) > 1 else np.array(attribute(node, "axes", []))
    if given is None or given.ravel().tolist() != [0]:
        return False
    if node.op_type == "Squeeze" and state.axes[0] == "n":
        state.axes = state.axes[1:]
        return True
    if node.op_type == "Unsqueeze" and "n" not in state.axes:
        state.axes = ["n", *state.axes]
        return True
    return False


def _float_number(view: GraphView, node: Any, tensor: str) -> float | None:
    """The one number of float32 that a node combines with this tensor: halves would round the grey levels."""
    others = [name for name in node.input if name != tensor]
    if len(others) != 1 or view.type_of(others[0]) != _FLOAT:
        return None
    return view.number(others[0])

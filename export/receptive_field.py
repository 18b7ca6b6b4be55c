"""An ONNX file → what a tile of the picture must have around it, proven from the graph, or why nothing is enough.

A window of the input is followed through every node (export/span_rules.py): what comes out at the positions that depend
on nothing outside of the window is what comes out for the whole picture. Nothing is run here; export/reach_proof.py
confirms it by changing pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from math import lcm
from pathlib import Path
from typing import Any

from export.span_rules import Fixed, Local, Node, Value, Whole, WholePictureError, size_of
from export.span_table import RULES
from export.spans import NotTileableError, Span

_FIRST_WINDOW_PX, _LAST_WINDOW_PX = 2048, 1 << 15
"""Windows are tried from this side on; a halo that fits into none of them is as good as the whole picture."""


@dataclass(frozen=True)
class Side:
    """Height or width."""

    before: int
    """Output pixels that are not the whole picture's, at the end of a window where rows or columns begin."""
    after: int
    align: int
    """Windows begin at multiples of this many input pixels, and their size leaves the picture's remainder."""
    scale: Fraction
    """Output pixels per input pixel."""

    @property
    def halo(self) -> tuple[int, int]:
        """Input pixels around what is kept, before and after it."""
        return -int(-self.before // self.scale), -int(-self.after // self.scale)


@dataclass(frozen=True)
class Reach:
    """What is known of tiling one graph."""

    height: Side | None
    """None where `refusal` says why."""
    width: Side | None
    refusal: str = ""
    """Why no halo is enough: the first node that says so; empty where one is, beside `branch`."""
    branch: tuple[str, ...] = ()
    """Tensors that depend on the whole picture, can be computed once, and with which the rest can be tiled."""
    branch_nodes: tuple[str, ...] = ()
    """The nodes that make them need the whole picture, in words."""

    @property
    def halo_px(self) -> dict[str, int] | None:
        """Input pixels per side."""
        if self.height is None or self.width is None:
            return None
        (top, bottom), (left, right) = self.height.halo, self.width.halo
        return {"left": left, "right": right, "top": top, "bottom": bottom}

    @property
    def scales(self) -> tuple[Fraction, Fraction]:
        """Output pixels per input pixel, along height and width."""
        assert self.height is not None
        assert self.width is not None
        return self.height.scale, self.width.scale

    def to_dict(self) -> dict[str, Any]:
        sides = {
            name: side and {**asdict(side), "scale": str(side.scale)}
            for name, side in (("height", self.height), ("width", self.width))
        }
        return {**sides, "refusal": self.refusal, "branch": self.branch, "branch_nodes": self.branch_nodes}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Reach:
        height, width = (
            Side(**{**data[name], "scale": Fraction(data[name]["scale"])}) if data[name] else None
            for name in ("height", "width")
        )
        return Reach(height, width, data["refusal"], tuple(data["branch"]), tuple(data["branch_nodes"]))


def receptive_field(path: str | Path, size: tuple[int, int] = (0, 0)) -> Reach:
    """What one has to know to tile the graph of an ONNX file, for pictures whose height and width leave the same
    remainders as `size`; (0, 0): a multiple of all that the graph divides by."""
    import onnx

    return reach_of(onnx.load(str(path)), size)


def reach_of(model: Any, size: tuple[int, int] = (0, 0)) -> Reach:
    """As `receptive_field`, of an onnx.ModelProto, which stays as it is."""
    import onnx.inliner

    from export.pixel_shuffle import fuse_pixel_shuffle

    if model.functions:  # plugins carry what they compute as a function of standard operators
        model = onnx.inliner.inline_local_functions(model)
    try:
        first = _at(model, size, 1)
    except NotTileableError:
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        if not fuse_pixel_shuffle(copied):
            return _refusal_of(model, size)
        model = copied
        try:
            first = _at(model, size, 1)
        except NotTileableError as error:
            return Reach(None, None, str(error))
    try:
        return first if _at(model, size, 3) == first else Reach(None, None, _UNSTEADY)
    except NotTileableError as error:
        return Reach(None, None, str(error))


_UNSTEADY = "what a window needs changes with its size, as where numbers are computed from the size"


def _refusal_of(model: Any, size: tuple[int, int]) -> Reach:
    try:
        return _at(model, size, 1)
    except NotTileableError as error:
        return Reach(None, None, str(error))


def _at(model: Any, size: tuple[int, int], more: int) -> Reach:
    """From windows `more` alignments above a power of two, as small as the halo allows."""
    window = _FIRST_WINDOW_PX
    aligns = (64, 64)
    while window <= _LAST_WINDOW_PX:
        # The first look only finds the alignments: the remainder of a size is of these.
        taken = [window + side % align + more * align * 16 for side, align in zip(size, aligns, strict=True)]
        walk = Walk(model, (taken[0], taken[1]))
        sides = walk.sides()
        found = (sides[0].align, sides[1].align)
        if found != aligns:
            aligns = found
            continue
        if walk.enough:
            return walk.reach(sides)
        window *= 2
    raise NotTileableError(f"an output pixel sees more than {_LAST_WINDOW_PX} input pixels")


class Walk:
    """One window followed through one graph."""

    def __init__(self, model: Any, window: tuple[int, int]) -> None:
        self.graph, self.window = model.graph, window
        self.shapes = _shapes(model, window)
        self._opset = max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=1)
        self.values: dict[str, Value] = {i.name: Fixed(tuple(i.dims)) for i in self.graph.initializer}
        self._constants: dict[str, Any] = {i.name: i for i in self.graph.initializer}
        self._scales: list[Fraction] = [Fraction(1)]
        self.whole: list[tuple[Any, str]] = []
        """Nodes that need the whole picture, and how."""
        x = self.graph.input[0]
        planes = x.type.tensor_type.shape.dim[1].dim_value
        spans = tuple(Span(side, Fraction(1), n, 0, n) for side, n in enumerate(window))
        self.values[x.name] = Local((1, planes, *spans))
        for node in self.graph.node:
            self._follow(node)

    @property
    def _output(self) -> Value:
        return self.values[self.graph.output[0].name]

    def sides(self) -> tuple[Side, Side]:
        """
        Raises:
            NotTileableError: what comes out is no picture, or depends on the whole of what goes in.
        """
        out = self._output
        spans = out.dims[2:] if isinstance(out, Local) and len(out.dims) == 4 else ()
        if len(spans) != 2 or not all(isinstance(s, Span) and s.side == i for i, s in enumerate(spans)):
            if self.whole:
                raise NotTileableError(_words(*self.whole[0]))
            raise NotTileableError("what comes out is not (1, C, height, width)")
        align = lcm(*(scale.denominator for scale in self._scales))
        found = []
        for span in spans:
            assert isinstance(span, Span)
            if span.size != span.scale * self.window[span.side]:
                raise NotTileableError("what comes out is no multiple of what goes in: it is cropped, or not padded")
            found.append(Side(span.first, span.size - span.last, align, span.scale))
        return found[0], found[1]

    @property
    def enough(self) -> bool:
        """Whether the window is large enough to know the halo from it."""
        spans = [axis for value in self.values.values() if isinstance(value, Local) for axis in value.dims]
        return all(2 * (s.last - s.first) > s.size for s in spans if isinstance(s, Span))

    def reach(self, sides: tuple[Side, Side]) -> Reach:
        if not self.whole:
            return Reach(*sides)
        if words := self._inseparable():
            raise NotTileableError(words)
        return Reach(*sides, branch=self.cut(), branch_nodes=tuple(_words(*pair) for pair in self.whole))

    def cut(self) -> tuple[str, ...]:
        """Tensors of the whole picture that nodes of its parts read."""
        found = [
            name
            for node in self.graph.node
            if any(isinstance(self.values[out], Local) for out in node.output if out)
            for name in node.input
            if isinstance(self.values.get(name), Whole)
        ]
        return tuple(dict.fromkeys(found))

    def _inseparable(self) -> str:
        """Why the branch that needs the whole picture cannot be computed apart, at little cost; empty where it can."""
        made = {out: node for node in self.graph.node for out in node.output}
        for node, how in self.whole:
            names = [name for name in node.input if isinstance(self.values.get(name), Local)]
            while names:
                name = names.pop()
                if name not in made:
                    continue
                if RULES[made[name].op_type].__name__ not in {"elementwise", "first_input"}:
                    return _words(node, how)  # all layers before it would have to run on the whole picture first
                names += [n for n in made[name].input if isinstance(self.values.get(n), Local)]
        return ""

    def _follow(self, node: Any) -> None:
        inputs = [self.values.get(name) if name else None for name in node.input]
        if any(name and name not in self.values for name in node.input):
            raise NotTileableError(f"{_name(node)}: reads a tensor that nothing makes")
        known = [v for v in inputs if v is not None]
        if node.op_type in {"Shape", "Size"}:
            made: Iterator[Value] = (Fixed(self._shape(out), True) for out in node.output)
        elif all(isinstance(v, Fixed) for v in known):
            self._constants |= dict.fromkeys(node.output, node)
            sized = any(isinstance(v, Fixed) and v.sized for v in known)
            made = (Fixed(self._shape(out), sized) for out in node.output)
        elif not any(isinstance(v, Local) for v in known):
            made = (Whole(self._shape(out)) for out in node.output)
        else:
            made = self._locals(node, inputs)
        for name, value in zip(node.output, made, strict=True):
            self.values[name] = value
            if isinstance(value, Local):
                self._scales += [axis.scale for axis in value.dims if isinstance(axis, Span)]

    def _locals(self, node: Any, inputs: list[Value | None]) -> Iterator[Value]:
        """Of a node that reads parts of the picture."""
        from onnx import helper

        if node.domain not in {"", "ai.onnx"} or node.op_type not in RULES:
            raise NotTileableError(f"{_name(node)}: no rule says what this operator reads")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        for out in node.output:
            value = partial(self._value_of, node)
            asked = Node(node.op_type, attributes, inputs, value, self._shape(out), self._opset)
            try:
                yield Local(RULES[node.op_type](asked))
            except WholePictureError as error:
                if not self.whole or self.whole[-1][0] is not node:
                    self.whole.append((node, str(error)))
                yield Whole(self._shape(out))
            except NotTileableError as error:
                raise NotTileableError(_words(node, str(error))) from None

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name, ())

    def _value_of(self, node: Any, number: int) -> Any:
        return self._value(node.input[number])

    def _value(self, name: str) -> Any:
        """Of a tensor that does not depend on the picture's content; None where it does."""
        import numpy as np
        from onnx import numpy_helper
        from onnx.reference import ReferenceEvaluator

        made = self._constants.get(name)
        if made is None:
            return None
        if hasattr(made, "dims"):
            return numpy_helper.to_array(made)
        if made.op_type in {"Shape", "Size"}:
            shape = np.array([size_of(axis) for axis in self._dims(made.input[0])], np.int64)
            part = shape[self._bound(made, "start") : self._bound(made, "end")]
            return part if made.op_type == "Shape" else np.array(shape.prod())
        inputs = {name: self._value(name) for name in made.input if name}
        if any(value is None for value in inputs.values()):
            return None
        outputs: Any = ReferenceEvaluator(made).run(None, inputs)
        return outputs[list(made.output).index(name)]

    @staticmethod
    def _bound(shape: Any, word: str) -> int | None:
        return next((int(a.i) for a in shape.attribute if a.name == word), None)

    def _dims(self, name: str) -> tuple[Any, ...]:
        value = self.values[name]
        return value.dims if isinstance(value, Local) else value.shape


def _shapes(model: Any, window: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    from export.work import sized_shapes

    planes = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return sized_shapes(model, (1, planes, *window))


def _name(node: Any) -> str:
    kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return f"node `{node.name or node.output[0]}` ({kind})"


def _words(node: Any, how: str) -> str:
    return f"{_name(node)}: {how}"

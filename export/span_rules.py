"""What every operator of ONNX makes of windows of the picture: operator → rule over spans (export/spans.py).

A tensor is Fixed (it does not depend on the picture's content), Local (some of its axes are spans) or Whole (it depends
on all of the picture). An operator without a rule is refused by its name: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

from export.spans import (
    NotTileableError,
    Span,
    Taps,
    convolved,
    cut,
    deconvolved,
    gathered,
    met,
    padded,
    resampling,
    resized,
    spread,
)

Axis = int | Span
Dims = tuple[Axis, ...]


@dataclass(frozen=True)
class Fixed:
    """A tensor that is the same for every picture of one size."""

    shape: tuple[int, ...]
    sized: bool = False
    """It follows from the picture's size."""


@dataclass(frozen=True)
class Local:
    """A tensor of which a window holds a part."""

    dims: Dims


@dataclass(frozen=True)
class Whole:
    """A tensor that needs all of the picture."""

    shape: tuple[int, ...]


Value = Fixed | Local | Whole


class WholePictureError(Exception):
    """A node that sees all of the picture; the message says how."""


@dataclass(frozen=True)
class Node:
    """A node with all that a rule asks for."""

    op: str
    attributes: dict[str, Any]
    inputs: Sequence[Value | None]
    """None where an optional input is left out."""
    constant: Callable[[int], Any]
    """Number of an input → its value, None where that is not known."""
    out_shape: tuple[int, ...]
    """Of the first output, as shapes are inferred; empty where they are not."""
    opset: int = 13
    """Of the standard operators: some had another meaning in an earlier one."""

    def dims(self, number: int = 0) -> Dims:
        value = self.inputs[number]
        if isinstance(value, Local):
            return value.dims
        raise NotTileableError("takes a part of the picture where a constant is expected, or the reverse")

    def ints(self, name: str, number: int | None = None) -> list[int] | None:
        """An attribute, or the input that has taken its place in later opsets."""
        if name in self.attributes:
            found = self.attributes[name]
            return [int(v) for v in found] if isinstance(found, Sequence) else [int(found)]
        if number is not None and number < len(self.inputs) and self.inputs[number] is not None:
            value = self.constant(number)
            if value is None:
                raise NotTileableError(f"its {name} are computed from the picture")
            return [int(v) for v in value.reshape(-1)]
        return None


Rule = Callable[[Node], Dims]


def size_of(axis: Axis) -> int:
    return axis.size if isinstance(axis, Span) else axis


def elementwise(node: Node) -> Dims:
    """Operands broadcast to each other, aligned at their last axis."""
    rank = max(len(_axes(v)) for v in node.inputs if v is not None)
    out: list[Axis] = [1] * rank
    for value in (v for v in node.inputs if v is not None):
        axes = _axes(value)
        for i, axis in enumerate(axes, rank - len(axes)):
            out[i] = _broadcast(out[i], axis)
        if isinstance(value, Fixed) and value.sized:
            raise NotTileableError("computes with the size of the picture")
    return tuple(out)


def _axes(value: Value) -> Dims:
    return value.dims if isinstance(value, Local) else value.shape


def _broadcast(a: Axis, b: Axis) -> Axis:
    if isinstance(a, Span) and isinstance(b, Span):
        return met(a, b)
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    span, other = (a, b) if isinstance(a, Span) else (b, a)
    if other != 1:
        raise NotTileableError(f"joins the picture with a tensor of {other} fixed positions along its side")
    return span


def first_input(node: Node) -> Dims:
    """Position by position, with parameters that are no larger than one axis."""
    for value in node.inputs[1:]:
        if isinstance(value, Local):
            raise NotTileableError("its parameters are computed from the picture")
    return node.dims()


def _taps(node: Node, kernel: Sequence[int], spans: Sequence[Axis]) -> list[Taps]:
    """
    Raises:
        NotTileableError: an axis of the kernel that lies on no side of the picture and is longer than one.
    """
    n = len(kernel)
    a = node.attributes
    strides, dilations = a.get("strides") or [1] * n, a.get("dilations") or [1] * n
    pads = a.get("pads") or [0] * 2 * n
    auto = a.get("auto_pad", b"NOTSET").decode()
    if auto == "VALID":
        pads = [0] * 2 * n
    found = []
    for i in range(n):
        taps = Taps(kernel[i], strides[i], dilations[i], pads[i], pads[n + i], bool(a.get("ceil_mode")))
        if auto.startswith("SAME"):
            taps = taps.same(size_of(spans[i]), auto == "SAME_UPPER")
        found.append(taps)
    return found


def _windows(node: Node, kernel: Sequence[int], planes: int) -> Dims:
    dims = node.dims()
    if any(isinstance(axis, Span) for axis in dims[:2]):
        raise NotTileableError("takes a side of the picture for its channels")
    out: list[Axis] = [dims[0], planes]
    for axis, taps in zip(dims[2:], _taps(node, kernel, dims[2:]), strict=True):
        out.append(convolved(axis, taps) if isinstance(axis, Span) else taps.out_size(axis))
    return tuple(out)


def convolution(weight: int) -> Rule:
    def rule(node: Node) -> Dims:
        kernel = node.inputs[weight]
        if not isinstance(kernel, Fixed):
            raise NotTileableError("its weights are computed from the picture")
        return _windows(node, kernel.shape[2:], kernel.shape[0])

    return rule


def pooling(node: Node) -> Dims:
    return _windows(node, node.attributes["kernel_shape"], size_of(node.dims()[1]))


def deconvolution(node: Node) -> Dims:
    dims, weight, a = node.dims(), node.inputs[1], node.attributes
    if not isinstance(weight, Fixed) or a.get("output_shape"):
        raise NotTileableError("its weights or its output's size are computed from the picture, or fixed")
    n = len(weight.shape) - 2
    extra = a.get("output_padding") or [0] * n
    auto = a.get("auto_pad", b"NOTSET").decode()
    out: list[Axis] = [dims[0], weight.shape[1] * a.get("group", 1)]
    plain = replace(node, attributes={**a, "auto_pad": b"NOTSET"})
    for axis, read, more in zip(dims[2:], _taps(plain, weight.shape[2:], dims[2:]), extra, strict=True):
        taps = read
        if not isinstance(axis, Span):
            raise NotTileableError("enlarges an axis that is no side of the picture")
        if auto.startswith("SAME"):
            total = max(taps.reach + 1 + more - taps.stride, 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            taps = Taps(taps.kernel, taps.stride, taps.dilation, before, total - before)
        out.append(deconvolved(axis, taps, more))
    return tuple(out)


def depth_to_space(node: Node) -> Dims:
    n, c, h, w = node.dims()
    block = node.attributes["blocksize"]
    if not (isinstance(h, Span) and isinstance(w, Span)):
        raise NotTileableError("moves channels onto axes that are no sides of the picture")
    return n, size_of(c) // block**2, spread(h, block), spread(w, block)


def space_to_depth(node: Node) -> Dims:
    n, c, h, w = node.dims()
    block = node.attributes["blocksize"]
    if not (isinstance(h, Span) and isinstance(w, Span)):
        raise NotTileableError("takes axes that are no sides of the picture")
    return n, size_of(c) * block**2, gathered(h, block), gathered(w, block)


def resize(node: Node) -> Dims:
    a, dims = node.attributes, node.dims()
    upsample = node.op == "Upsample"
    out = node.out_shape
    if len(out) != len(dims) or a.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise NotTileableError("its size is computed from the picture")
    mode = a.get("mode", b"nearest").decode()
    transform = "asymmetric" if upsample else a.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = a.get("nearest_mode", b"floor" if upsample else b"round_prefer_floor").decode()
    sizes = None if upsample or len(node.inputs) < 4 else node.inputs[3]
    found: list[Axis] = []
    for axis, size in zip(dims, out, strict=True):
        if not isinstance(axis, Span) or axis.size == size:
            found.append(axis if isinstance(axis, Span) else size)
            continue
        if isinstance(sizes, Fixed) and not sizes.sized:
            raise WholePictureError(f"reduces the whole picture to {out[-1]}x{out[-2]}")
        scale = Fraction(size, axis.size)
        reads = resampling(
            scale, "linear" if mode == "bilinear" else mode, transform, rounding, bool(a.get("antialias"))
        )
        found.append(resized(axis, size, reads))
    return tuple(found)


def pad(node: Node) -> Dims:
    dims, pads = node.dims(), node.ints("pads", 1)
    if node.attributes.get("mode", b"constant") not in {b"constant", b"edge", b"reflect"} or pads is None:
        raise NotTileableError("repeats the other end of the picture")
    axes = node.ints("axes", 3) or list(range(len(dims)))
    out = list(dims)
    for number, axis in enumerate(axes):
        before, after, old = pads[number], pads[len(axes) + number], dims[axis % len(dims)]
        out[axis % len(dims)] = padded(old, before, after) if isinstance(old, Span) else old + before + after
    return tuple(out)


def sliced(node: Node) -> Dims:
    dims = node.dims()
    starts, ends = node.ints("starts", 1) or [], node.ints("ends", 2) or []
    axes, steps = node.ints("axes", 3) or list(range(len(starts))), node.ints("steps", 4) or [1] * len(starts)
    out = list(dims)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        old = out[axis % len(dims)]
        size = len(range(size_of(old))[slice(start, end if abs(end) < 1 << 31 else None, step)])
        if isinstance(old, Span):
            end_input = node.inputs[2] if len(node.inputs) > 2 else None
            if start < 0 or step < 1:
                raise NotTileableError("counts from the end of the picture, or backwards")
            if 0 <= end < old.size and not (isinstance(end_input, Fixed) and end_input.sized):
                raise NotTileableError(f"takes a fixed part of the picture, up to {end}")
            out[axis % len(dims)] = cut(old, start, step, size)
        else:
            out[axis % len(dims)] = size
    return tuple(out)


def concat(node: Node) -> Dims:
    every = [_axes(v) for v in node.inputs if v is not None]
    axis = node.attributes["axis"] % len(every[0])
    out: list[Axis] = []
    for i, axes in enumerate(zip(*every, strict=True)):
        if i == axis:
            if any(isinstance(a, Span) for a in axes):
                raise NotTileableError("joins pictures along a side")
            out.append(sum(size_of(a) for a in axes))
            continue
        spans = [a for a in axes if isinstance(a, Span)]
        if spans and len(spans) < len(axes):
            raise NotTileableError("joins the picture with a tensor of fixed size")
        joined: Axis = axes[0]
        for span in spans[1:]:
            joined = met(joined, span)  # type: ignore[arg-type]
        out.append(joined)
    return tuple(out)


def gather(node: Node) -> Dims:
    dims, indices = node.dims(), node.inputs[1]
    axis = node.attributes.get("axis", 0) % len(dims)
    if isinstance(dims[axis], Span) or not isinstance(indices, Fixed):
        raise NotTileableError("picks positions of the picture")
    return (*dims[:axis], *indices.shape, *dims[axis + 1 :])


def split(node: Node) -> Dims:
    dims = node.dims()
    axis = node.attributes.get("axis", 0) % len(dims)
    if isinstance(dims[axis], Span):
        raise NotTileableError("splits the picture along a side")
    return tuple(size if i == axis else old for i, (old, size) in enumerate(zip(dims, node.out_shape, strict=True)))


def transpose(node: Node) -> Dims:
    dims = node.dims()
    return tuple(dims[i] for i in node.attributes.get("perm") or range(len(dims))[::-1])


def reshape(node: Node) -> Dims:
    """Axes are matched in groups of equal length; a side may be split into (side, r), and (side, r) become a side."""
    if not node.out_shape:
        raise NotTileableError("its shape is computed from the picture")
    dims, out = list(node.dims()), list(node.out_shape)
    found: list[Axis] = []
    while dims or out:
        before, after = [dims.pop(0)] if dims else [], [out.pop(0)] if out else []
        while prod(map(size_of, before)) != prod(after):
            if prod(map(size_of, before)) < prod(after):
                before.append(dims.pop(0))
            else:
                after.append(out.pop(0))
        found += _group(before, after)
    return tuple(found)


def _group(before: list[Axis], after: list[int]) -> list[Axis]:
    spans = [axis for axis in before if isinstance(axis, Span)]
    if not spans:
        return list(after)
    if len(spans) > 1:
        raise WholePictureError("flattens the picture")
    span, at = spans[0], before.index(spans[0])
    if prod(map(size_of, before[:at])) != 1:
        raise NotTileableError("mixes channels into a side of the picture")
    long = [size for size in after if size != 1]
    inner = prod(map(size_of, before[at + 1 :]))
    merged = spread(span, inner)
    rest = prod(long[1:])
    kept = gathered(merged, rest) if rest > 1 else merged
    place = next(i for i, size in enumerate(after) if size != 1)
    return [kept if i == place else size for i, size in enumerate(after)]

"""ONNX graph → differentiable torch function, for what must be learned over a graph that others only run.

Covers the operators of image-to-image networks; a graph with another one is refused by name. No randomness, no control
flow. Not for timing: nothing here is fused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Any], Attributes], Any]
Seen = Callable[[str, Tensor], Tensor]
"""Name and value of a tensor → the value that its readers get."""


def unsupported(model: Any) -> list[str]:
    """Operators of the graph that this file lacks, sorted."""
    return sorted({node.op_type for node in model.graph.node} - OPERATORS.keys() - {"Constant"})


class TorchGraph:
    """An ONNX model, ready to run on torch tensors."""

    def __init__(self, model: Any) -> None:
        """
        Raises:
            ValueError: operators that this file lacks.
        """
        from onnx import numpy_helper

        if missing := unsupported(model):
            raise ValueError(f"no torch form of {', '.join(missing)}")
        self._steps: list[tuple[Operator, list[str], list[str], Attributes]] = []
        self.constants = {i.name: _tensor(numpy_helper.to_array(i)) for i in model.graph.initializer}
        for node in model.graph.node:
            attributes = {a.name: _attribute(a) for a in node.attribute}
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _constant(attributes)
                continue
            self._steps.append((OPERATORS[node.op_type], list(node.input), list(node.output), attributes))
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        self._last_use = {name: i for i, (_, inputs, _, _) in enumerate(self._steps) for name in inputs}

    def __call__(self, x: Tensor, replaced: Mapping[str, Tensor] | None = None, seen: Seen | None = None) -> Tensor:
        """The graph's output.

        Args:
            x: the input.
            replaced: constants to use in place of the graph's own.
            seen: called with every tensor that a node made, and with the input.
        """
        values: dict[str, Any] = {"": None, **self.constants, **(replaced or {})}
        values[self._input] = seen(self._input, x) if seen else x
        for number, (operator, inputs, outputs, attributes) in enumerate(self._steps):
            result = operator([values[name] for name in inputs], attributes)
            values[outputs[0]] = seen(outputs[0], result) if seen else result
            for name in inputs:  # what nobody reads again is freed
                if self._last_use[name] == number and name != self._output and name not in self.constants:
                    values.pop(name, None)
        return values[self._output]


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.name == "float8_e4m3fn":  # of ml_dtypes, which torch does not read
        return torch.from_numpy(np.array(array).view(np.uint8)).view(torch.float8_e4m3fn)
    return torch.from_numpy(np.array(array))


def _attribute(attribute: Any) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _constant(attributes: Attributes) -> Tensor:
    from onnx import numpy_helper

    ((name, value),) = attributes.items()
    return _tensor(numpy_helper.to_array(value)) if name == "value" else torch.tensor(value)


def _list(value: Any) -> list[int]:
    return [] if value is None else [int(v) for v in value.reshape(-1)]


def _conv(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, weight, bias = (*inputs, None)[:3]
    begin, end = _pads(attributes, weight)
    if begin != end:
        x = F.pad(x, (begin[1], end[1], begin[0], end[0]))
        begin = [0, 0]
    one = [1, 1]
    return F.conv2d(
        x, weight, bias, attributes.get("strides", one), begin, attributes.get("dilations", one),
        attributes.get("group", 1),
    )  # fmt: skip


def _conv_transpose(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, weight, bias = (*inputs, None)[:3]
    one, more = [1, 1], attributes.get("output_padding", [0, 0])
    begin, end = _pads(attributes, weight)
    if "output_shape" in attributes:
        raise ValueError("ConvTranspose with output_shape")
    y = F.conv_transpose2d(
        x, weight, None, attributes.get("strides", one), 0, 0, attributes.get("group", 1),
        attributes.get("dilations", one),
    )  # fmt: skip
    # torch's own padding is the same on both sides, and its output_padding less than a stride.
    y = F.pad(y, (-begin[1], more[1] - end[1], -begin[0], more[0] - end[0]))
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _pads(attributes: Attributes, plane: Tensor) -> tuple[list[int], list[int]]:
    if plane.ndim != 4:
        raise ValueError(f"{plane.ndim - 2} spatial axes in place of 2")
    if attributes.get("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        raise ValueError(f"auto_pad {attributes['auto_pad']}")
    pads = list(attributes.get("pads", [0] * 4))
    return pads[:2], pads[2:]


def _pool(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x = inputs[0]
    begin, end = _pads(attributes, x)
    if begin != end:
        x = F.pad(x, (begin[1], end[1], begin[0], end[0]), value=-torch.inf)
        begin = [0, 0]
    kernel = attributes["kernel_shape"]
    strides, ceil = attributes.get("strides", [1, 1]), bool(attributes.get("ceil_mode", 0))
    return F.max_pool2d(x, kernel, strides, begin, attributes.get("dilations", [1, 1]), ceil)


def _depth_to_space(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, r = inputs[0], attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, r)
    n, c, h, w = x.shape
    return x.reshape(n, r, r, c // r**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // r**2, h * r, w * r)


_NEAREST = ("half_pixel", "round_")


def _resize(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, _, scales, sizes = (*inputs, None, None, None)[:4]
    mode, placing = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    if "axes" in attributes or attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ValueError("Resize with axes or keep_aspect_ratio_policy")
    exact = _list(sizes) or [s * float(f) for s, f in zip(x.shape, scales, strict=True)]
    size = [round(s) for s in exact[2:]]
    if [*x.shape[:2], *size] != exact:  # torch scales by what the sides make, ONNX by what is written
        raise ValueError(f"Resize from {tuple(x.shape)} to {exact}")
    if mode == "nearest":
        # torch takes the floor of asymmetric coordinates; where sides grow by whole factors, half-pixel ones rounded
        # to nearest are the same.
        rounding = attributes.get("nearest_mode", "round_prefer_floor")
        whole = not any(new % old for new, old in zip(size, x.shape[2:], strict=True))
        if not (rounding == "floor" if placing == "asymmetric" else whole and (placing, rounding[:6]) == _NEAREST):
            raise ValueError(f"Resize nearest {placing} {rounding} from {tuple(x.shape[2:])} to {size}")
        return F.interpolate(x, size=size, mode="nearest")
    anti = bool(attributes.get("antialias", 0))  # at the borders torch leaves out what lies beyond them
    if anti and not attributes.get("exclude_outside", 0):
        raise ValueError("Resize antialias without exclude_outside")
    if mode != "linear" or placing not in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        raise ValueError(f"Resize {mode} {placing}")
    return F.interpolate(x, size=size, mode="bilinear", align_corners=placing == "align_corners", antialias=anti)


def _gemm(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    a, b, c = (*inputs, None)[:3]
    a = a.mT if attributes.get("transA", 0) else a
    b = b.mT if attributes.get("transB", 0) else b
    product = attributes.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + attributes.get("beta", 1.0) * c


_PADDING = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


def _pad(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, pads, value, axes = (*inputs, None, None)[:4]
    given = _list(pads)
    half = len(given) // 2
    around = [0] * (2 * x.ndim)
    for axis, begin, end in zip(_list(axes) or range(x.ndim), given[:half], given[half:], strict=True):
        place = 2 * (x.ndim - 1 - axis % x.ndim)
        around[place : place + 2] = [begin, end]
    mode: str = attributes.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, around, value=0.0 if value is None else float(value))
    if mode not in _PADDING or any(around[4:]):
        raise ValueError(f"Pad {mode} by {given}")
    return F.pad(x, around[:4], mode=_PADDING[mode])


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def reduced(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
        axes = _list(inputs[1]) if len(inputs) > 1 else attributes.get("axes", [])
        if not axes and attributes.get("noop_with_empty_axes", 0):
            return inputs[0]
        return function(inputs[0], tuple(axes) or tuple(range(inputs[0].ndim)), bool(attributes.get("keepdims", 1)))

    return reduced


def _slice(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, starts, ends, axes, steps = (*inputs, None, None)[:5]
    first, last = _list(starts), _list(ends)
    chosen = _list(axes) or list(range(len(first)))
    for axis, start, end, step in zip(chosen, first, last, _list(steps) or [1] * len(first), strict=True):
        picked = range(x.shape[axis])[start:end:step]
        x = x.index_select(axis, torch.tensor(list(picked), dtype=torch.long, device=x.device))
    return x


def _gather(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, index = inputs
    axis = attributes.get("axis", 0) % x.ndim
    flat = index.reshape(-1).long()
    found = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _reshape(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, shape = inputs
    zeros_are_kept = not attributes.get("allowzero", 0)
    return x.reshape([x.shape[i] if s == 0 and zeros_are_kept else s for i, s in enumerate(_list(shape))])


def _unsqueeze(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x = inputs[0]
    axes = _list(inputs[1])
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    axes = _list(inputs[1]) if len(inputs) > 1 else []
    return inputs[0].squeeze(tuple(axes)) if axes else inputs[0].squeeze()


def _cast(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    from onnx import helper

    return inputs[0].to(getattr(torch, helper.tensor_dtype_to_np_dtype(attributes["to"]).name))


def _clip(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    x, low, high = (*inputs, None, None)[:3]
    return x.clamp(None if low is None else low.item(), None if high is None else high.item())


def _shape(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    shape = inputs[0].shape
    return torch.tensor(shape[attributes.get("start", 0) : attributes.get("end", len(shape))])


def _divide(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    a, b = inputs
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _rounded(x: Tensor) -> Tensor:
    """x to the nearest integer, half to even; gradients pass as if it were x."""
    return x + (x.round() - x).detach()


def _quantize(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    """Stays float, so that gradients reach scale and zero point too."""
    x, scale, zero = inputs if len(inputs) == 3 else (*inputs, torch.zeros((), dtype=torch.uint8))
    scale, zero = _along(scale, x, attributes), _along(zero, x, attributes)
    if zero.dtype == torch.float8_e4m3fn:
        y = (x / scale).clamp(-448, 448)
        return y + (y.to(torch.float8_e4m3fn).to(y.dtype) - y).detach()
    if zero.dtype not in {torch.int8, torch.uint8, torch.float32}:
        raise ValueError(f"QuantizeLinear to {zero.dtype}")
    low, high = (-128, 127) if zero.dtype == torch.int8 else (0, 255)  # float32: a uint8 that is being learned
    return (_rounded(x / scale) + _rounded(zero.to(x.dtype))).clamp(low, high)


def _dequantize(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    q, scale, zero = inputs if len(inputs) == 3 else (*inputs, torch.zeros(()))
    scale, zero = _along(scale, q, attributes), _along(zero, q, attributes)
    if zero.dtype == torch.float8_e4m3fn:
        return q.to(scale.dtype) * scale
    return (q.to(scale.dtype) - _rounded(zero.to(scale.dtype))) * scale


def _along(value: Tensor, x: Tensor, attributes: Attributes) -> Tensor:
    if not value.ndim:
        return value
    axis = attributes.get("axis", 1) % x.ndim
    return value.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


OPERATORS: dict[str, Operator] = {
    "Add": lambda i, a: i[0] + i[1],
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda i, a: torch.cat(list(i), a["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Div": _divide,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": lambda i, a: i[0],
    "LeakyRelu": lambda i, a: F.leaky_relu(i[0], a.get("alpha", 0.01)),
    "MatMul": lambda i, a: i[0] @ i[1],
    "MaxPool": _pool,
    "Mul": lambda i, a: i[0] * i[1],
    "PRelu": lambda i, a: torch.where(i[0] < 0, i[0] * i[1], i[0]),
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "Reciprocal": lambda i, a: i[0].reciprocal(),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda i, a: F.relu(i[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": lambda i, a: torch.sigmoid(i[0]),
    "Slice": _slice,
    "Sqrt": lambda i, a: i[0].sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda i, a: i[0] - i[1],
    "Tanh": lambda i, a: torch.tanh(i[0]),
    "Transpose": lambda i, a: i[0].permute(a.get("perm", list(range(i[0].ndim))[::-1])),
    "Unsqueeze": _unsqueeze,
}
"""ONNX operator → what it does, in the forms that opset 20 has."""

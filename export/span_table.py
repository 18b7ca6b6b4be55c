"""Operator → rule: the table, and the rules that find that a node needs the whole picture."""

from __future__ import annotations

from export.span_rules import (
    Dims,
    Fixed,
    Node,
    Rule,
    WholePictureError,
    concat,
    convolution,
    deconvolution,
    depth_to_space,
    elementwise,
    first_input,
    gather,
    pad,
    pooling,
    reshape,
    resize,
    sliced,
    space_to_depth,
    split,
    transpose,
)
from export.spans import Span


def _reduction(node: Node) -> Dims:
    dims = node.dims()
    # ReduceX since 18 (ReduceSum: 13) and ArgX have no common way to name axes.
    axes = [node.attributes.get("axis", 0)] if node.op.startswith("Arg") else node.ints("axes", 1)
    if not axes:
        if node.attributes.get("noop_with_empty_axes"):
            return dims
        axes = list(range(len(dims)))
    axes = [axis % len(dims) for axis in axes]
    if any(isinstance(dims[axis], Span) for axis in axes):
        raise WholePictureError("reduces over the whole picture")
    if node.attributes.get("keepdims", 1):
        return tuple(1 if i in axes else axis for i, axis in enumerate(dims))
    return tuple(axis for i, axis in enumerate(dims) if i not in axes)


def _along_axis(default: int, to_end: bool = False) -> Rule:
    """Normalises over one axis, or from one to the last."""

    def rule(node: Node) -> Dims:
        dims = first_input(node)
        axis = node.attributes.get("axis", default) % len(dims)
        if any(isinstance(a, Span) for a in (dims[axis:] if to_end else dims[axis : axis + 1])):
            raise WholePictureError("normalises over the whole picture")
        return dims

    return rule


def _softmax(node: Node) -> Dims:
    """Over one axis; before opset 13 over all from one on, by default from the channels.

    Source: ONNX operator changelog, Softmax-1, -11 and -13.
    """
    early = node.opset < 13
    return _along_axis(1 if early else -1, to_end=early)(node)


def _whole(how: str) -> Rule:
    def rule(node: Node) -> Dims:
        raise WholePictureError(how)

    return rule


def _batch_norm(node: Node) -> Dims:
    if node.attributes.get("training_mode"):
        raise WholePictureError("normalises with the picture's own statistics")
    return first_input(node)


def _product(node: Node) -> Dims:
    """A matrix product over channels that lie last."""
    dims, weight = node.dims(), node.inputs[1]
    if not isinstance(weight, Fixed) or len(weight.shape) != 2 or node.attributes.get("transA"):
        raise WholePictureError("multiplies parts of the picture with each other, or along its sides")
    if isinstance(dims[-1], Span):
        raise WholePictureError("multiplies along a side of the picture")
    return (*dims[:-1], weight.shape[0 if node.attributes.get("transB") else 1])


_POINTWISE = (
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd"),
    *("BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh"),
    *("Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid"),
    *("HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean"),
    *("Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu"),
    *("Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish"),
    *("Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"),
)
_REDUCTIONS = "Max Min Mean Sum Prod L1 L2 LogSum LogSumExp SumSquare"

RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, elementwise),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Dropout", "LRN"), first_input),
    **dict.fromkeys(("Conv", "ConvInteger"), convolution(1)),
    "QLinearConv": convolution(3),
    "ConvTranspose": deconvolution,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pooling),
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "Pad": pad,
    "Slice": sliced,
    "Concat": concat,
    "Gather": gather,
    "Split": split,
    "Transpose": transpose,
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), reshape),
    **dict.fromkeys([f"Reduce{word}" for word in _REDUCTIONS.split()] + ["ArgMax", "ArgMin"], _reduction),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    "LpNormalization": _along_axis(-1),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _along_axis(-1, to_end=True)),
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _whole("normalises over the whole picture")),
    "MeanVarianceNormalization": _whole("normalises over the whole picture"),
    **{f"Global{word}Pool": _whole("pools the whole picture") for word in ("Average", "Max", "Lp")},
    "DynamicQuantizeLinear": _whole("takes its range from the whole picture"),
    "Attention": _whole("attends to the whole picture"),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
}

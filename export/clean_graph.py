"""A checked ONNX graph → the graph as engines expect it: `x` → `y`, float32, one picture, dynamic height and width.

Checks what the graph declares of its ends; whether the result runs, and computes the same, is for the caller to see.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.network import INPUT, OUTPUT
from export.onnx_file import all_nodes, default_opset, fixed_shape, folded, onnxruntime_errors, refused
from export.pixel_shuffle import fuse_pixel_shuffle
from export.to_onnx import OPSET
from reference_models.spec import ModelSpec

_IR_VERSION = 10
"""Written into the copy where its opset allows, since engines refuse a newer one before they look inside."""
_IR_OPSET = 22
"""Last opset of that version."""
_LOCAL = {
    *("Relu", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Softplus", "Sigmoid", "Tanh"),
    *("Clip", "Abs", "Neg", "Exp", "Log", "Sqrt", "Erf", "BatchNormalization", "DepthToSpace", "SpaceToDepth"),
    *("Cast", "Identity", "Dropout"),
}
"""Operators that compute every pixel from itself, or from its channels, with constants that know of no size."""
_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu"}
_MAX_POOL, _MIN_WINDOWS = 3, {"MaxPool": 2, "AveragePool": 7}
"""Longer windows, or fewer of them, may be the share of one size that pooling to a fixed number of them makes."""


@dataclass(frozen=True)
class CleanGraph:
    """Its input's sides are the symbols h and w; `fix_sides` undoes that."""

    model: Any
    own_size: tuple[int | None, int | None]
    """Height and width that the file as given is fixed to; None where they may vary."""
    planes: int | None
    """Of the input; None: not stated."""
    fused: int
    """PixelShuffles recognised."""
    half: bool
    """Whether input or output were float16 and now are cast."""


def clean_graph(model: Any, path: Path, raise_opset: bool = True) -> CleanGraph:
    """A copy of the model with one input and output of float32, for one picture, of dynamic height and width.

    Args:
        model: onnx.ModelProto as `read_onnx` gives it.
        path: named in errors.
        raise_opset: to export.to_onnx.OPSET, where it is below and onnx can convert it.

    Raises:
        UserError: several inputs or outputs, not 4-D floating point, or colours last.
    """
    model = copy.deepcopy(model)
    _forget_stored_inputs(model)
    x = _only_end(model.graph.input, "input", path)
    _only_end(model.graph.output, "output", path)
    shape = fixed_shape(x) or (None,) * 4
    _check_layout(shape, path)
    _set_batch(x)
    if raise_opset:
        model = _with_opset(model)
    _forget_shapes(model.graph)  # of another batch
    fused = fuse_pixel_shuffle(model)
    half = _cast_ends(model.graph)
    _rename(model.graph, {model.graph.input[0].name: INPUT, model.graph.output[0].name: OUTPUT})
    set_sides(model.graph, ("h", "w"))
    model.ir_version = max(model.ir_version, _IR_VERSION) if default_opset(model) > _IR_OPSET else _IR_VERSION
    return CleanGraph(model, (shape[2], shape[3]), shape[1], fused, half)


def set_sides(graph: Any, sides: Sequence[int | str]) -> None:
    """States height and width of the input, as numbers or symbols; forgets all shapes that followed from others."""
    for axis, side in zip(graph.input[0].type.tensor_type.shape.dim[2:], sides, strict=True):
        axis.Clear()
        setattr(axis, "dim_param" if isinstance(side, str) else "dim_value", side)
    _forget_shapes(graph)


def state_shapes(graph: Any, spec: ModelSpec) -> None:
    """Writes what the spec knows: engines reserve the output's memory where its sides follow from the input's."""
    x, y = (value.type.tensor_type.shape.dim for value in (graph.input[0], graph.output[0]))
    x[1].dim_value, y[0].dim_value, y[1].dim_value = spec.input_planes, 1, spec.output_planes
    for taken, given in zip(x[2:], y[2:], strict=True):
        if taken.dim_value:
            given.dim_value = taken.dim_value * spec.upscale
        else:
            given.dim_param = taken.dim_param if spec.upscale == 1 else f"{spec.upscale}*{taken.dim_param}"


def size_bound(clean: CleanGraph) -> str:
    """The operators of a graph, fixed as given, whose constants may depend on its size; none: it means the same at
    others.

    An exporter that fixes the size writes 1 / (H * W) and the like as numbers, and the graph still runs at other sizes.
    So every operator must be of a few whose constants cannot hold that; where this cannot be seen, the answer is its
    name.
    """
    import onnx

    errors: tuple[type[Exception], ...] = (*onnxruntime_errors(), onnx.shape_inference.InferenceError)
    try:
        model = folded(clean.model)
        known = copy.deepcopy(model)
        set_sides(known.graph, [side or name for side, name in zip(clean.own_size, ("h", "w"), strict=True)])
        inferred = onnx.shape_inference.infer_shapes(known, data_prop=True).graph
    except errors:
        return "graph"
    shapes = {v.name: fixed_shape(v) for v in (*inferred.input, *inferred.value_info, *inferred.output)}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    bound = {n.op_type for n in model.graph.node if not _is_local(n, constants, shapes, clean.own_size)}
    return ", ".join(sorted(bound))


def _is_local(
    node: Any,
    constants: Mapping[str, Any],
    shapes: Mapping[str, tuple[int | None, ...] | None],
    size: tuple[int | None, int | None],
) -> bool:
    from onnx import helper

    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    stored = [constants[name] for name in node.input if name in constants]
    operator = node.op_type
    if len(stored) == len(node.input):  # of constants alone, and not folded: what comes of it is not seen
        return False
    if operator in {"Conv", "ConvTranspose"}:
        pads = given.get("pads", [0] * 4)
        even = list(pads[:2]) == list(pads[2:])  # with strides, uneven ones may make up for a size
        return "output_shape" not in given and (even or max(given.get("strides", [1])) == 1)
    if operator in _MIN_WINDOWS:
        return _is_small_pool(given["kernel_shape"], shapes.get(node.input[0]), _MIN_WINDOWS[operator])
    if operator in _ARITHMETIC:
        return all(set(value.shape[-2:]) <= {1} and not _tells_size(value, size) for value in stored)
    if operator == "Concat":
        return given["axis"] in {1, -3} and not stored
    if operator == "Pad":
        pads = given.get("pads", stored[0].tolist() if stored else [])
        return len(pads) == 8 and len(node.input) < 4 and len({*pads[2:4], *pads[6:]}) == 1
    if operator in {"Resize", "Upsample"}:
        return _is_scaled_by_whole(node, given, constants)
    return operator in _LOCAL


def _is_small_pool(kernel: Sequence[int], shape: tuple[int | None, ...] | None, windows: int) -> bool:
    sides = (shape or ())[2:]
    known = [side for side in sides if side is not None]
    fits = len(known) == len(kernel) and all(s >= windows * k for s, k in zip(known, kernel, strict=True))
    return fits and max(kernel) <= _MAX_POOL


def _tells_size(value: Any, size: tuple[int | None, int | None]) -> bool:
    """Whether a single number is a side, their product, or one by that."""
    height, width = size
    telling = [side for side in (height, width, (height or 0) * (width or 0)) if side and side > 2]
    return value.size == 1 and any(abs(float(value.item()) * f - 1) < 1e-5 for t in telling for f in (t, 1 / t))


def _is_scaled_by_whole(node: Any, given: Mapping[str, Any], constants: Mapping[str, Any]) -> bool:
    """By 2, 1/2 and the like: 27/13 is what is left of two sizes."""
    place = 2 if node.op_type == "Resize" else 1
    names = [*node.input, "", "", ""]
    scales = constants.get(names[place])
    if scales is None or scales.shape != (4,) or (place == 2 and names[3]) or "axes" in given:
        return False
    whole = all(min(abs(s - round(s)), abs(1 / s - round(1 / s))) < 1e-6 for s in scales.tolist())
    return whole and given.get("coordinate_transformation_mode") != b"tf_crop_and_resize"


def _forget_shapes(graph: Any) -> None:
    del graph.value_info[:]
    shape = graph.output[0].type.tensor_type.shape
    shape.Clear()
    for _ in range(4):
        shape.dim.add()


def _set_batch(x: Any) -> None:
    dims = x.type.tensor_type.shape.dim
    for _ in range(4 - len(dims)):
        dims.add()
    dims[0].dim_value = 1


def _forget_stored_inputs(model: Any) -> None:
    """Until IR version 3, stored tensors were listed as inputs too."""
    graph, model.ir_version = model.graph, max(model.ir_version, 4)
    stored = {i.name for i in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)


def _only_end(values: Sequence[Any], noun: str, path: Path) -> Any:
    from onnx import TensorProto

    if len(values) != 1:
        names = ", ".join(f"`{value.name}`" for value in values) or "none"
        todo = "Cut out the part that makes a picture with onnx.utils.extract_model"
        raise refused(path, f"{len(values)} {noun}s: {names}", f"one {noun}", todo)
    value = values[0]
    kind = value.type.tensor_type.elem_type
    if kind not in {TensorProto.FLOAT, TensorProto.FLOAT16}:
        word = TensorProto.DataType.Name(kind).lower() if kind else "no tensor"
        todo = "Take the conversion from and to bytes out of the network"
        raise refused(path, f"{noun} `{value.name}` is {word}", "float (float32) or float16", todo)
    shape = fixed_shape(value)
    if shape is not None and len(shape) != 4:
        text = f"{noun} `{value.name}` has {len(shape)} axes"
        raise refused(path, text, "4: (N, C, H, W)", "Export it with a batch axis and for pictures")
    return value


def _check_layout(shape: tuple[int | None, ...], path: Path) -> None:
    colours = {1, 3, 4}
    if shape[3] in colours and shape[1] not in colours:
        words = ", ".join("?" if d is None else str(d) for d in shape)
        todo = "Convert it again, with tf2onnx: --inputs-as-nchw NAME --outputs-as-nchw NAME"
        raise refused(path, f"its input is ({words}): colours last, NHWC", "colours first: (N, C, H, W)", todo)


def _with_opset(model: Any) -> Any:
    """The model at OPSET, itself where it is newer or where onnx cannot convert it."""
    from onnx import version_converter

    if default_opset(model) >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, IndexError):  # ConvertError is a RuntimeError; others come out of its C++
        return model


def _cast_ends(graph: Any) -> bool:
    """Makes float16 input and output float32, by a Cast each; whether there were any."""
    from onnx import TensorProto, helper

    x, y = graph.input[0], graph.output[0]
    first, last = [], []
    if x.type.tensor_type.elem_type == TensorProto.FLOAT16:
        first = [helper.make_node("Cast", [f"{x.name}/float32"], [x.name], to=TensorProto.FLOAT16)]
        x.name += "/float32"
    if y.type.tensor_type.elem_type == TensorProto.FLOAT16:
        last = [helper.make_node("Cast", [y.name], [f"{y.name}/float32"], to=TensorProto.FLOAT)]
        y.name += "/float32"
    elif y.name == x.name:
        last = [helper.make_node("Identity", [y.name], [f"{y.name}/same"])]
        y.name += "/same"
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (x, y):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return any(node.op_type == "Cast" for node in (*first, *last))


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Renames tensors; who has one of the new names already gets another."""
    taken = {name for node in all_nodes(graph) for name in (*node.input, *node.output)}
    taken.update(value.name for value in (*graph.initializer, *graph.input, *graph.output))
    for wanted in names.copy().values():
        if wanted in taken and wanted not in names:
            names[wanted] = next(f"{wanted}_{i}" for i in range(len(taken) + 1) if f"{wanted}_{i}" not in taken)
    _rename_in(graph, names)


def _rename_in(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        for tensors in (node.input, node.output):
            for i, name in enumerate(tensors):
                tensors[i] = names.get(name, name)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename_in(body, names)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)

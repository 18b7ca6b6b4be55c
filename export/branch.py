"""A graph with a branch that needs the whole picture → two graphs: the branch, and the rest with the branch's result
as a weight that is put in for every picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from export.network import INPUT, OUTPUT, Graph, file_sha256
from export.receptive_field import Reach
from reference_models.errors import UserError


def split_branch(graph: Graph, reach: Reach, folder: Path) -> tuple[Graph, Graph]:
    """The branch (`x` → `y`, the tensor that `reach.branch` names) and the rest (`x` → `y`, that tensor refittable).

    Args:
        folder: the two files are written there.

    Raises:
        UserError: several tensors lead from one to the other, or not in float32.
    """
    import onnx
    from onnx import TensorProto, helper

    if len(reach.branch) != 1:
        raise _inseparable(f"{len(reach.branch)} tensors lead from it to the rest")
    name = reach.branch[0]
    model = onnx.load(graph.onnx_path)
    shape, kind = _of(model, name)
    if kind != TensorProto.FLOAT or not shape:
        raise _inseparable("its result is not float32, or of no size that is known")
    branch = _part(model, {name})
    for node in branch.graph.node:
        node.output[:] = [OUTPUT if out == name else out for out in node.output]
    branch.graph.output.append(helper.make_tensor_value_info(OUTPUT, kind, shape))
    rest = _part(model, {OUTPUT}, given={name})
    rest.graph.output.append(model.graph.output[0])
    size = 4
    for length in shape:
        size *= length
    rest.graph.initializer.append(TensorProto(name=name, data_type=kind, dims=shape, raw_data=bytes(size)))
    return _written(branch, graph, folder / "branch.onnx"), _written(rest, graph, folder / "rest.onnx")


def _inseparable(why: str) -> UserError:
    return UserError(
        f"`--tile`: the branch that sees the whole picture cannot be computed apart: {why}",
        "a branch with one result",
        "Use --tile off",
    )


def _of(model: Any, name: str) -> tuple[list[int], int]:
    from export.work import without_weights

    planes = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    for value in without_weights(model, (1, planes, 512, 512)).graph.value_info:
        if value.name == name:
            tensor = value.type.tensor_type
            return [d.dim_value for d in tensor.shape.dim], tensor.elem_type
    return [], 0


def _part(model: Any, wanted: set[str], given: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    """The nodes that make `wanted` out of the input and of `given`, with their weights; it has no output yet."""
    import onnx

    made = {out: node for node in model.graph.node for out in node.output}
    needed, names = set(), list(wanted)
    while names:
        name = names.pop()
        if name in needed or name in given:
            continue
        needed.add(name)
        names += [n for n in made[name].input if n] if name in made else []
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.name = model.graph.name
    part.graph.node.extend(node for node in model.graph.node if needed & set(node.output))
    part.graph.initializer.extend(i for i in model.graph.initializer if i.name in needed)
    part.graph.input.extend(i for i in model.graph.input if i.name == INPUT)
    return part


def _written(model: Any, graph: Graph, path: Path) -> Graph:
    import onnx

    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return replace(graph, onnx_path=str(path), sha256=file_sha256(path), state_path="", role="onnx")

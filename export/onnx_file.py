"""An ONNX file from anywhere → a checked onnx.ModelProto in memory; a silent ONNX Runtime session to try it on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from reference_models.errors import UserError

MAX_MIB = 2048
"""What one protobuf message can hold, and so what ONNX Runtime takes from memory."""

_LARGE = 1 << 16
"""Least elements of a stored tensor that is worth handing over by itself."""


def read_onnx(path: Path) -> Any:
    """The onnx.ModelProto of a file: its external data loaded, its own functions inlined, of one domain only.

    Raises:
        UserError: no file, damaged, incomplete, too large, invalid, with loops, or with operators that are not ONNX's
            own.
    """
    import onnx

    model = _loaded(path)
    if model.ir_version > onnx.IR_VERSION:
        what = f"its IR version is {model.ir_version}"
        raise refused(path, what, f"at most {onnx.IR_VERSION}, as onnx {onnx.__version__} has", "Update onnx")
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    _keep_one_domain(model, path)
    _refuse_loops(model, path)
    _state_missing_shapes(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise refused(path, f"invalid: {one_line(error)}", "valid ONNX", "Export it again") from None
    return model


def refused(path: Path, what: str, expected: str, todo: str) -> UserError:
    """The error for something wrong with this file."""
    return UserError(f"`--model {path}`: {what}", expected, todo)


def runnable(model: Any, path: Path) -> Any:
    """A session of it.

    Raises:
        UserError: ONNX Runtime cannot load it; its words are quoted.
    """
    import onnxruntime as ort

    try:
        return onnxruntime_session(model)
    except onnxruntime_errors() as error:
        expected = f"a graph that ONNX Runtime {ort.__version__} can load"
        todo = "Export it for an older opset or IR version, or update onnxruntime"
        raise refused(path, one_line(error), expected, todo) from None


def onnxruntime_session(model: Any) -> Any:
    """A CPU session of a model in memory, unoptimised but for constants, silent."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return session_of(model, options)


def session_of(model: Any, options: Any) -> Any:
    """A CPU session of a model in memory.

    Large weights go beside the message, not into it: written into it and read out again, 120 million take six times as
    long.

    Args:
        options: onnxruntime.SessionOptions for this session alone; they hold its weights afterwards.
    """
    import onnxruntime as ort
    from onnx import numpy_helper

    bare, moved = without_content(model)
    if moved:
        values = [ort.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(tensor)) for tensor in moved]
        options.add_external_initializers([tensor.name for tensor in moved], values)
    return ort.InferenceSession(bare.SerializeToString(), options, providers=["CPUExecutionProvider"])


def without_content(model: Any) -> tuple[Any, list[Any]]:
    """A copy of an onnx.ModelProto whose large weights keep name, type and shape alone, as if in a file beside it; and
    these weights as they are in `model`."""
    import onnx
    from onnx import TensorProto

    bare, moved = onnx.ModelProto(), []
    _copy_fields(model, bare, "graph")
    _copy_fields(model.graph, bare.graph, "initializer")
    # ONNX Runtime refuses those that nothing reads; what a branch reads may be a tensor of its own of the same name.
    read = {name for node in model.graph.node for name in node.input}
    kinds = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8}  # what NumPy and OrtValue have, and weights are
    for tensor in model.graph.initializer:
        large = prod(tensor.dims) >= _LARGE and tensor.data_location != TensorProto.EXTERNAL
        if large and tensor.data_type in kinds and tensor.name in read:
            moved.append(tensor)
            stub = bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            stub.data_location = TensorProto.EXTERNAL
            stub.external_data.add(key="location", value="memory")
        else:
            bare.graph.initializer.append(tensor)
    return bare, moved


def _copy_fields(source: Any, target: Any, but: str) -> None:
    """All fields of a message but one into an empty message of its kind."""
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if hasattr(value, "MergeFrom"):
            getattr(target, field.name).MergeFrom(value)
        else:
            setattr(target, field.name, value)


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """All that ONNX Runtime raises on a graph that it cannot load or run; they have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*own, RuntimeError, ValueError)


def one_line(error: object, longest: int = 240) -> str:
    """What ONNX or ONNX Runtime says, without its codes and places in C++."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    if "Status Message: " in text:
        text = text.split("Status Message: ", 1)[1]
    text = text.rstrip(".")
    return text if len(text) <= longest else f"…{text[-longest:]}"


def folded(model: Any) -> Any:
    """The same graph with the arithmetic on its constants and known shapes done, which onnx does not follow through
    every operator."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        session_of(model, options)
        return onnx.load(options.optimized_model_filepath)


def all_nodes(graph: Any) -> Iterator[Any]:
    """Nodes of a graph and of the bodies inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from all_nodes(body)


def all_tensors(graph: Any) -> Iterator[Any]:
    """Stored tensors of a graph, of its nodes' attributes, and of the bodies inside them."""
    yield from graph.initializer
    for node in graph.node:
        yield from _tensors_of(node)


def _tensors_of(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for body in (attribute.g, *attribute.graphs):
            yield from all_tensors(body)


def fixed_shape(value: Any) -> tuple[int | None, ...] | None:
    """Lengths of a ValueInfoProto's axes, None where they may vary; None where not even their number is stated."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)


def default_opset(model: Any) -> int:
    """Version of ONNX's own operators in this model."""
    return int(max(entry.version for entry in model.opset_import if not entry.domain))


def _loaded(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
        size = path.stat().st_size + _external_bytes(model, path.parent)
        if size < MAX_MIB << 20:
            # onnx itself refuses data outside the file's folder, and links.
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except OSError as error:
        raise refused(path, error.strerror or str(error), "an ONNX file that can be read", "Check the path") from None
    except DecodeError:
        raise refused(path, "not an ONNX file, or cut short", "an onnx.ModelProto", "Export or copy it again") from None
    except (onnx.checker.ValidationError, ValueError) as error:
        todo = "Keep the files that the exporter wrote together"
        raise refused(path, f"external data: {one_line(error)}", "its data files beside it", todo) from None
    if size >= MAX_MIB << 20:
        raise refused(path, f"{size >> 20} MiB", f"less than {MAX_MIB} MiB, data files included", "Export float16")
    return model


def _external_bytes(model: Any, folder: Path) -> int:
    """What loading the external data takes; without a stated length an entry is the rest of its file."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    functions = (tensor for function in model.functions for node in function.node for tensor in _tensors_of(node))
    total = 0
    for tensor in (*all_tensors(model.graph), *functions):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            file = folder / info.location
            rest = file.stat().st_size - (info.offset or 0) if file.is_file() else 0  # onnx itself says what is missing
            total += max(info.length or rest, 0)
    return total


def _keep_one_domain(model: Any, path: Path) -> None:
    for node in all_nodes(model.graph):
        if node.domain == "ai.onnx":  # another spelling of the empty one
            node.domain = ""
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in all_nodes(model.graph) if node.domain})
    if foreign:
        todo = "Export without custom operators and without a runtime's own optimisations"
        raise refused(path, f"operators that are not ONNX's own: {', '.join(foreign)}", "operators of ai.onnx", todo)
    versions = [entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    del model.opset_import[:]
    if versions:
        model.opset_import.add(domain="", version=max(versions))


def _refuse_loops(model: Any, path: Path) -> None:
    """The graph is run to see what it takes, and nothing could end a loop of 2^62 turns."""
    loops = sorted({node.op_type for node in all_nodes(model.graph)} & {"Loop", "Scan"})
    if loops:
        what = f"image-to-image networks with loops are not supported: {', '.join(loops)}"
        raise refused(path, what, "a graph without Loop and Scan", "Export it with its loops unrolled")


def _state_missing_shapes(model: Any) -> None:
    """ONNX Runtime runs files whose output has no stated shape, onnx's checker refuses them."""
    for value in model.graph.output:
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            for _ in range(4):
                value.type.tensor_type.shape.dim.add()

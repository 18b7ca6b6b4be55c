"""`--model FILE.onnx`: somebody's graph → ModelSpec, with what it takes found by trying; → Network of a clean copy.

Nothing in the file is executed but by ONNX Runtime. No torch here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.cache import code_sha256, made_once
from export.clean_graph import CleanGraph, clean_graph, set_sides, size_bound, state_shapes
from export.network import INPUT, OUTPUT, Graph, Network, file_sha256
from export.onnx_file import (
    default_opset,
    one_line,
    onnxruntime_errors,
    onnxruntime_session,
    read_onnx,
    refused,
    runnable,
)
from export.to_onnx import OPSET
from reference_models.errors import UserError
from reference_models.own_factory import (
    Geometry,
    RefusedError,
    find_geometry,
    own_spec,
    probe_sizes,
    ratio,
    sizes_in_words,
)
from reference_models.spec import ModelSpec

TOLERANCE = 1e-5
"""Largest difference to the file as given, in units of its output's largest value or 1, whichever is more."""
HALF_TOLERANCE = 2.0**-10
"""The same for float16 files, a step of that type: their output is rounded to it. The copy's need not be: where ONNX
Runtime's CPU has no float16 kernels it computes in float32, and drops casts there and back."""


def spec_from_onnx(path: str | os.PathLike[str]) -> ModelSpec:
    """The declaration of the network in an ONNX file; its name is the file's, with the ending.

    A file that is fixed to one size is made dynamic where no constant in it can depend on that size. Elsewhere
    `options` holds that `height` and `width`, and `check_size` refuses others. The description says which.

    Raises:
        UserError: not a valid, self-contained ONNX file that ONNX Runtime can run, or not an image-to-image network.
    """
    path = Path(path).absolute()
    model = read_onnx(path)
    clean, geometry, bound = _explored(model, path)
    fixed = bound is not None
    takes = f"takes no other: {bound}" if fixed else sizes_in_words(geometry)
    spec = own_spec(path.name, _source(model, path), f"{_description(model, clean, fixed)}, {takes}", geometry)
    options = dict(zip(("height", "width"), clean.own_size, strict=True)) if fixed else {}
    return replace(spec, onnx=str(path), options=options)


def check_size(spec: ModelSpec, height: int, width: int) -> None:
    """Nothing, where the network of `spec_from_onnx` takes an input tensor of this size.

    Raises:
        UserError: its file is fixed to another one.
    """
    own = spec.options.get("height"), spec.options.get("width")
    if spec.onnx and spec.options and own != (height, width):
        raise UserError(
            f"model `{spec.name}`: its file is fixed to inputs of {own[1]}x{own[0]}, asked for {width}x{height}",
            "that size: constants in the graph may depend on it",
            "Export the network again with dynamic height and width, or choose this size",
        )


def network_from_onnx(spec: ModelSpec, cache: Path) -> Network:
    """The network of `spec_from_onnx` as engines take it, made once per content of the file.

    Input `x`, output `y`, one picture, dynamic height and width where the spec allows, tensors inside, opset raised to
    export.to_onnx.OPSET where onnx can, PixelShuffles as DepthToSpace; equal to the file as given within TOLERANCE,
    float16 files within HALF_TOLERANCE.

    Raises:
        UserError: as `spec_from_onnx`, or two runs of the file as given differ.
    """
    path = Path(spec.onnx or "")
    model = read_onnx(path)
    return made_once(cache, _key(model, spec), lambda folder: _write(model, spec, folder))


def _explored(model: Any, path: Path) -> tuple[CleanGraph, Geometry, str | None]:
    """The cleaned graph, what it takes, and why that is the file's own size only; None: it is not."""
    runnable(model, path)  # what the runtime cannot load is refused in its words, before anything is tried on it
    reasons: list[tuple[bool, RefusedError]] = []
    for fixed, raise_opset in itertools.product((False, True), _opset_choices(model)):
        clean = clean_graph(model, path, raise_opset)
        if fixed and None in clean.own_size:
            break
        try:
            if not fixed and any(clean.own_size) and (names := size_bound(clean)):
                raise RefusedError(f"constants of its {names} may depend on the height or width that it is fixed to")
            geometry = _own_geometry(clean) if fixed else _geometry(clean)
            _check_equal(model, clean, geometry, path)
            return clean, geometry, str(reasons[0][1]) if fixed else None
        except RefusedError as error:
            reasons.append((fixed, error))
    # The file's own size says most about it; else the first attempt does.
    reason = max(reasons, key=lambda pair: pair[0])[1]
    expected = "(1, C, H, W) in and (1, C', kH, kW) out, at sides that are multiples of a number up to 64"
    raise refused(path, f"takes no picture: {reason}", expected, "Check the shape of its input, and export it again")


def _opset_choices(model: Any) -> tuple[bool, ...]:
    """Whether to raise the opset: onnx does not convert every graph well."""
    return (True, False) if default_opset(model) < OPSET else (False,)


def _geometry(clean: CleanGraph) -> Geometry:
    return find_geometry(_runner(clean.model), (clean.planes,) if clean.planes else (3, 1))


def _own_geometry(clean: CleanGraph) -> Geometry:
    """What the graph makes of the only size that it takes; fixes it to that, in place."""
    height, width = clean.own_size
    assert height is not None
    assert width is not None
    set_sides(clean.model.graph, (height, width))
    shape = (1, clean.planes or 3, height, width)
    return Geometry(shape[1], *ratio(shape, _runner(clean.model)(shape)))


def _runner(model: Any) -> Callable[[tuple[int, ...]], Sequence[int]]:
    """Shape of the input → shape of the output, for find_geometry."""
    errors = onnxruntime_errors()
    try:
        session = onnxruntime_session(model)
    except errors as error:
        raise RefusedError(one_line(error)) from None

    def run(shape: tuple[int, ...]) -> Sequence[int]:
        try:
            result: Sequence[int] = session.run([OUTPUT], {INPUT: _random(shape)})[0].shape
        except errors as error:
            raise RefusedError(one_line(error)) from None
        return result

    return run


def _random(shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.random.default_rng(0).random(shape, np.float32)


def _source(model: Any, path: Path) -> str:
    maker = f", made by {model.producer_name} {model.producer_version}".rstrip() if model.producer_name else ""
    return f"{path.name}, SHA-256 {_digest(model)[:16]}{maker}"


def _description(model: Any, clean: CleanGraph, fixed: bool) -> str:
    words = [f"your own ONNX graph, opset {default_opset(model)}"]
    if any(clean.own_size):
        height, width = ("?" if side is None else str(side) for side in clean.own_size)
        words.append(f"fixed to {width}x{height}" + ("" if fixed else " as given, made dynamic"))
    if clean.fused:
        words.append(f"{clean.fused} PixelShuffle recognised")
    if clean.half:
        words.append("float16 with a cast at its ends")
    return ", ".join(words)


def _digest(model: Any) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _key(model: Any, spec: ModelSpec) -> str:
    import onnx
    import onnxruntime as ort

    facts = [_digest(model), replace(spec, onnx="").to_json(), code_sha256(), onnx.__version__, ort.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _write(model: Any, spec: ModelSpec, folder: Path) -> Network:
    import onnx

    path, given = folder / "main.onnx", Path(spec.onnx or "")
    geometry = Geometry(spec.input_planes, spec.output_planes, spec.upscale, spec.size_multiple, spec.min_size)
    for raise_opset in _opset_choices(model):
        clean = clean_graph(model, given, raise_opset)
        if sides := [side for side in spec.options.values() if isinstance(side, int)]:
            set_sides(clean.model.graph, sides)
        state_shapes(clean.model.graph, spec)
        try:
            _check_equal(model, clean, geometry, given)
        except RefusedError as error:
            reason = error
            continue
        onnx.save(clean.model, path)
        onnx.checker.check_model(str(path))
        planes = spec.input_planes, spec.output_planes
        graph = Graph(path.name, file_sha256(path), "", "", {}, "onnx", *planes, spec.upscale)
        return Network(spec.title, None, graph, None, (), default_opset(clean.model))
    raise refused(given, str(reason), "a graph whose clean copy computes the same", "Export it again")


def _check_equal(model: Any, clean: CleanGraph, geometry: Geometry, path: Path) -> None:
    """Nothing, where file and copy agree at sizes that the file takes; raises RefusedError."""
    difference = _difference(model, clean, geometry, path)
    tolerance = HALF_TOLERANCE if clean.half else TOLERANCE
    if not difference <= tolerance:
        raise RefusedError(f"its clean copy differs by {difference:.2g}, more than {tolerance:.2g}")


def _difference(model: Any, clean: CleanGraph, geometry: Geometry, path: Path) -> float:
    """Largest difference between file and copy, at sizes that the file takes; infinite where the copy does not run."""
    import numpy as np

    original = runnable(model, path)
    sizes = {tuple(o or s for o, s in zip(clean.own_size, z, strict=True)) for z in probe_sizes(geometry.size_multiple)}
    worst = 0.0
    for size in sizes:
        x = _random((1, geometry.input_planes, *size))
        x = x.astype(np.float16).astype(np.float32) if clean.half else x
        try:
            wanted, again = (_run_as_given(original, x).astype(np.float32) for _ in range(2))
        except onnxruntime_errors() as error:
            raise refused(path, one_line(error), "a graph that runs at its size", "Export it again") from None
        _check_repeatable(wanted, again, HALF_TOLERANCE if clean.half else TOLERANCE, path)
        try:
            got = onnxruntime_session(clean.model).run([OUTPUT], {INPUT: x})[0]
        except onnxruntime_errors():
            return float("inf")
        if got.shape != wanted.shape:
            return float("inf")
        scale = max(1.0, float(np.abs(wanted).max()))
        worst = float(np.maximum(worst, np.abs(got - wanted).max() / scale))  # unlike max(), keeps NaN
    return worst


def _check_repeatable(first: Any, second: Any, tolerance: float, path: Path) -> None:
    import numpy as np

    if not np.isfinite(first).all():
        word = "NaN" if np.isnan(first).any() else "infinity"
        todo = "Check its weights, and what it divides by or takes the root of"
        raise refused(path, f"its output holds {word}", "numbers, for random pictures in [0, 1]", todo)
    if not np.abs(first - second).max(initial=0) <= tolerance * max(1.0, float(np.abs(first).max(initial=0))):
        todo = "Export it in eval mode, without random operators"
        raise refused(path, "two runs of it differ", "the same output for the same input", todo)


def _run_as_given(session: Any, x: Any) -> Any:
    """The output for one picture, of whatever batch and type the file wants."""
    import numpy as np

    wanted = session.get_inputs()[0]
    batch = wanted.shape[0] if isinstance(wanted.shape[0], int) else 1
    dtype = np.float16 if wanted.type == "tensor(float16)" else np.float32
    return session.run(None, {wanted.name: np.repeat(x.astype(dtype), batch, axis=0)})[0][:1]

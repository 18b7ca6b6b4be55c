"""The worker's job of `bench build --bundle`: a network → its graph on pictures, checked against engines.load's way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.network import INPUT, OUTPUT, PICTURE, RESULT, Network
from export.picture_graph import picture_graph
from reference_models.pictures import Picture, default_picture
from reference_models.spec import ModelSpec


def job_bundle(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """
    Args:
        job: spec and network (JSON), engine, precision, threads, settings, `path`: where the graph is written.

    Returns:
        `checked`: [{size: [height, width], values, different}, ...], one per picture; `hint`: of OpenVINO.
    """
    spec, network = ModelSpec.from_json(job["spec"]), Network.from_json(job["network"])
    emit("phase", name="write")
    Path(job["path"]).write_bytes(picture_graph(network.main.onnx_path, spec).SerializeToString())
    emit("phase", name="check")
    return {"checked": list(_compared(job, spec, network)), "hint": _hint(job)}


@dataclass(frozen=True)
class Compared:
    """One picture through both ways."""

    size: tuple[int, int]
    values: int
    different: int


def _compared(job: Mapping[str, Any], spec: ModelSpec, network: Network) -> Iterator[dict[str, Any]]:
    import engines
    from engines.engine import Options
    from engines.picture_ends import finished, prepared

    options = Options("cpu", job["precision"], job["threads"], job["settings"])
    runs = _RUNS[job["engine"]](job)
    with engines.get(job["engine"]).load(network.main, options) as session:
        for picture in _pictures(spec):
            given = prepared(picture, spec)
            wanted = finished(session.run({INPUT: given.tensor})[OUTPUT], given, spec)
            got = runs(picture)
            different = wanted.size if got.shape != wanted.shape else int((got != wanted).sum())
            yield vars(Compared((picture.shape[0], picture.shape[1]), wanted.size, different))


def _pictures(spec: ModelSpec) -> list[Picture]:
    """A photograph of 200x133 pixels, whose values are all there, an odd cut of it, and one pixel; of the one size that
    a fixed network takes."""
    photo = default_picture()
    if spec.onnx and spec.options:
        height, width = (int(spec.options[side]) for side in ("height", "width"))  # type: ignore[call-overload]
        return [np.ascontiguousarray(np.resize(photo, (height, width, 3)))]
    return [np.ascontiguousarray(photo[:133, :200]), np.ascontiguousarray(photo[50:87, 31:82]), photo[:1, :1].copy()]


def _onnxruntime(job: Mapping[str, Any]) -> Callable[[Picture], Picture]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = job["threads"]
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = ort.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
    return lambda picture: session.run([RESULT], {PICTURE: picture})[0]


def _openvino(job: Mapping[str, Any]) -> Callable[[Picture], Picture]:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": _hint(job), "INFERENCE_NUM_THREADS": job["threads"]}
    compiled = openvino.Core().compile_model(job["path"], "CPU", options)
    return lambda picture: compiled({PICTURE: picture})[RESULT]


def _hint(job: Mapping[str, Any]) -> str | None:
    """What OpenVINO is told to compute in where the graph leaves it open, as engines/openvino.py does."""
    if job["engine"] != "openvino":
        return None
    return "bf16" if job["precision"] == "bf16" else "f32"


_RUNS: dict[str, Callable[[Mapping[str, Any]], Callable[[Picture], Picture]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""Engine → the bundle's model as its example runs it."""

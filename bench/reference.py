"""Networks and references of a model: what engines build from, and what torch in FP32 makes of the same pictures.

Runs in a worker, since it needs torch. References are cached by content: network, picture, torch version.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import engines
from bench import machine
from engines.engine import Options
from engines.thumbnail import load_network
from export.cache import cache_folder, code_sha256, forget_leftovers
from export.calibration import calibration_inputs
from export.network import Network
from export.onnx_file import onnxruntime_errors
from export.precision import LoweringRequest, lowered_network
from export.recipe import QUANTISED, Recipe
from export.to_onnx import ExportRequest, export_network
from reference_models.errors import UserError
from reference_models.pictures import calibration_pictures, list_pictures, read_picture
from reference_models.spec import ModelSpec

CACHE_LIMIT_MIB = 4096
"""References are pictures in float32, 95 MiB at 4K: the oldest go first."""


def prepare(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """Files of one model.

    Args:
        job: spec (JSON), weights (file or None), statistics (list), calibration and style (path or None),
            inputs ({key: .npy path}), threads. Without inputs only the networks are made. lowerings: graphs of other
            precisions, each with key, statistics, recipe, engine and options.

    Returns:
        {"networks": {key: JSON}, "references": {statistics: {key: .npy path}}, "refused": {key: {"reason":
        one sentence, "parts": of a UserError, or None}}}; the references of the published statistics are the network as
        published.
    """
    spec = ModelSpec.from_json(job["spec"])
    published = spec.statistics[0] if spec.statistics else None
    pictures = _calibration(job["calibration"]) if "frozen" in job["statistics"] else []
    lowerings = job.get("lowerings", [])
    if not pictures and any(lowering["recipe"]["precision"] in {*QUANTISED, "auto"} for lowering in lowerings):
        pictures = _calibration(job["calibration"])
        calibration_inputs(pictures, spec)
    style = read_picture(job["style"]) if job.get("style") else None
    networks: dict[Any, Network] = {}
    for statistics in dict.fromkeys([published, *job["statistics"]] if job["inputs"] else job["statistics"]):
        emit("phase", name=f"export {spec.title} {statistics or ''}".strip())
        request = ExportRequest(spec, job["weights"], statistics, pictures if statistics == "frozen" else (), style)
        networks[statistics] = _network(request)
    found: dict[str, dict[str, str]] = {}
    for statistics, network in networks.items():
        found[str(statistics)] = _references(network, job["inputs"], job["threads"], emit)
    _forget_oldest(cache_folder() / "references")
    made = {str(key): network.to_json() for key, network in networks.items()}
    refused: dict[str, dict[str, Any]] = {}
    library_errors: tuple[type[Exception], ...] = (LookupError, *onnxruntime_errors())
    for lowering in lowerings:
        try:
            made[lowering["key"]] = _lowered(networks[lowering["statistics"]], spec, lowering, pictures, emit).to_json()
        except UserError as error:  # one precision that does not fit one network does not end the others
            refused[lowering["key"]] = {"reason": str(error), "parts": [error.what, error.expected, error.todo]}
        except library_errors as error:  # nor does what a library raises over it
            traceback.print_exc()
            refused[lowering["key"]] = {"reason": f"{type(error).__name__}: {error}"[:400], "parts": None}
    return {"networks": made, "references": found, "refused": refused}


def _lowered(
    network: Network, spec: ModelSpec, lowering: Mapping[str, Any], pictures: Sequence[Any], emit: Callable[..., None]
) -> Network:
    recipe = Recipe.from_dict(lowering["recipe"])
    words = " ".join(filter(None, (recipe.precision, spec.title, network.statistics or "")))

    def report(what: str, share: float) -> None:
        emit("phase", name=f"{words}: {what}", share=share)

    request = LoweringRequest(network, spec, recipe, pictures)
    if recipe.precision != "auto":
        return lowered_network(request, cache_folder(), report)
    from bench.search import searched_network

    return searched_network(request, lowering["engine"], Options(**lowering["options"]), report)


def _network(request: ExportRequest) -> Network:
    if not request.spec.onnx:
        return export_network(request, cache_folder())
    from export.own_onnx import network_from_onnx

    return network_from_onnx(request.spec, cache_folder())


def _calibration(path: str | None) -> list[np.ndarray]:
    if path is None:
        return [picture for _, picture in calibration_pictures()]
    return [read_picture(p) for p in list_pictures(path)]


def _references(network: Network, inputs: Mapping[str, str], threads: int, emit: Callable[..., None]) -> dict[str, str]:
    # Somebody's ONNX file has no torch module: its own FP32 run is what other runs of it are judged by.
    engine = engines.get("onnxruntime" if network.main.role == "onnx" else "torch_eager")
    settings = engine.complete_settings({})
    found, session = {}, None
    digest = _network_digest(network) if inputs else None
    for key, path in inputs.items():
        x = np.load(path)
        target = _reference_path(digest, x)
        if not target.exists():
            words = ["reference", network.model, network.statistics or "", f"{x.shape[3]}x{x.shape[2]}"]
            emit("phase", name=" ".join(filter(None, words)))
            session = session or load_network(engine, network, Options(threads=threads, settings=settings))
            session.bind(x)
            session.enqueue()
            _save(target, session.read())
        else:
            os.utime(target)
        found[key] = str(target)
    if session:
        session.close()
    return found


def _network_digest(network: Network) -> Any:
    """A SHA-256 that has taken in all a reference depends on but the picture."""
    runner = engines.get("onnxruntime").version() if network.main.role == "onnx" else metadata.version("torch")
    facts = [runner, code_sha256(), *machine.describe()["isa"]]
    digest = hashlib.sha256(" ".join(facts).encode())
    for graph in (network.main, network.thumbnail):
        if graph:
            digest.update(graph.role.encode())
            digest.update(graph.sha256.encode())
            if graph.state_path:
                digest.update(Path(graph.state_path).read_bytes())
    return digest


def _reference_path(network_digest: Any, x: np.ndarray) -> Path:
    digest = network_digest.copy()
    digest.update(repr(x.shape).encode())
    digest.update(x.tobytes())
    folder = cache_folder() / "references"
    folder.mkdir(exist_ok=True)
    return folder / f"{digest.hexdigest()[:32]}.npy"


def _save(target: Path, y: np.ndarray) -> None:
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(scratch, "wb") as file:
            np.save(file, y)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def _forget_oldest(folder: Path) -> None:
    """Keeps the newest files up to CACHE_LIMIT_MIB, and all of the last hour: other runs may be about to read them."""
    forget_leftovers(folder)
    found = []
    for file in folder.glob("*.npy"):
        with contextlib.suppress(FileNotFoundError):  # another run forgot it first
            status = file.stat()
            found.append((status.st_mtime, status.st_size, file))
    total, recent = 0, time.time() - 3600
    for used, size, file in sorted(found, reverse=True):
        total += size
        if total > CACHE_LIMIT_MIB << 20 and used < recent:
            file.unlink(missing_ok=True)

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
from dataclasses import replace
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
from export.network import INPUT, OUTPUT, Network
from export.onnx_file import onnxruntime_errors
from export.precision import LoweringRequest, lowered_network
from export.recipe import QUANTISED, Recipe
from export.to_onnx import ExportRequest, export_network
from reference_models.errors import UserError
from reference_models.pictures import calibration_pictures, list_pictures, read_picture
from reference_models.spec import ModelSpec

PROOF_SIDE, WHOLE_SIDE, PROOF_TOLERANCE = 96, 1024, 1e-4
"""Pixels a side, the second of networks with statistics of the picture; and of the highest value. FP32 differs by 1e-6
to 1e-5 between devices, TF32 by 1e-3."""
Emit = Callable[..., None]
CACHE_LIMIT_MIB = 4096
"""References are pictures in float32, 95 MiB at 4K: the oldest go first."""


def prepare(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Files of one model.

    Args:
        job: spec (JSON), weights (file or None), statistics (list), calibration and style (path or None),
            inputs ({key: .npy path}), threads, device (of the cases; absent: cpu). Without inputs only the networks are
            made. lowerings: graphs of other precisions, each with key, statistics, recipe, engine and options.

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
        found[str(statistics)] = _references(network, job, emit)
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
    network: Network, spec: ModelSpec, lowering: Mapping[str, Any], pictures: Sequence[Any], emit: Emit
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


def _references(network: Network, job: Mapping[str, Any], emit: Emit) -> dict[str, str]:
    if not job["inputs"]:
        return {}
    # Somebody's ONNX file has no torch module: its own FP32 run is what other runs of it are judged by.
    engine = engines.get("onnxruntime" if network.main.role == "onnx" else "torch_eager")
    device = reference_device(engine, network, job, emit)
    return _computed(network, job["inputs"], (engine, _options(engine, device, job["threads"])), emit)


def _computed(
    network: Network, inputs: Mapping[str, str], on: tuple[engines.Engine, Options], emit: Emit
) -> dict[str, str]:
    (engine, options), found, session = on, dict[str, str](), None
    digest = _network_digest(network, options.device)
    try:
        for key, path in inputs.items():
            x = np.load(path)
            target = _reference_path(digest, x, options.device)
            if not target.exists():
                words = ["reference", network.model, network.statistics or "", f"{x.shape[3]}x{x.shape[2]}"]
                emit("phase", name=" ".join(filter(None, words)))
                session = session or load_network(engine, network, options)
                session.bind(x)
                session.enqueue()
                session.synchronize()
                _save(target, session.read())
            else:
                os.utime(target)
            found[key] = str(target)
    except (RuntimeError, MemoryError):  # torch's errors of a device, memory that is too small before all
        if options.device == "cpu":
            raise
        traceback.print_exc()
        left = {key: path for key, path in inputs.items() if key not in found}
        return found | _computed(network, left, (engine, replace(options, device="cpu")), emit)
    finally:
        if session:
            session.close()
    return found


def _options(engine: engines.Engine, device: str, threads: int) -> Options:
    return Options(device, threads=threads, settings=engine.complete_settings({}))


def reference_device(engine: engines.Engine, network: Network, job: Mapping[str, Any], emit: Emit) -> str:
    """Where references are computed: on the CPU, or on the GPU that the cases run on where torch gives there what it
    gives on the CPU, seen on a part of the first picture.

    At 4K a network can take a CPU a minute. A GPU that computes something else, such as TF32, would hide it from every
    case that is judged by it.
    """
    device = str(job.get("device", "cpu"))
    if device == "cpu" or network.main.role == "onnx" or engine.missing() or engine.device_missing(device):
        return "cpu"
    emit("phase", name=f"reference {network.model}: is {device} exact?")
    spec = ModelSpec.from_json(job["spec"])
    x = np.load(next(iter(job["inputs"].values())), mmap_mode="r")
    # Sums over a picture lose digits as it grows: those of a small part would prove nothing.
    side = PROOF_SIDE if network.statistics in {None, "frozen"} else WHOLE_SIDE
    height, width = (min(a, b) for a, b in zip(spec.tensor_size(side, side), x.shape[2:], strict=True))
    part, made = np.array(x[:, :, :height, :width], order="C"), []
    try:
        for where in ("cpu", device):
            with load_network(engine, network, _options(engine, where, job["threads"])) as session:
                made.append(session.run({INPUT: part})[OUTPUT])
    except RuntimeError:  # torch's errors of a device
        traceback.print_exc()
        return "cpu"
    apart = float(np.abs(made[0] - made[1]).max())
    return device if apart <= PROOF_TOLERANCE * max(1.0, float(np.abs(made[0]).max())) else "cpu"


def _network_digest(network: Network, device: str) -> Any:
    """A SHA-256 that has taken in all a reference depends on but the picture."""
    runner = engines.get("onnxruntime").version() if network.main.role == "onnx" else metadata.version("torch")
    facts = [runner, code_sha256(), *machine.describe()["isa"]]
    if device != "cpu":
        import torch

        facts += [torch.cuda.get_device_name(device), str(torch.version.cuda), str(torch.backends.cudnn.version())]
    digest = hashlib.sha256(" ".join(facts).encode())
    for graph in (network.main, network.thumbnail):
        if graph:
            digest.update(graph.role.encode())
            digest.update(graph.sha256.encode())
            if graph.state_path:
                digest.update(Path(graph.state_path).read_bytes())
    return digest


def _reference_path(network_digest: Any, x: np.ndarray, device: str) -> Path:
    """Its name says on which device it was made, unless that is the CPU."""
    digest = network_digest.copy()
    digest.update(repr(x.shape).encode())
    digest.update(x.tobytes())
    folder = cache_folder() / "references"
    folder.mkdir(exist_ok=True)
    where = "" if device == "cpu" else f".{device.replace(':', '-')}"
    return folder / f"{digest.hexdigest()[:32]}{where}.npy"


def made_on(paths: Sequence[str]) -> str:
    """The devices on which references were made, each once."""
    found = [Path(path).stem.partition(".")[2].replace("-", ":") or "cpu" for path in paths]
    return ", ".join(dict.fromkeys(found))


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

"""The worker's job of `bench build`: a network → the plan that an engine deploys, and what is known about it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.picture_plan import network_of
from reference_models.errors import UserError

ONNX_ENGINES = ("onnxruntime", "openvino")
"""They read ONNX themselves: what is deployed for them is the graph."""
REPORT_S = 0.2


def check_can_build(name: str) -> None:
    """
    Raises:
        UserError: the engine has no plans, or cannot build them here.
    """
    import engines
    from engines.trt.engine import TrtEngine

    engine = engines.get(name)
    if isinstance(engine, TrtEngine):
        if reason := engine.build_missing():
            raise UserError(f"engine `{name}`: {reason}", _usable_builders(), f"To install: {engine.install}")
    elif name not in ONNX_ENGINES:
        raise UserError(f"engine `{name}`: it has no plans that can be deployed", _usable_builders(), "Choose another")


def _usable_builders() -> str:
    import engines
    from engines.trt.engine import TrtEngine

    found = [e for e in map(engines.get, engines.names()) if isinstance(e, TrtEngine) and not e.build_missing()]
    return "one of " + ", ".join([*(e.name for e in found), *ONNX_ENGINES])


def job_build(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """Builds, or finds what was built before.

    Args:
        job: engine, precision, settings, network and spec (JSON), size_multiple, and profiles: [[least, tuned, most],
            ...], each a (height, width) of the input.

    Returns:
        path and facts of the plan, `cached`, versions of the libraries that took part, and the network (JSON) that the
        plan is one of: on pictures, where that was asked for.
    """
    import engines
    from engines.trt.engine import TrtEngine

    engine = engines.get(job["engine"])
    network = network_of({**job, "case": {"settings": job["settings"], "spec": job["spec"]}}, engine)
    versions = {name: metadata.version(name) for name in ("fullres", "torch", "onnx", "onnxscript")}
    versions |= {"python": platform.python_version(), "engine": engine.version()}
    if not isinstance(engine, TrtEngine):
        told = {"path": network.main.onnx_path, "facts": {"cached": True}}
        return {**told, "versions": versions, "network": network.to_json()}
    from engines.trt.builder import BuildRequest, Profile
    from engines.trt.device import device_memory, device_words
    from engines.trt.plans import stored_plan

    last = 0.0

    def report(phase: str, share: float) -> None:
        nonlocal last
        if time.perf_counter() - last > REPORT_S:
            last = time.perf_counter()
            emit("progress", phase=phase, share=share, seconds=last - start)

    request = BuildRequest(
        network.main.onnx_path,
        network.main.sha256,
        job["precision"],
        tuple(Profile(*((int(h), int(w)) for h, w in sizes)) for sizes in job["profiles"]),
        engine.complete_settings(job["settings"]),
        1 if network.main.takes_pictures else job["size_multiple"],
    )
    device = memory = None
    if engine.api.needs_device_to_build:
        device, memory = device_words(0), device_memory(0)
    start = time.perf_counter()
    plan = stored_plan(engine.api, request, device or "", report, memory)
    seconds = time.perf_counter() - start
    facts = {**plan.facts, "seconds": seconds, "cached": plan.cached, "key": plan.key, "device": device}
    return {"path": str(plan.path), "facts": facts, "versions": versions, "network": network.to_json()}


def copy_whole(source: Path, target: Path) -> None:
    """
    Raises:
        UserError: the target cannot be written; what lay there is as it was.
    """
    from engines.trt.plans import write_whole

    try:
        write_whole(target, source.read_bytes())
    except OSError as error:
        raise UserError(f"`--output {target}`: {error.strerror}", "a writable file", "Choose another") from None

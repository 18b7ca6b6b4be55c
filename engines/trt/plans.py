"""Plans and timing caches on disk, by content: the same request to the same library and device is built once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engines.trt.api import Api
from engines.trt.builder import SETTINGS, BuildRequest, build_plan
from engines.trt.reporting import Report
from export.cache import cache_folder, forget_leftovers
from export.network import file_sha256

LIMIT_MIB = 8192
"""Of all plans: those of large networks have hundreds of MiB."""


@dataclass(frozen=True)
class StoredPlan:
    """A plan's file and what is known about it."""

    path: Path
    sha256: str
    key: str
    """Names request, library, device and our code; equal keys mean interchangeable plans."""
    facts: dict[str, Any]
    """As BuiltPlan.facts, and `timing_cache_sha256` (of the timings that went in; None: there were none)."""
    cached: bool
    """Whether an earlier process built it."""


def stored_plan(
    api: Api, request: BuildRequest, device: str, report: Report, device_bytes: int | None = None
) -> StoredPlan:
    """The plan of this request, from the cache or built into it.

    Args:
        device: name and driver of the device that kernels are timed on; empty for a library that times none.

    Raises:
        UserError, RuntimeError: as build_plan.
    """
    folder = plan_folder()
    key = plan_key(api, request, device)
    plan, facts = folder / f"{key}.plan", folder / f"{key}.json"
    if facts.exists() and plan.exists():
        known = json.loads(facts.read_text())
        if file_sha256(plan) == known["sha256"]:
            plan.touch()
            return StoredPlan(plan, known["sha256"], key, known["facts"], cached=True)
    forget_leftovers(folder)
    timings = folder / f"timings-{_digest([api.package, api.version(), device])}.bin"
    before = timings.read_bytes() if timings.exists() else b""
    built = build_plan(api, request, report, before, device_bytes)
    used = hashlib.sha256(before).hexdigest() if before else None
    known = {"sha256": hashlib.sha256(built.plan).hexdigest(), "facts": {**built.facts, "timing_cache_sha256": used}}
    # The facts come last: where they are, the plan is whole.
    write_whole(plan, built.plan)
    write_whole(facts, json.dumps(known).encode())
    if built.timings:
        write_whole(timings, built.timings)
    forget_oldest(folder, LIMIT_MIB, keep=plan)
    return StoredPlan(plan, known["sha256"], key, known["facts"], cached=False)


def plan_folder() -> Path:
    """Where plans, timings and compiled kernels are kept."""
    folder = cache_folder() / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget_oldest(folder: Path, limit_mib: float, keep: Path) -> None:
    """Removes the plans that were not asked for for the longest, until the rest is below the limit; never `keep`."""
    left = sum(path.stat().st_size for path in folder.iterdir())
    for plan in sorted(folder.glob("[!.]*.plan"), key=lambda path: path.stat().st_mtime):
        if left <= limit_mib * 2**20:
            return
        if plan != keep:
            for path in folder.glob(f"{plan.stem}[.-]*"):
                left -= path.stat().st_size
                path.unlink(missing_ok=True)


def plan_key(api: Api, request: BuildRequest, device: str) -> str:
    """32 hexadecimal digits over everything that the plan depends on; where the ONNX file lies does not matter."""
    # What only matters when a plan runs is left out: graph=on and graph=off are to be two ways of running one plan.
    names = {setting.name for setting in (*SETTINGS, *api.settings)}
    facts = {**asdict(request), "settings": {k: v for k, v in request.settings.items() if k in names}}
    del facts["onnx_path"]
    return _digest([facts, api.package, api.version(), device, _code_sha256()])


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code_sha256() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write_whole(target: Path, data: bytes) -> None:
    """Whole or not at all: a full disk leaves the old file as it was."""
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        scratch.write_bytes(data)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)

"""ONNX → session. Finds the engines in this folder; imports no vendor library."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Engine
from reference_models.errors import UserError, unknown

if TYPE_CHECKING:
    from engines.deployed import DeployedSession


@cache
def _registry() -> dict[str, Engine]:
    found: dict[str, Engine] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if "\nENGINE = " not in path.read_text():  # the rest is half of the time that `bench engines` takes
            continue
        module = path.stem
        engine = importlib.import_module(f"{__name__}.{module}").ENGINE
        if engine.name != module:
            raise ValueError(f"engines/{module}.py calls its engine {engine.name!r}; file and engine share one name")
        found[module] = engine
    return found


def load(
    plan: str | Path, device: str = "auto", threads: int | None = None, host_code: bool = False
) -> DeployedSession:
    """What `bench build` wrote, as a callable on uint8 (H, W, 3) RGB pictures; imports the plan's own library only.

    Thread-safe. `device`: `cpu`, `cuda:N` or `auto`; `threads`: of the CPU, None: one for every usable core;
    `host_code`: whether a runtime inside of the plan may run, see docs/tensorrt.md.

    Raises:
        UserError: no sidecar beside it, one of another plan, an engine that is not usable here, or code in it.
    """
    from engines.deployed import load as load_deployed

    return load_deployed(plan, device, threads, host_code)


def names() -> list[str]:
    """Names of all engines, usable here or not."""
    return list(_registry())


def get(name: str) -> Engine:
    """One engine by name.

    Raises:
        UserError: no engine has this name; the nearest one is suggested.
    """
    if name not in _registry():
        raise unknown("--engine", name, "engine", names(), "`bench engines` says which are usable here")
    return _registry()[name]


def usable_on(device: str, precision: str | None = None) -> list[str]:
    """Names of the engines that can compute on this device here, and in this precision where one is given."""
    return [
        engine.name
        for engine in _registry().values()
        if device.partition(":")[0] in engine.precisions
        and not engine.missing()
        and not engine.device_missing(device)
        and (precision is None or not engine.precision_missing(device, precision))
    ]


def fastest(device: str, precision: str = "fp32") -> str:
    """The usable engine that stands first in the order of automatic choice on this device, in this precision.

    The order is each engine's `rank`, from the measurements in docs/engines.md.

    Raises:
        UserError: no engine can be chosen.
    """
    kind = device.partition(":")[0]
    usable = [name for name in usable_on(device, precision) if kind in get(name).rank]
    if usable:
        return min(usable, key=lambda name: get(name).rank[kind])
    reasons = "; ".join(
        f"{e.name}: {e.missing() or e.device_missing(device) or e.precision_missing(device, precision)}"
        for e in _registry().values()
        if e.rank
    )
    raise UserError(
        f"no engine for {precision} on {device} ({reasons})",
        "a usable engine for this precision and device",
        "`bench engines` says what makes one usable",
    )

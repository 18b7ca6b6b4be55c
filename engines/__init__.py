"""ONNX → session. Finds the engines in this folder; imports no vendor library."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from engines.engine import Engine
from reference_models.errors import unknown


@cache
def _registry() -> dict[str, Engine]:
    found: dict[str, Engine] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg):
        engine = getattr(importlib.import_module(f"{__name__}.{module}"), "ENGINE", None)
        if engine is None:
            continue
        if engine.name != module:
            raise ValueError(f"engines/{module}.py calls its engine {engine.name!r}; file and engine share one name")
        found[module] = engine
    return found


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


def fastest(device: str) -> str:
    """The usable engine that stands first in the order of automatic choice on this device.

    The order is each engine's `rank`, from the measurements in docs/engines.md.
    """
    kind = device.partition(":")[0]
    usable = [e for e in _registry().values() if kind in e.rank and not e.missing() and not e.device_missing(device)]
    return min(usable, key=lambda e: e.rank[kind]).name

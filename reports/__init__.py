"""Finds the sections of the report: every file of reports/sections, in the order that each states itself."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def ordered_sections() -> list[ModuleType]:
    """Modules with TITLE, ORDER and render(report) -> str; the lowest ORDER first.

    Raises:
        ValueError: two sections have the same ORDER (our bug).
    """
    from reports import sections as package

    found = [import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)]
    if len({module.ORDER for module in found}) < len(found):
        raise ValueError(f"two sections with the same ORDER: {sorted((m.ORDER, m.__name__) for m in found)}")
    return sorted(found, key=lambda module: int(module.ORDER))

"""The image operators that networks of this project replace, one file each. Imports no heavy library by itself."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from reference_models.errors import unknown
from reference_models.operators.operator import Operator


@cache
def _registry() -> dict[str, Operator]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [module.OPERATOR for module in modules if hasattr(module, "OPERATOR")]
    return {operator.name: operator for operator in found}


def names() -> list[str]:
    """Names of all operators, in the order of their files."""
    return list(_registry())


def get(name: str) -> Operator:
    """One operator.

    Raises:
        UserError: none has this name (the nearest one is suggested).
    """
    if name not in _registry():
        raise unknown("operator", name, "operator", names(), "Give one of these")
    return _registry()[name]

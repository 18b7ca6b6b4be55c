"""What is measured: network definitions as published. Finds the families in this folder; imports no torch by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from reference_models.errors import UserError, unknown
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import torch


@cache
def _registry() -> dict[str, ModelSpec]:
    found: dict[str, ModelSpec] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg):
        for spec in getattr(importlib.import_module(f"{__name__}.{module}"), "SPECS", ()):
            if spec.name in found:
                raise ValueError(f"two models are called {spec.name!r}; the second is in reference_models/{module}.py")
            found[spec.name] = spec
    return found


def names() -> list[str]:
    """Names of all networks, in the order of their files."""
    return list(_registry())


def get(name: str) -> ModelSpec:
    """The declaration of one network.

    Raises:
        UserError: no network has this name; the nearest one is suggested.
    """
    if name not in _registry():
        raise unknown("--model", name, "model", names(), "`bench models` lists them with their sources")
    return _registry()[name]


def factory_from_path(path: str) -> Callable[..., Any]:
    """What `package.module:Callable` names; imports the module."""
    package, _, attribute = path.partition(":")
    factory: Callable[..., Any] = getattr(importlib.import_module(package), attribute)
    return factory


def create_model(name: str, weights: str | None = None, **options: object) -> torch.nn.Module:
    """The network as a torch.nn.Module in eval mode, NCHW float32 in and out.

    Args:
        name: one of `names()`.
        weights: a name from the network's spec, a safetensors or weights-only PyTorch file, or None for the
            published initialisation (untrained).
        options: keyword arguments of the network that override those of its spec.

    Raises:
        UserError: unknown name, unknown option, or weights that do not belong to this network.
    """
    from reference_models.weights import load_weights

    spec = get(name)
    factory = factory_from_path(spec.factory)
    merged = {**spec.options, **options}
    try:
        model = factory(**merged)
    except TypeError as error:
        raise UserError(
            f"model `{name}`: {error}",
            f"options among {', '.join(merged) or 'none'}",
            "Check the spelling of the options",
        ) from None
    if weights is not None:
        load_weights(model, spec, weights)
    return model.eval()

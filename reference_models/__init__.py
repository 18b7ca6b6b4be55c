"""What is measured: network definitions as published. Finds the families in this folder; imports no torch by itself."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from reference_models.choices import OUR_PACKAGES, callable_from_path, configured
from reference_models.errors import UserError, nearest, unknown
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import torch


@cache
def _registry() -> dict[str, ModelSpec]:
    found: dict[str, ModelSpec] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg):
        if "\nSPECS" not in (Path(__file__).parent / f"{module}.py").read_text():
            continue  # not imported: some need NumPy, which takes longer than every look-up
        for spec in getattr(importlib.import_module(f"{__name__}.{module}"), "SPECS", ()):
            if spec.name in found:
                raise ValueError(f"two models are called {spec.name!r}; the second is in reference_models/{module}.py")
            found[spec.name] = spec
    return found


def names() -> list[str]:
    """Names of all networks, in the order of their files."""
    return list(_registry())


def get(name: str, options: Mapping[str, int | float | str] | None = None) -> ModelSpec:
    """The declaration of one network, with these of its options chosen.

    Args:
        name: one of `names()`, or `package.module:Factory` of a network of the user's own.
        options: values or words by name, among `ModelSpec.offers`; for a network of one's own, its keyword arguments.

    Raises:
        UserError: no network has this name (the nearest one is suggested), or it does not offer this.
    """
    if ":" in name:
        from reference_models.own_factory import spec_from_factory

        return spec_from_factory(name, options or {})
    if name not in _registry():
        _refuse_file(name)
        raise unknown("--model", name, "model", names(), "`bench models` lists them with their sources")
    return configured(_registry()[name], options or {})


def _refuse_file(name: str) -> None:
    """
    Raises:
        UserError: the name is that of a file whose ending is nearly `.onnx`.
    """
    stem, ending = os.path.splitext(name)
    if ending.lower().startswith(".o") and nearest(ending, [".onnx"]):
        raise UserError(
            f"`--model {name}`: `{ending}` is no ending of a network's file",
            "FILE.onnx, package.module:Factory or a network that `bench models` lists",
            f"Did you mean {stem}.onnx?",
        )


def model_from_spec(spec: ModelSpec, weights: str | None = None) -> torch.nn.Module:
    """The spec's network in eval mode.

    Raises:
        UserError: weights that do not belong to it.
    """
    from reference_models.weights import load_weights

    model = module_from_factory(spec.factory, spec.options)
    if weights is not None:
        load_weights(model, spec, weights)
    return model.eval()


def module_from_factory(factory: str, options: Mapping[str, object]) -> torch.nn.Module:
    """What `package.module:Callable` makes of these options; one that is not ours gets the same random numbers in every
    process, since it may draw what no state holds."""
    if factory.partition(":")[0].partition(".")[0] in OUR_PACKAGES:
        ours: torch.nn.Module = callable_from_path(factory)(**options)
        return ours
    from reference_models.own_factory import model_from_factory

    return model_from_factory(factory, options)


def create_model(name: str, weights: str | None = None, **options: int | float | str) -> torch.nn.Module:
    """The network as a torch.nn.Module in eval mode, NCHW float32 in and out.

    Args:
        name: one of `names()`, or `package.module:Factory`.
        weights: a name from the network's spec, a safetensors or weights-only PyTorch file, or None for the
            published initialisation (untrained).
        options: choices among those that the network offers.

    Raises:
        UserError: unknown name, an option that is not offered, or weights that do not belong to this network.
    """
    return model_from_spec(get(name, options), weights)

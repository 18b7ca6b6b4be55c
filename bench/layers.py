"""The small file that says which layers are quantised: written by the search, read, edited and replayed by people."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_models.errors import UserError

if TYPE_CHECKING:
    from export.network import Network

FORMAT = "fullres layers 1"
FLOAT = ("fp32", "fp16")


@dataclass(frozen=True)
class Layers:
    """What such a file says."""

    path: str
    kept: tuple[str, ...]
    """Layers that stay in float."""
    model: str | None
    """Whose layers they are, as `bench` titles it; None where the file does not say."""

    def check_model(self, title: str) -> None:
        """
        Raises:
            UserError: the file is of another model: names such as `convs.3` fit many, and mean another layer in each.
        """
        if self.model not in {None, title}:
            raise UserError(
                f"`--layers {self.path}`: its layers are those of `{self.model}`",
                f"a file for `{title}`",
                f"Search with `--model {title.replace(' ', ':')}`, or correct `model` in the file where both are alike",
            )


def read_layers(path: str) -> Layers:
    """What the file says.

    Raises:
        UserError: no such file, or one that does not say layers.
    """
    form = f'{{"format": "{FORMAT}", "model": "NAME", "layers": {{"NAME": "int8" or "fp32", ...}}}}'
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"`--layers {path}`: {error.strerror}", "a file that can be read", "Check the path") from None
    except ValueError:
        raise UserError(f"`--layers {path}`: not JSON", form, "Let `--precision auto` write one") from None
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(layers, dict) or content.get("format") != FORMAT or not layers:
        raise UserError(f"`--layers {path}`: does not say layers", form, "Let `--precision auto` write one")
    for name, kind in layers.items():
        if kind not in ("int8", "fp8", *FLOAT):
            raise UserError(f"`--layers {path}`: layer `{name}` is `{kind}`", "int8, fp8, fp32 or fp16", "Correct it")
    model = content.get("model")
    if not isinstance(model, str | None):
        raise UserError(f"`--layers {path}`: its model is `{model}`", "a name", "Correct it")
    return Layers(path, tuple(name for name, kind in layers.items() if kind in FLOAT), model)


def write_layers(runs: Iterable[Mapping[str, Any]], folder: Path, stem: str = "") -> list[Path]:
    """Writes one file per plan that `--precision auto` found for these runs, and gives their paths.

    A file that tells of the same search stays as it is: somebody may have edited it.

    Args:
        stem: what their names begin with.

    Raises:
        OSError: a file cannot be written.
    """
    found: dict[Path, dict[str, Any]] = {}
    for run in runs:
        lowering = run.get("lowering") or {}
        if lowering.get("search"):
            case, model = run["case"], _model(run["case"])
            bits = (lowering.get("recipe") or {}).get("weight_bits")
            words = ["layers", model, case["variant"], case["statistics"], f"{lowering['search']['floor_db']:g}dB"]
            words += [f"{bits}bit"] if bits else []
            name = re.sub(r"[^\w.=+-]", "-", "-".join(filter(None, words)))
            found[folder / f"{stem}{name}.json"] = layers_file(model, lowering)
    for path, content in found.items():
        if not _tells_of(path, content["search"]):
            write_layers_file(path, content)
    return list(found)


def write_found_layers(target: Path, network: Network) -> Path | None:
    """OUTPUT.layers.json beside an output that was made with `--precision auto`; None for others.

    Raises:
        UserError: it cannot be written.
    """
    if not network.lowering or not network.lowering.get("search"):
        return None
    path = target.with_name(f"{target.name}.layers.json")
    try:
        write_layers_file(path, layers_file(network.model, network.lowering))
    except OSError as error:
        raise UserError(f"`{path}`: {error.strerror}", "a writable file", "Choose another") from None
    return path


def write_layers_file(path: Path, content: Mapping[str, Any]) -> None:
    """
    Raises:
        OSError: it cannot be written; what lay there is as it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _model(case: Mapping[str, Any]) -> str:
    return " ".join([case["model"], *(f"{name}={value}" for name, value in (case.get("options") or {}).items())])


def _tells_of(path: Path, search: Mapping[str, Any]) -> bool:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("search") == search


def layers_file(model: str, lowering: Mapping[str, Any]) -> dict[str, Any]:
    """What is written: the layers, and how they were found."""
    return {"format": FORMAT, "model": model, "layers": lowering["layers"], "search": lowering.get("search")}

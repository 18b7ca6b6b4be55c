"""Pictures of a run → files that the worker processes read: tensors that go in, the pictures behind them, targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.case import Case
from reference_models.errors import UserError


class NoRoom(UserError):  # noqa: N818  an event of the machine
    """The pictures do not fit into memory or onto the disk at the resolution asked for."""

    exit_code = 5

    def __init__(self, case: Case, folder: Path, error: Exception) -> None:
        super().__init__(
            f"input of {case.width}x{case.height}: {error}",
            f"room for it in memory and in {folder}",
            "Choose a smaller --res, or set TMPDIR to a larger disk",
        )


def write_inputs(
    cases: Sequence[Case],
    pictures: Sequence[tuple[str, Any]],
    originals: Mapping[str, str],
    scratch: Path,
    known: Mapping[str, list[str]] | None = None,
) -> dict[str, list[str]]:
    """`input_key` → .npy files of the pictures, brought to that input size; beside each its picture and target.

    Args:
        originals: model → task by which its pictures are degraded.
        known: what an earlier call gave for the same folder; part of the result.

    Raises:
        NoRoom: memory or disk is full.
    """
    import numpy as np

    from bench.originals import pair
    from reference_models import tasks
    from reference_models.colour import tensor_from_picture
    from reference_models.pictures import fit_picture

    found = dict(known or {})
    for case in cases:
        if input_key(case) in found:
            continue
        task = tasks.get(originals[case.model]) if case.model in originals else None
        paths: list[str] = []
        for _, picture in pictures:
            path = scratch / f"{len(found)}-{len(paths)}.npy"
            try:
                given, target = pair(task, case, picture) if task else (fit_picture(picture, *case.input_size), None)
                np.save(path, tensor_from_picture(given, case.spec))
                np.save(source_path(path), given)
                if target is not None:
                    np.save(target_path(path), target)
            except (OSError, MemoryError) as error:
                raise NoRoom(case, scratch.parent, error) from None
            paths.append(str(path))
        found[input_key(case)] = paths
    return found


def input_key(case: Case) -> str:
    """What cases share their inputs by: model and sizes of both pictures."""
    return "{} {}x{} {}x{}".format(case.model, *case.input_size, case.width, case.height)


def source_path(path: Path) -> Path:
    """Where the picture behind an input tensor lies: its colours are needed to show what comes out."""
    return path.with_name(f"picture-{path.name}")


def target_path(path: Path) -> Path:
    """Where the picture lies that should come out."""
    return path.with_name(f"target-{path.name}")

"""An operator's own output on the pictures of a run, cached by content, and its own time on the first of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bench.case import Case
from bench.inputs import source_path, target_path
from bench.measure import Rule, measure
from export.cache import cache_folder, code_sha256
from reference_models import operators, tasks
from reference_models.pictures import Picture


def run_operator(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """The worker's job.

    Args:
        job: operator, pictures ({.npy of an input: .npy where the output goes}), timed (one of the inputs, or None),
            threads, budget_s.

    Returns:
        series: ms of the operator on the timed picture, None without one.
    """
    operator = operators.get(job["operator"])
    for source, target in job["pictures"].items():
        picture = np.load(source)
        emit("phase", name=f"{operator.name} {picture.shape[1]}x{picture.shape[0]}")
        np.save(target, cached(operator, picture, job["threads"]))
    if job["timed"] is None:
        return {"series": None}
    picture = np.load(job["timed"])
    emit("phase", name=f"time of {operator.name}")
    rule = Rule(budget_s=job["budget_s"], min_samples=1)
    return {"series": vars(measure(lambda: _run(operator, picture, job["threads"]), rule))}


def operator_job(task: str, case: Case, inputs: Sequence[str], budget_s: float) -> dict[str, Any] | None:
    """The job above for the inputs of a case; None where the task has no operator."""
    operator = tasks.get(task).operator
    if operator is None:
        return None
    sources = {str(source_path(Path(path))): str(target_path(Path(path))) for path in inputs}
    return {
        "job": "operator",
        "operator": operator,
        "pictures": sources,
        "timed": next(iter(sources)),
        "threads": case.threads,
        "budget_s": budget_s,
    }


def _run(operator: operators.Operator, picture: Picture, threads: int) -> None:
    operator(picture, threads)


def cached(operator: operators.Operator, picture: Picture, threads: int) -> Picture:
    """The operator's output, from the cache of references where it has been made before."""
    path = _path(operator, picture)
    if path.exists():
        os.utime(path)
        found: Picture = np.load(path)
        return found
    made = operator(picture, threads)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(scratch, "wb") as file:
            np.save(file, made)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return made


def _path(operator: operators.Operator, picture: Picture) -> Path:
    libraries = [metadata.version(name) for name in ("numpy", "scipy", "scikit-image")]
    facts = [operator.name, repr(sorted(operator.parameters.items())), code_sha256(), *libraries, repr(picture.shape)]
    digest = hashlib.sha256("\n".join(facts).encode())
    digest.update(np.ascontiguousarray(picture).tobytes())
    return cache_folder() / "references" / f"{digest.hexdigest()}.npy"

"""One case → its exported network, for the commands that measure nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.exit_codes import COULD_NOT_MEASURE
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.case import Case


def exported(case: Case, calibration: str | None, reporter: Any, style: str | None = None) -> str:
    """JSON of the case's network, exported in a worker.

    Raises:
        UserError: weights or pictures that the network refuses, or a worker that failed (exit code 5).
    """
    from bench.spawn import JobFailed, run_job

    job: dict[str, Any] = {
        "job": "prepare",
        "spec": case.spec.to_json(),
        "weights": case.weights,
        "statistics": [case.statistics],
        "calibration": calibration,
        "style": style,
        "threads": case.threads,
        "inputs": {},
    }
    with reporter.stage(f"prepare {case.model}") as show:
        try:
            return run_job(job, None, lambda event: show(0, event.get("name", "")))["networks"][str(case.statistics)]
        except JobFailed as failure:
            raise told(failure) from None


def told(failure: Any) -> Exception:
    """What the command line says of a job that failed: the user's error, or a reason with the exit code for failing."""
    if failure.user_error:
        return failure.user_error
    error = UserError(failure.reason, "a worker that ends with a result", "What it printed last:\n" + failure.log)
    error.exit_code = COULD_NOT_MEASURE  # type: ignore[attr-defined]
    return error


def refuse_thumbnail(statistics: str | None) -> None:
    """
    Raises:
        UserError: `thumbnail`, asked of a command that writes one file.
    """
    if statistics == "thumbnail":
        raise UserError(
            "`--statistics thumbnail`: the host folds new weights for every picture, which one file cannot hold",
            "image or frozen",
            "Use `bench apply --statistics thumbnail` to run it",
        )


def fastest_engine(device: str, precision: str) -> str:
    """The engine that a command takes where none is named.

    Raises:
        UserError: no such device, or no engine for this precision on it.
    """
    import engines
    from bench.case import resolve_device

    return engines.fastest(resolve_device(device), precision)


def only_one(cases: Sequence[Case], left_out: Sequence[object]) -> None:
    """
    Raises:
        UserError: the choices name several cases, and the command takes one.
    """
    if len(cases) + len(left_out) != 1:
        raise UserError("several models, engines, precisions or statistics", "one of each", "Name one of each")

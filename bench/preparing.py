"""One case → its exported network, for the commands that measure nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.exit_codes import COULD_NOT_MEASURE
from reference_models.errors import UserError, unknown

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
        "lowerings": lowerings([case]),
    }
    with reporter.stage(f"prepare {case.model}") as show:
        try:
            made = run_job(job, None, lambda event: show(0, event.get("name", "")))
        except JobFailed as failure:
            raise told(failure) from None
    if refusal := made["refused"].get(case.network_key):
        raise refused(refusal)
    return str(made["networks"][case.network_key])


def tiling_for(case: Case, network: str, reporter: Any) -> dict[str, Any] | None:
    """What a job of this network is told of tiles (its key `tiling`); None: whole pictures.

    Args:
        network: JSON, as from `exported`.

    Raises:
        UserError: the network cannot be tiled exactly, or a worker failed (exit code 5).
    """
    from bench.spawn import JobFailed, run_job

    if case.tile == "off":
        return None
    with reporter.stage(f"tiles {case.model}"):
        try:
            return run_job(tile_job(case, network))
        except JobFailed as failure:
            raise told(failure) from None


def tile_job(case: Case, network: str) -> dict[str, Any]:
    """The job that finds what a network's tiles need."""
    chosen = {key: getattr(case, key) for key in ("engine", "precision", "device", "tile")}
    return {"job": "tiles", "network": network, **chosen}


def limit_environment(memory_mib: float | None) -> dict[str, str]:
    """Under a limit on address space the allocator must not ask for more than it needs."""
    return {"MALLOC_TOP_PAD_": str(1 << 20)} if memory_mib is not None else {}


def lowerings(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """What the job `prepare` has to make of its networks for these cases of one model, each once."""
    found = {}
    for case in cases:
        if case.recipe and case.statistics != "thumbnail":
            found[case.network_key] = {
                "key": case.network_key,
                "statistics": case.statistics,
                "recipe": case.recipe.to_dict(),
                "engine": case.engine,
                "options": {key: getattr(case, key) for key in ("device", "precision", "threads", "settings")},
            }
    return list(found.values())


def is_calibrated(case: Case) -> bool:
    """Whether ranges of its activations are found on calibration pictures."""
    return case.recipe is not None and case.recipe.calibrated


def refused(refusal: Mapping[str, Any]) -> UserError:
    """The error behind a network that the job `prepare` could not make in one precision: of the user, or exit code 5
    where it is of the program."""
    if refusal["parts"]:
        return UserError(*refusal["parts"])
    error = UserError(refusal["reason"], "a network that can be brought to this precision", "Choose another precision")
    error.exit_code = COULD_NOT_MEASURE  # type: ignore[attr-defined]
    return error


def told(failure: Any) -> Exception:
    """What the command line says of a job that failed: the user's error, or a reason with the exit code for failing."""
    if failure.user_error:
        return failure.user_error
    error = UserError(failure.reason, "a worker that ends with a result", "What it printed last:\n" + failure.log)
    error.exit_code = COULD_NOT_MEASURE  # type: ignore[attr-defined]
    return error


def for_engine(case: Case, arguments: argparse.Namespace, beside: Sequence[str] = ()) -> Case:
    """The case, as the graph of `--precision` for the engine that will run it wherever it runs.

    Args:
        beside: all precisions that are asked for, where there are several: one of them has to fit the other options.

    Raises:
        UserError: an engine or precision that does not exist, or that have nothing to do with each other.
    """
    import engines
    from bench.arguments import lowering_from_arguments
    from bench.case import PRECISIONS
    from bench.recipes import check_lowering, recipe_for

    engine, precision = engines.get(arguments.engine), arguments.precision
    if precision not in PRECISIONS:
        raise unknown("--precision", precision, "precision", PRECISIONS, "Give one of these")
    asked = lowering_from_arguments(arguments)
    check_lowering(beside or (precision,), asked, (case.model,))
    device = "cpu" if "cpu" in engine.precisions and precision in engine.precisions["cpu"] else "cuda:0"
    if precision not in engine.precisions.get(device.partition(":")[0], ()):
        known = sorted({word for words in engine.precisions.values() for word in words})
        raise UserError(
            f"`--precision {precision}`: engine `{engine.name}` has none", ", ".join(known), "Choose one of these"
        )
    settings = case.settings if engine.name == case.engine else engine.complete_settings({})
    return replace(
        case, engine=engine.name, device=device, precision=precision, settings=settings,
        recipe=recipe_for(engine, device, precision, asked),
    )  # fmt: skip


def as_graphs(case: Case, arguments: argparse.Namespace, words: Sequence[str]) -> list[Case]:
    """The case in each of these precisions, as graphs for the engine of `--engine`.

    Raises:
        UserError: as `for_engine`, or a precision that the engine makes itself.
    """
    import argparse

    found = []
    for word in words:
        lowered = for_engine(case, argparse.Namespace(**{**vars(arguments), "precision": word}), words)
        if lowered.recipe is None:
            raise UserError(
                f"`--precision {word}`: {lowered.engine} makes it of the FP32 graph itself, and no graph says how",
                "a precision that stands in the graph for this engine",
                "Leave --engine out: TensorRT's graph in this precision is judged",
            )
        found.append(lowered)
    return found


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

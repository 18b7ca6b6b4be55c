"""`bench run`: measures cases and prints one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import add_choices, request_from_arguments, split_words
from bench.exit_codes import COULD_NOT_MEASURE, INTERRUPTED, OK
from bench.preparing import is_calibrated
from bench.terminal import console_for, drop_output, progress_on
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.case import Case
    from bench.run import Plan

ORDER = 10


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="measure speed, memory and quality",
        description="Measures every combination of the choices, each in fresh worker processes, and prints one table. "
        "Runs are stored as they are measured; Ctrl-C keeps them.",
        epilog="example:\n  bench run --model can32 --res 1440p --engine onnxruntime,torch_eager --json runs.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measuring(parser)
    parser.add_argument("--json", metavar="FILE", help="runs file; runs already in it stay")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for runs.json (unless --json) and the first picture of each case"
    )
    parser.set_defaults(command=_run)


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """What is measured, and for how long."""
    add_choices(parser, many=True)
    parser.add_argument(
        "--res", required=True, metavar="R[,...]", help="320p 480p 720p 1080p 1440p 4k or WIDTHxHEIGHT, of the output"
    )
    parser.add_argument(
        "--plugins",
        metavar="on,off",
        help="own kernels of engines that have them (tensorrt; torch_eager and torch_compile on CUDA); with both, what "
        "stands below the table says at which size they earn their place. tensorrt: or `picture`, see docs/tensorrt.md",
    )
    parser.add_argument(
        "--images",
        metavar="FILE|DIR",
        help="input pictures: the first is timed, all are judged (default: a photograph)",
    )
    parser.add_argument(
        "--original",
        metavar="OPERATOR|TASK",
        help="what the network replaces: its pictures are compared with those of this operator, which is timed beside "
        "it, or with the ground truth of `super-resolution x3`, `denoising sigma 30` and the like (default: what the "
        "card of the weights says); weights trained for it are taken where they ship and --weights is not given",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=45,
        metavar="SECONDS",
        help="warm-up and samples of one case, all its processes together; exporting, loading and the first inference "
        "come on top. Default 45: three processes of up to 15 s each, then more (up to ten) while the interval is wide "
        "and budget is left; more seconds, narrower intervals",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="worker processes per case (default: 3, more while the interval is wide and the budget lasts)",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="then take the times of each case's layers too, by the library's own profiler in one more process a case; "
        "the report draws them (onnxruntime and openvino on a CPU, tensorrt and tensorrt_rtx on a GPU)",
    )
    add_ways(parser)


def add_ways(parser: argparse.ArgumentParser) -> None:
    """How pictures come to a case; each of them is a row of its own."""
    group = parser.add_argument_group("ways of use (docs/ways.md; default: back to back)")
    group.add_argument(
        "--pace",
        metavar="FPS[,...]",
        help="a picture every 1/FPS s, with idle gaps; counts those that are done too late. Takes the whole --budget. "
        "`off` is back to back, for a row beside",
    )
    group.add_argument(
        "--in-flight",
        metavar="K[,...]",
        help="K pictures under way at once, each in a session and thread of its own that share --threads: throughput",
    )
    group.add_argument(
        "--pictures",
        action="store_true",
        help="picture to picture: uint8 RGB in and out, conversion included; decoding and encoding told apart",
    )


def _run(arguments: argparse.Namespace) -> int:
    from bench import store
    from bench.places import run_places

    if arguments.json:
        store.check_place(arguments.json)  # at once: the plan holds its pictures already, and they take NumPy
    plan = checked_plan(arguments)
    path, folder = run_places(arguments.json, arguments.output)
    return measure_and_print(replace(plan, store_path=path, picture_folder=folder))


def checked_plan(arguments: argparse.Namespace) -> Plan:
    """What is to be measured, but not where it is stored; everything that can be wrong about it has been checked.

    Raises:
        UserError: wrong use.
    """
    import engines
    from bench.case import expand
    from bench.originals import originals_of
    from bench.places import check_calibration
    from bench.run import Plan
    from bench.ways import ways_from_words

    if not 0 < arguments.budget <= 86400:
        raise UserError(f"`--budget {arguments.budget:g}`: out of range", "seconds, more than 0", "Try 45")
    if arguments.processes is not None and not 1 <= arguments.processes <= 100:
        raise UserError(f"`--processes {arguments.processes}`: out of range", "1 to 100", "Try 3")
    ways = ways_from_words(split_words(arguments.pace), split_words(arguments.in_flight), arguments.pictures)
    cases, left_out = expand(request_from_arguments(arguments, split_words(arguments.res)))
    cases = [replace(case, way=way.word) for case in cases for way in ways]
    for case in cases:
        engines.get(case.engine).check_settings(case.device, case.settings)
        if case.spec.onnx:
            from export.own_onnx import check_size

            check_size(case.spec, *case.input_shape[2:])
    originals = originals_of(cases, arguments.original)
    return Plan(
        cases,
        left_out,
        pictures_of(arguments.images),
        store_path=Path(),
        picture_folder=None,
        calibration=arguments.calibration,
        calibration_sha256=check_calibration(arguments.calibration, any(map(is_calibrated, cases))),
        budget_s=arguments.budget,
        processes=arguments.processes,
        argv=arguments.argv,
        originals=originals,
        profile=_checked_profile(arguments.profile, cases),
    )


def _checked_profile(asked: bool, cases: Sequence[Case]) -> bool:
    """
    Raises:
        UserError: asked for, and no case can tell.
    """
    from bench.profile import refusal

    refused = [refusal(case) for case in cases]
    if asked and cases and all(refused):
        expected = "a case whose engine does: onnxruntime, openvino on the CPU, tensorrt, tensorrt_rtx on a GPU"
        raise UserError(f"`--profile`: {refused[0]}", expected, "Leave it out")
    return asked


def measure_and_print(plan: Plan, before: Sequence[dict[str, Any]] = ()) -> int:
    """Measures the plan, prints its runs after those of `before`, and gives the exit code."""
    from bench.run import execute

    def measured() -> list[dict[str, Any]]:
        with progress_on(console_for(stderr=True)) as reporter:
            return execute(plan, reporter)

    return print_measured(measured, plan, before)


def print_measured(measured: Callable[[], list[dict[str, Any]]], plan: Plan, before: Sequence[dict[str, Any]]) -> int:
    """Prints the runs of the plan that `measured` gives, after those of `before`; those not stored are shown too."""
    from bench import store
    from bench.run import NotStored
    from bench.within import LEFT, left_in_words

    store.prepare(plan.store_path)
    not_stored = None
    try:
        runs = measured()
    except NotStored as failure:
        runs, not_stored = failure.runs, failure
    status = run_status(runs, plan.end is not None, bool(before))
    if not_stored:
        print(f"bench: {not_stored}", file=sys.stderr)
        status = COULD_NOT_MEASURE
    try:
        shown = [*before, *(run for run in runs if run["reason"] != LEFT)]
        if shown:
            print_runs(shown, None if not_stored else plan.store_path, plan.picture_folder)
        if plan.end is not None and (words := left_in_words(runs, len(before))):
            print(words)
    except BrokenPipeError:  # `bench run | head`: what was measured decides the exit code
        drop_output()
    return status


def run_status(runs: Sequence[dict[str, Any]], within: bool = False, held: bool = False) -> int:
    """The exit code of having measured these.

    Args:
        within: whether a time was set, which may have been too short for any of them.
        held: whether there are runs of earlier commands.
    """
    if any(run["interrupted"] for run in runs):
        return INTERRUPTED
    if within and not held and not any(run["status"] == "ok" for run in runs):
        return COULD_NOT_MEASURE
    return COULD_NOT_MEASURE if any(run["status"] == "failed" for run in runs) else OK


def print_runs(runs: Sequence[dict[str, Any]], path: Path | None, folder: Path | None) -> None:
    """The table of these runs, and where they and their pictures lie."""
    from bench.verdicts import sentences
    from reports.table import table_from_runs

    console = console_for()
    console.print(table_from_runs(runs, console.width))
    for sentence in sentences(runs):
        console.print(sentence, markup=False)
    places = {"runs": path, "pictures": folder, "layers": _layers(runs, path, folder)}
    console.print(
        "; ".join(f"{name}: {place}" for name, place in places.items() if place), soft_wrap=True, markup=False
    )


def _layers(runs: Sequence[dict[str, Any]], path: Path | None, folder: Path | None) -> str:
    """Where the files lie that say which layers `--precision auto` chose; written here. Beside the pictures' folder,
    or else beside the runs file."""
    from bench.layers import write_layers

    try:
        if folder:
            return ", ".join(map(str, write_layers(runs, folder.parent)))
        return ", ".join(map(str, write_layers(runs, path.parent, f"{path.stem}-"))) if path else ""
    except OSError as error:  # the table is worth more; the runs file has the layers too
        print(f"bench: file of layers: {error}", file=sys.stderr)
        return ""


def pictures_of(images: str | None) -> list[tuple[str, Any]]:
    """Name and picture of everything that `--images` names; a photograph where it names nothing."""
    from reference_models.pictures import DEFAULT_PICTURE_NAME, default_picture, list_pictures, read_picture

    if images is None:
        return [(DEFAULT_PICTURE_NAME, default_picture())]
    return [(path.name, read_picture(path)) for path in list_pictures(images)]

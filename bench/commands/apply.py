"""`bench apply`: pictures in, pictures out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import add_choices, request_from_arguments
from bench.exit_codes import COULD_NOT_MEASURE, OK
from bench.preparing import exported, fastest_engine, is_calibrated, limit_environment, only_one, tiling_for, told
from bench.terminal import console_for, progress_on
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.case import Case

ORDER = 20


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "apply",
        help="pictures in, pictures out",
        description="Runs pictures through a network at their own size. Output is 8-bit RGB: 16-bit input is reduced, "
        "alpha dropped, EXIF rotation applied. In a folder, NAME.jpg becomes NAME.png; what is there is replaced.",
    )
    add_choices(parser, many=False)
    parser.add_argument(
        "--style", metavar="FILE", help="a picture whose style the global branch takes (colorization), not the input's"
    )
    parser.add_argument("--input", required=True, metavar="FILE|DIR")
    parser.add_argument("--output", required=True, metavar="FILE|DIR", help="PNG or JPEG; a folder for a folder")
    parser.set_defaults(command=_apply)


def _apply(arguments: argparse.Namespace) -> int:
    from bench.case import expand
    from bench.places import check_calibration, picture_pairs

    if not arguments.engine:
        arguments.engine = fastest_engine(arguments.device, arguments.precision)
    cases, left_out = expand(request_from_arguments(arguments, ["320p"]))
    only_one(cases, left_out)
    pairs = picture_pairs(Path(arguments.input), Path(arguments.output))
    check_calibration(arguments.calibration, is_calibrated(cases[0]))
    _check_style(cases[0], arguments.style)
    console = console_for(stderr=True)
    with progress_on(console) as reporter:
        failed = _apply_pictures(
            cases[0], exported(cases[0], arguments.calibration, reporter, arguments.style), pairs, reporter
        )
    for source, reason in failed:
        print(f"bench: {source}: {reason}", file=sys.stderr)
    done = len(pairs) - len(failed)
    case = cases[0]
    tile = "" if case.tile == "off" else f"tile {case.tile}"
    words = [case.model, "" if case.trained else "untrained", case.variant, case.precision, case.statistics or "", tile]
    print(f"{done} of {len(pairs)} pictures → {arguments.output} ({' '.join(filter(None, words))})")
    if not case.trained:
        print(f"bench: {case.model} is untrained: give --weights, or the pictures mean nothing", file=sys.stderr)
    return COULD_NOT_MEASURE if failed else OK


def _check_style(case: Case, style: str | None) -> None:
    from reference_models.pictures import read_picture

    if style is None:
        return
    if not case.spec.style:
        raise UserError(
            f"`--style {style}`: model `{case.model}` has no global branch", "a model that has one", "Leave it out"
        )
    read_picture(style)


def _apply_pictures(case: Case, network: str, pairs: list[tuple[str, str]], reporter: Any) -> list[list[str]]:
    from bench.spawn import JobFailed, run_job

    job = {
        "job": "apply",
        "tiling": tiling_for(case, network, reporter),
        "memory_mib": case.memory_mib,
        "spec": case.spec.to_json(),
        "network": network,
        "pictures": pairs,
        **{key: getattr(case, key) for key in ("engine", "device", "precision", "threads")},
        "settings": dict(case.settings),
    }
    done = 0
    with reporter.stage("apply", total=len(pairs)) as show:

        def on_event(event: dict[str, Any]) -> None:
            nonlocal done
            show(done, event.get("name", ""))
            done += event["event"] == "picture"

        try:
            return run_job(job, _engine_environment(case), on_event)["failed"]
        except JobFailed as failure:
            raise told(failure) from None


def _engine_environment(case: Case) -> dict[str, str]:
    import engines

    return {**engines.get(case.engine).environment(case.settings), **limit_environment(case.memory_mib)}

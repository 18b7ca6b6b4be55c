"""`bench ab`: two sides measured in turn in one job, then judged like gate."""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import add_choices
from bench.commands.gate import CODES, add_outputs, add_rules, check_outputs, show
from bench.commands.run import add_ways
from bench.preparing import fastest_engine
from bench.terminal import console_for, progress_on
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.case import Case
    from bench.record import Run
    from bench.run import Execution, Plan, Progress
    from bench.side import Checkout, Side

ORDER = 23


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "ab",
        help="measure two sides in turn in one job, then judge B against A like gate",
        description="Measures processes of A and of B in pairs, in random order, until every rule has a verdict or "
        "--budget ends. What the machine does meanwhile happens to both. A and B are engines with their settings, git "
        "revisions, folders with a checkout, or other choices; whatever they do not say, the other options do.",
        epilog="examples:\n"
        "  bench ab --model can24 --res 320p --a onnxruntime --b onnxruntime:graph=basic\n"
        "  bench ab --model can24 --res 320p --engine onnxruntime --a rev:HEAD~1 --b rev:HEAD --max latency:3%\n"
        "  bench ab --model can32 --res 720p --engine openvino --a precision=fp32 --b precision=bf16\n\n" + CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("a", "b"):
        parser.add_argument(
            f"--{name}", required=True, metavar="SIDE", help="ENGINE[:NAME=VALUE], rev:REV, dir:DIR, precision=P, …"
        )
    add_choices(parser, many=False)
    parser.add_argument("--res", required=True, metavar="R", help="320p … 4k or WIDTHxHEIGHT, of the output")
    parser.add_argument("--images", metavar="FILE|DIR", help="input pictures (default: a photograph)")
    parser.add_argument(
        "--budget",
        type=float,
        default=240,
        metavar="SECONDS",
        help="measuring time of both sides together (default 240); five pairs of processes are always measured",
    )
    parser.add_argument("--json", metavar="FILE", help="runs file for both runs; runs already in it stay")
    add_ways(parser)
    add_rules(parser)
    add_outputs(parser)
    parser.set_defaults(command=_ab)


def _ab(arguments: argparse.Namespace) -> int:
    from bench import store
    from bench.ab import Comparison, compare_in_turn
    from bench.places import run_places
    from bench.rules import parse_rules
    from bench.side import checked_out, parse_side

    sides = [parse_side(getattr(arguments, name), f"--{name}") for name in ("a", "b")]
    rules = parse_rules(arguments.max, arguments.min, arguments.config)
    check_outputs(arguments)
    if not 1 <= arguments.budget <= 86400:
        raise UserError(f"`--budget {arguments.budget:g}`: out of range", "1 to 86400 seconds", "Try 240")
    path, _ = run_places(arguments.json, None)
    plans = [_plan(arguments, side, path) for side in sides]
    _refuse_equal(plans, sides)
    store.prepare(path)
    console = console_for(stderr=True)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fullres-")))
        checkouts = [
            stack.enter_context(checked_out(side, f"--{name}", scratch))
            for name, side in zip(("a", "b"), sides, strict=True)
        ]
        reporter = stack.enter_context(progress_on(console))
        stations = [
            _station(name, plan, checkout, reporter, scratch)
            for name, plan, checkout in zip(("a", "b"), plans, checkouts, strict=True)
        ]
        comparison = Comparison((f"A: {sides[0].word}", f"B: {sides[1].word}"), rules, arguments.budget)
        peaks = stations[0].execution.peaks()
        turns = [Turn(station, peaks) for station in stations]
        gate = compare_in_turn(
            comparison, (turns[0], turns[1]), random.Random(), lambda line: console.print(line, markup=False)
        )
    status = show(gate, arguments)
    print(f"runs: {path}")
    return status


@dataclass(frozen=True)
class Station:
    """One side, prepared: its next process can be started."""

    execution: Execution
    progress: Progress


@dataclass(frozen=True)
class Turn:
    """A bench.ab.Turn over worker processes."""

    station: Station
    peaks: dict[str, Any]

    def __call__(self) -> Run:
        progress = self.station.progress
        if not progress.done:  # preparing may have failed
            self.station.execution.turn(progress, self.peaks)
        return progress.run


def _station(name: str, plan: Plan, checkout: Checkout | None, reporter: Any, scratch: Path) -> Station:
    from bench import record
    from bench.run import Execution, Progress

    folder = scratch / name
    folder.mkdir()
    facts = record.facts(plan.argv, plan.picture_digests, plan.calibration_sha256) | {"side": name}
    environment = {}
    if checkout:
        facts["commit"] = checkout.commit
        environment = checkout.environment(folder / "cache")
    progress = Progress(plan.cases[0], record.new_run(plan.cases[0], facts))
    execution = Execution(plan, reporter, folder, environment)
    execution.open([progress])
    return Station(execution, progress)


def _plan(arguments: argparse.Namespace, side: Side, path: Path) -> Plan:
    """What is measured of one side; everything that can be wrong about it has been checked.

    Raises:
        UserError: wrong use.
    """
    from bench.ab import LOOKS
    from bench.commands.run import checked_plan

    words = vars(arguments) | dict(side.choices) | ({"engine": side.engine} if side.engine else {})
    own = argparse.Namespace(**(words | {"processes": LOOKS[-1]}))
    if not own.engine:  # two would be measured: the fastest, and the yardstick beside it
        own.engine = fastest_engine(own.device, own.precision)
    plan = checked_plan(own)
    case = _only(plan.cases, plan.left_out, side)
    # A process gets its share of what 20 pairs would take; most end earlier, when their median is known well enough.
    slice_s = arguments.budget / 40
    return replace(plan, cases=[case], left_out=[], store_path=path, budget_s=slice_s * LOOKS[-1])


def _only(cases: Sequence[Case], left_out: Sequence[tuple[Case, str]], side: Side) -> Case:
    chosen = {
        (c.model, c.resolution, c.precision, c.statistics, c.way) for c in (*cases, *(case for case, _ in left_out))
    }
    if len(chosen) != 1:
        raise UserError(
            f"side `{side.word}` has several cases", "one model, size, precision and way of use", "Name one of each"
        )
    return cases[0]


def _refuse_equal(plans: Sequence[Plan], sides: Sequence[Side]) -> None:
    """An A/A comparison is asked for by naming the same side twice in other words, or it is a slip."""
    same_code = (sides[0].revision, sides[0].folder) == (sides[1].revision, sides[1].folder)
    if plans[0].cases == plans[1].cases and same_code and sides[0].word != sides[1].word:
        raise UserError(
            f"`--a {sides[0].word}` and `--b {sides[1].word}` are the same case",
            "two that differ, or the same words twice to compare a case with itself",
            "Change one of them",
        )

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

from bench.arguments import add_choices, split_words
from bench.commands.gate import CODES, add_outputs, add_rules, check_outputs, clear_outputs, show
from bench.commands.run import add_ways
from bench.preparing import fastest_engine
from bench.terminal import console_for, progress_on
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.case import Case
    from bench.plan_side import PlanTurn
    from bench.record import Run
    from bench.run import Execution, Plan, Progress
    from bench.side import Checkout, Side

ORDER = 23
PLAN_SAYS = (
    *("--model", "--option", "--operator", "--engine", "--precision", "--statistics", "--weights", "--set"),
    *("--calibration", "--clipping", "--recovery", "--weight-bits", "--layers", "--floor", "--tile", "--memory"),
)
"""Options that say what a plan already is, or what no plan can be run with."""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "ab",
        help="measure two sides in turn in one job, then judge B against A like gate",
        description="Measures processes of A and of B in pairs, in random order, until every rule has a verdict or "
        "--budget ends. What the machine does meanwhile happens to both. A and B are engines with their settings, git "
        "revisions, folders with a checkout, plans that `bench build` wrote, or other choices; whatever they do not "
        "say, the other options do.",
        epilog="examples:\n"
        "  bench ab --model can24 --res 320p --a onnxruntime --b onnxruntime:graph=basic\n"
        "  bench ab --model can24 --res 320p --engine onnxruntime --a rev:HEAD~1 --b rev:HEAD --max latency:3%\n"
        "  bench ab --model can32 --res 720p --engine openvino --a precision=fp32 --b precision=bf16\n"
        "  bench ab --res 1080p --a plan:before.plan --b plan:after.plan\n\n" + CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("a", "b"):
        parser.add_argument(
            f"--{name}",
            required=True,
            metavar="SIDE",
            help="ENGINE[:NAME=VALUE], rev:REV, dir:DIR, plan:FILE, precision=P, …",
        )
    add_choices(parser, many=False, model_required=False)
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
    _refuse_what_plans_say(arguments, sides)
    rules = parse_rules(arguments.max, arguments.min, arguments.config)
    if not 1 <= arguments.budget <= 86400:
        raise UserError(f"`--budget {arguments.budget:g}`: out of range", "1 to 86400 seconds", "Try 240")
    path, _ = run_places(arguments.json, None)
    check_outputs(arguments, (path, arguments.config, arguments.a, arguments.b))
    checked = [_checked(arguments, side, path) for side in sides]
    _refuse_equal(checked, sides)
    store.prepare(path)
    clear_outputs(arguments)
    console = console_for(stderr=True)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fullres-")))
        checkouts = [
            stack.enter_context(checked_out(side, f"--{name}", scratch))
            for name, side in zip(("a", "b"), sides, strict=True)
        ]
        reporter = stack.enter_context(progress_on(console))
        place = Place(reporter, scratch, {})
        turns = [
            _turn(name, side, plan, checkout, place)
            for name, side, plan, checkout in zip(("a", "b"), sides, checked, checkouts, strict=True)
        ]
        comparison = Comparison((f"A: {sides[0].word}", f"B: {sides[1].word}"), rules, arguments.budget)
        gate = compare_in_turn(
            comparison, (turns[0], turns[1]), random.Random(), lambda line: console.print(line, markup=False)
        )
    status = show(gate, arguments)
    print(f"runs: {path}")
    return status


@dataclass(frozen=True)
class Turn:
    """A bench.ab.Turn over worker processes of a case that is prepared."""

    execution: Execution
    progress: Progress
    peaks: dict[str, Any]

    def __call__(self) -> Run:
        if not self.progress.done:  # preparing may have failed
            self.execution.turn(self.progress, self.peaks)
        return self.progress.run


@dataclass(frozen=True)
class PlanSide:
    """A bench.ab.Turn over worker processes of a plan; stores its run as Execution does."""

    turn: PlanTurn
    store_path: Path

    def __call__(self) -> Run:
        from bench import store

        run = self.turn()
        with contextlib.suppress(UserError):
            store.put(self.store_path, [run])
        return run


@dataclass(frozen=True)
class Place:
    """What both sides share."""

    reporter: Any
    scratch: Path
    peaks: dict[str, Any]
    """Of the machine; filled by the first side that exports, since a plan's work is not known."""


def _turn(name: str, side: Side, plan: Plan, checkout: Checkout | None, place: Place) -> Turn | PlanSide:
    """A side, prepared: its next process can be started."""
    from bench import plan_side, record
    from bench.run import Execution, Progress

    folder = place.scratch / name
    folder.mkdir()
    case = plan.cases[0]
    facts = record.facts(plan.argv, plan.picture_digests, plan.calibration_sha256) | {"side": name}
    if side.plan:
        own = Path(side.plan)
        run, slice_s = plan_side.new_run(own, case, facts), plan.budget_s / (plan.processes or 1)
        pictures = [picture for _, picture in plan.pictures]
        return PlanSide(plan_side.PlanTurn(own, case, run, slice_s, folder, pictures), plan.store_path)
    environment = {}
    if checkout:
        facts["commit"] = checkout.commit
        environment = checkout.environment(folder / "cache")
    progress = Progress(case, record.new_run(case, facts))
    execution = Execution(plan, place.reporter, folder, environment)
    execution.open([progress])
    if not place.peaks:
        place.peaks.update(execution.peaks())
    return Turn(execution, progress, place.peaks)


def _checked(arguments: argparse.Namespace, side: Side, path: Path) -> Plan:
    """What is measured of one side; everything that can be wrong about it has been checked.

    Raises:
        UserError: wrong use.
    """
    from bench.ab import LOOKS

    plan = _plan_of_plan(arguments, side) if side.plan else _plan(arguments, side)
    # A process gets its share of what 20 pairs would take; most end earlier, when their median is known well enough.
    slice_s = arguments.budget / 40
    return replace(plan, left_out=[], store_path=path, budget_s=slice_s * LOOKS[-1], processes=LOOKS[-1])


def _refuse_what_plans_say(arguments: argparse.Namespace, sides: Sequence[Side]) -> None:
    """
    Raises:
        UserError: both sides are plans, and an option says something that only a plan's building could have heeded.
    """
    if not all(side.plan for side in sides):
        return
    said = {word.partition("=")[0] for word in arguments.argv}
    for option in PLAN_SAYS:
        if option in said:
            raise UserError(
                f"`{option}`: both sides are plans, which are measured as they were built",
                "--res, --device, --threads, --images and a way of use",
                "Leave it out, or build the plans with it",
            )


def _plan_of_plan(arguments: argparse.Namespace, side: Side) -> Plan:
    from bench.commands.run import pictures_of
    from bench.plan_side import PlanWords, case_of_plan
    from bench.run import Plan
    from bench.ways import ways_from_words

    ways = ways_from_words(split_words(arguments.pace), split_words(arguments.in_flight), arguments.pictures)
    words = PlanWords(arguments.res, arguments.device, arguments.threads, ways[0])
    case = case_of_plan(Path(str(side.plan)), words)
    return Plan([case], [], pictures_of(arguments.images), Path(), None, None, [], 0, None, arguments.argv)


def _plan(arguments: argparse.Namespace, side: Side) -> Plan:
    from bench.commands.run import checked_plan

    words = vars(arguments) | dict(side.choices) | ({"engine": side.engine} if side.engine else {})
    own = argparse.Namespace(**(words | {"processes": None, "profile": False, "original": None}))
    if not own.model:
        raise UserError(f"side `{side.word}`: of which network?", "--model, or two plans", "Add --model")
    if not own.engine:  # two would be measured: the fastest, and the yardstick beside it
        own.engine = fastest_engine(own.device, own.precision)
    plan = checked_plan(own)
    return replace(plan, cases=[_only(plan.cases, plan.left_out, side)], originals={})  # both would be judged alike


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
    same_code = _code(sides[0]) == _code(sides[1])
    if plans[0].cases == plans[1].cases and same_code and sides[0].word != sides[1].word:
        raise UserError(
            f"`--a {sides[0].word}` and `--b {sides[1].word}` are the same case",
            "two that differ, or the same words twice to compare a case with itself",
            "Change one of them",
        )


def _code(side: Side) -> tuple[str | None, ...]:
    return side.revision, side.folder, side.plan

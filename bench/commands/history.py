"""`bench history`: runs kept in a database, plotted over commits, and taken out again as a baseline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import Parser
from bench.exit_codes import OK
from reference_models.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.history import History
    from bench.rules import Figure

ORDER = 45


def add(commands: Any) -> None:
    parser = commands.add_parser("history", help="runs kept in a database: add, list, plot, baseline")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=Parser)
    adder = actions.add_parser("add", help="keep the runs of these files")
    adder.add_argument("runs", nargs="+", metavar="RUNS", help="runs files, or folders with a runs.json")
    adder.add_argument(
        "--commit",
        metavar="COMMIT",
        help="that they measured; known runs are moved there (default: known ones stay, new ones bring fullres's own)",
    )
    lister = actions.add_parser("list", help="commits, and how many runs each has")
    plotter = actions.add_parser("plot", help="a figure over commits, with the steps it made, as SVG")
    plotter.add_argument("figure", metavar="FIGURE", help="latency, memory, device_memory, plan_size, psnr, ssim")
    plotter.add_argument("--output", required=True, metavar="FILE.svg")
    plotter.add_argument("--case", default="", metavar="WORDS", help="only cases whose title has all of these words")
    baseline = actions.add_parser("baseline", help="write the runs of a commit as a runs file, for `bench gate`")
    baseline.add_argument("--commit", required=True, metavar="COMMIT", help="or its beginning, or unknown")
    baseline.add_argument("--output", required=True, metavar="FILE.json")
    for action, command in ((adder, _add), (lister, _list), (plotter, _plot), (baseline, _baseline)):
        action.add_argument(
            "--db",
            metavar="FILE|URL",
            help="SQLite file or postgresql://… (default: history.sqlite in the cache folder)",
        )
        action.set_defaults(command=command)


def _open(arguments: argparse.Namespace) -> History:
    from export.cache import cache_folder

    try:
        from bench.history import History
    except ModuleNotFoundError as error:
        raise UserError(
            f"Python package `{error.name}` is not installed", "sqlalchemy 2", "pip install sqlalchemy"
        ) from None
    return History(arguments.db or str(cache_folder() / "history.sqlite"))


def _add(arguments: argparse.Namespace) -> int:
    from bench import store
    from bench.pairing import UNKNOWN, check_runs
    from bench.places import runs_file

    if arguments.commit == UNKNOWN:
        raise UserError(f"`--commit {UNKNOWN}`: runs that hold none are called that", "a commit", "Name another")
    runs = [run for path in arguments.runs for run in check_runs(store.load(runs_file(path)), path)]
    with _open(arguments) as history:
        new = history.add(runs, arguments.commit)
    known = len(runs) - new
    print(f"{new} new runs, {known} known" + (f", now under {arguments.commit}" if known and arguments.commit else ""))
    return OK


def _list(arguments: argparse.Namespace) -> int:
    from bench.pairing import UNKNOWN

    with _open(arguments) as history:
        commits = history.commits()
    for commit, time, count in commits:
        print(f"{time}  {commit or UNKNOWN}  {count} runs")
    if not commits:
        print("no runs; `bench history add RUNS.json` keeps some")
    return OK


def _plot(arguments: argparse.Namespace) -> int:
    from bench.places import check_output_file
    from bench.trend import draw

    figure = _figure(arguments.figure)
    path = Path(arguments.output)
    check_output_file(path, "--output")
    if path.suffix != ".svg":
        raise UserError(f"`--output {path}`: not an SVG file", "FILE.svg", "Change the ending")
    words = arguments.case.lower().split()
    with _open(arguments) as history:
        series = {
            key: points
            for key, points in history.series(figure.name).items()
            if all(word in points[0].title.lower() for word in words)
        }
    if not series:
        raise UserError(f"no run in the history has {figure.name} of such a case", "one", "`bench history list`")
    for title, steps in draw(series, figure, path).items():
        found = ", ".join(f"{step.change:+.1%} at run {step.place + 1}" for step in steps)
        print(f"{title}: {found or 'no step'}")
    print(path)
    return OK


def _figure(name: str) -> Figure:
    from bench.rules import FIGURES

    known = {figure.name: figure for figure in FIGURES}
    if name not in known:
        raise unknown("plot", name, "figure", list(known), "Give one of these")
    return known[name]


def _baseline(arguments: argparse.Namespace) -> int:
    from bench import store
    from bench.pairing import UNKNOWN

    store.prepare(arguments.output)
    with _open(arguments) as history:
        runs = history.runs(arguments.commit)
    commits = {run.get("commit") or UNKNOWN for run in runs}
    if len(commits) != 1:
        names = ", ".join(sorted(commits))
        what = f"stands for {names}" if commits else "has no run"
        raise UserError(f"`--commit {arguments.commit}` {what}", "one commit", "`bench history list` shows them")
    store.put(arguments.output, runs)
    print(f"{arguments.output}: {len(runs)} runs of {commits.pop()}")
    return OK

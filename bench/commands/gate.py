"""`bench gate`: a candidate against a baseline; the exit code is the verdict."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.terminal import console_for, drop_output
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.gate import Gate

ORDER = 22
CODES = (
    "exit codes: 0 pass, 3 regression, 5 could not measure (a case is missing, or may not be compared), "
    "4 inconclusive, 2 wrong use; where several apply, the first in this order that is not 0"
)


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "gate",
        help="judge a candidate against a baseline; the exit code is the verdict",
        description="Judges every case of the baseline by every rule. Latency is called worse only where the change "
        "lies beyond the margin and chance between processes cannot explain it; that takes 4 processes or more on each "
        "side (`bench run --processes 5`). Both sides should be measured in one job: `bench ab` does.",
        epilog="example:\n  bench gate --baseline main.json --candidate mine.json --max latency:5% --min psnr:0.1dB\n\n"
        + CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--baseline", required=True, metavar="FILE", help="runs file, or folder with one, compared against"
    )
    parser.add_argument(
        "--candidate", required=True, metavar="FILE", help="runs file, or folder with one, being judged"
    )
    parser.add_argument(
        "--normalise",
        action="store_true",
        help="compare runs of another machine too, in units of each machine's own measured peaks; less certain",
    )
    add_rules(parser)
    add_outputs(parser)
    parser.set_defaults(command=_gate)


def add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max",
        action="append",
        default=[],
        metavar="FIGURE:MARGIN",
        help="how much may be added: latency:5%% (or ms), memory:10%% (or MiB), device_memory, plan_size; may be "
        "repeated",
    )
    parser.add_argument(
        "--min",
        action="append",
        default=[],
        metavar="FIGURE:MARGIN",
        help="how much may be lost: psnr:0.1dB, ssim:0.001",
    )
    parser.add_argument("--config", metavar="FILE.toml", help='rules in tables [max] and [min]: latency = "5%%"')


def add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--junit", metavar="FILE", help="JUnit XML")
    parser.add_argument("--bmf", metavar="FILE", help="Bencher Metric Format")
    parser.add_argument(
        "--gha",
        metavar="FILE",
        help="github-action-benchmark, customSmallerIsBetter; quality goes to FILE with -bigger in its name",
    )
    parser.add_argument("--markdown", metavar="FILE", help="for a pull request or a job's summary")


def _gate(arguments: argparse.Namespace) -> int:
    from bench import store
    from bench.gate import Terms, judge_runs
    from bench.places import runs_file
    from bench.rules import parse_rules

    rules = parse_rules(arguments.max, arguments.min, arguments.config)
    names = (arguments.baseline, arguments.candidate)
    check_outputs(arguments, (*names, arguments.config))
    clear_outputs(arguments)
    baseline, candidate = (store.load(runs_file(name)) for name in names)
    return show(judge_runs(baseline, candidate, rules, names, Terms(normalise=arguments.normalise)), arguments)


def check_outputs(arguments: argparse.Namespace, inputs: Iterable[str | Path | None]) -> None:
    """That every file asked for can be written, and is none of those that are read; before the first slow step.

    Raises:
        UserError: one cannot, or is.
    """
    from bench.places import check_output_file

    read = [Path(name) for name in inputs if name]
    read += [path / "runs.json" for path in read if path.is_dir()]
    taken = {path.resolve(): "is read" for path in read}
    for name, path in _outputs(arguments):
        check_output_file(path, f"--{name}")
        if why := taken.get(path.resolve()):
            raise UserError(f"`--{name}`: {path} {why}", "a file of its own", "Name another")
        taken[path.resolve()] = "is written by another option"


def clear_outputs(arguments: argparse.Namespace) -> None:
    """Removes what an earlier verdict left in the files asked for: where there will be none, nobody may take that for
    it. What is no plain file stays. Called when nothing can be refused any more but what is read."""
    for name, path in _outputs(arguments):
        if path.is_file() and not path.is_symlink():
            try:
                path.unlink()
            except OSError as error:
                raise UserError(f"`--{name}`: {path}: {error.strerror}", "a file to replace", "Name another") from error


def _outputs(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """Option and path of every file that is to be written."""
    found = [(name, Path(path)) for name in ("junit", "bmf", "gha", "markdown") if (path := getattr(arguments, name))]
    return found + [("gha", _bigger(path)) for name, path in found if name == "gha"]


def _bigger(path: Path) -> Path:
    """The file for figures of which more is better, beside the one for the others."""
    return path.with_stem(f"{path.stem}-bigger")


def show(gate: Gate, arguments: argparse.Namespace) -> int:
    """Writes the files that were asked for, prints the gate, and gives its exit code."""
    from bench.sinks.terminal import render

    _write_outputs(gate, arguments)
    try:
        console_for().print(render(gate))
    except BrokenPipeError:  # `bench gate | head`: the verdict decides the exit code
        drop_output()
    return gate.exit_code


def _write_outputs(gate: Gate, arguments: argparse.Namespace) -> None:
    from bench.sinks import bencher, junit, markdown

    texts = {}
    if arguments.junit:
        texts[Path(arguments.junit)] = junit.render(gate)
    if arguments.bmf:
        texts[Path(arguments.bmf)] = bencher.metric_format(gate)
    if arguments.gha:
        path = Path(arguments.gha)
        texts[path] = bencher.action_benchmark(gate, "max")
        texts[_bigger(path)] = bencher.action_benchmark(gate, "min")
    if arguments.markdown:
        texts[Path(arguments.markdown)] = markdown.render(gate)
    for path, text in texts.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}", "a file that can be written", "Choose another") from error

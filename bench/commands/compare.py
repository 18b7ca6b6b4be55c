"""`bench compare`: two runs files side by side, judged."""

from __future__ import annotations

import argparse
from typing import Any

from bench.arguments import share
from bench.commands.report import add_judging
from bench.exit_codes import COULD_NOT_MEASURE, OK
from bench.terminal import console_for

ORDER = 11


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="two runs files side by side",
        description="Pairs like cases of A and B, and says of each whether B is faster, the same or slower, as far as "
        "the processes of both sides can tell. What differs in machine, versions, contract and commit stands first. "
        "It judges and does not gate: the exit code is 0 where anything was compared, 5 where nothing could be.",
    )
    parser.add_argument("a", metavar="A.json", help="runs file, or folder with one: the ratio's denominator")
    parser.add_argument("b", metavar="B.json", help="runs file, or folder with one")
    add_judging(parser)
    parser.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from bench.places import runs_file
    from reports.command import compare_files
    from reports.terminal import comparison_text

    a, b = runs_file(arguments.a), runs_file(arguments.b)
    found = compare_files([a], [b], share(arguments.margin, "--margin"), arguments.across_machines)
    console_for().print(comparison_text(found))
    compared = any(pair.verdict not in {"failed", "not judged"} for pair in found.pairs)
    return OK if compared else COULD_NOT_MEASURE

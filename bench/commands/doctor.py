"""`bench doctor`: what measuring costs, what disturbs this machine, and whether numbers taken now would be stable."""

from __future__ import annotations

import argparse
from typing import Any

from bench.exit_codes import OK

ORDER = 55
MARKS = {True: "✓", False: "✗", None: "·"}


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what measuring costs and what disturbs, on this machine now",
        description="Takes some ten seconds and changes nothing. The exit code is 0 whatever is found.",
    )
    parser.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from bench.doctor import examine

    for check in examine():
        print(f"{MARKS[check.good]} {check.name}: {check.finding}")
    return OK

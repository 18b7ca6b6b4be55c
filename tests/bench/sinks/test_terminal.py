"""What the terminal shows of a gate."""

from __future__ import annotations

import io

from rich.console import Console

from bench.gate import Gate, Outcome
from bench.rules import parse_rules
from bench.sinks.terminal import render

RULES = parse_rules(["latency:5%"], [])


def shown(gate: Gate) -> list[str]:
    console = Console(file=io.StringIO(), width=140)
    console.print(render(gate))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_verdict_stands_first_and_equal_remarks_share_a_number() -> None:
    outcomes = [
        Outcome("can24 720p", RULES[0], "worse", 100, 108, 0.08, (0.061, 0.099)),
        Outcome("can32 720p", None, "could not measure", why="killed"),
        Outcome("can64 720p", None, "could not measure", why="killed"),
    ]
    lines = shown(Gate(("a.json", "b.json"), RULES, outcomes, [("commit", "1", "2")]))
    assert lines[0] == "Regression: 1 worse, 2 could not measure"
    assert lines[1].split() == ["verdict", "case", "figure", "a.json", "b.json", "change", "(95", "%)"]
    assert lines[2].split("  ")[0] == "✗ worse"
    assert "+8.0 % (+6.1 to +9.9 %)" in lines[2]
    assert lines[3].startswith("! could not measure [1]  can32")
    assert lines[4].startswith("! could not measure [1]  can64")
    assert lines[5:] == ["[1] killed", "rules: --max latency:5%", "what differs besides: commit 1 → 2"]


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    lines = shown(Gate(("[red]a", "b"), RULES, [Outcome("[bold]x[/]", RULES[0], "same", 1, 1, 0.0)], []))
    assert "[red]a" in lines[1]
    assert "[bold]x[/]" in lines[2]


def test_nothing_judged_is_said() -> None:
    assert shown(Gate(("a", "b"), RULES, [], []))[0] == "Could not measure: no rows"

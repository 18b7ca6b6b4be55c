"""Two cases measured in turn, process by process in random order, until the gate can tell them apart → a Gate.

Sequential looks at growing data would find a difference by chance sooner or later. There are at most len(LOOKS) looks,
and each interval is as much wider as that asks for (Bonferroni), so that all of them together hold 95 % of the time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bench.gate import Gate, Outcome, Terms, collected, judge_pair
from bench.record import Run
from bench.rules import Rule
from bench.stats import CONFIDENCE

LOOKS = (5, 7, 10, 14, 20, 30)
"""Numbers of pairs after which the data are looked at; the first is the least that can carry a verdict."""
TERMS = Terms(interleaved=True, confidence=1 - (1 - CONFIDENCE) / len(LOOKS))


class Turn(Protocol):
    """Measures one more process of a side and returns its run so far."""

    def __call__(self) -> Run: ...


@dataclass(frozen=True)
class Comparison:
    """What is to be compared, and how long it may take."""

    names: tuple[str, str]
    rules: Sequence[Rule]
    budget_s: float
    """Of measuring, both sides together: no pair is begun after it, but LOOKS[0] pairs are always measured."""


def compare_in_turn(
    comparison: Comparison, turns: tuple[Turn, Turn], lot: random.Random, told: Callable[[str], None] = lambda _: None
) -> Gate:
    """Measures pairs of processes until the verdict is clear, the budget ends, or one side fails.

    Args:
        turns: one for each side.
        lot: decides which side of a pair goes first: what drifts must not always find the same one second.
        told: called with a line of progress after each look.
    """
    gate = None
    for pairs, runs in enumerate(_pairs(turns, lot), 1):
        spent = sum(measured_s(run) for run in runs) >= comparison.budget_s and pairs >= LOOKS[0]
        failed = any(run["status"] != "ok" for run in runs)
        if pairs not in LOOKS and not spent and not failed:
            continue
        gate = _look(comparison, runs)
        told(f"{pairs} pairs: {gate.verdict}")
        if failed or spent or pairs >= LOOKS[-1] or not any(_open(outcome) for outcome in gate.outcomes):
            break
    assert gate is not None
    return gate


def _pairs(turns: tuple[Turn, Turn], lot: random.Random) -> Iterator[tuple[Run, Run]]:
    while True:
        first = lot.randrange(2)
        runs: dict[int, Run] = {}
        for side in (first, 1 - first):
            runs[side] = turns[side]()
            if runs[side]["status"] != "ok":  # the other side's turn would only cost time
                runs.setdefault(1 - side, runs[side])
                break
        yield runs[0], runs[1]


def _look(comparison: Comparison, runs: tuple[Run, Run]) -> Gate:
    broken = next((run for run in runs if run["status"] != "ok"), None)
    if broken is not None:
        outcomes = [Outcome("A against B", None, "could not measure", why=str(broken["reason"]), runs=runs)]
        return Gate(comparison.names, comparison.rules, outcomes, [], TERMS)
    outcomes = [replace(o, title="A against B") for o in judge_pair(*runs, comparison.rules, TERMS)]
    return collected(outcomes, comparison.rules, comparison.names, [runs], TERMS)


def _open(outcome: Outcome) -> bool:
    """Whether more processes could still change it."""
    return outcome.verdict == "inconclusive"


def measured_s(run: Run) -> float:
    """Seconds that warm-up and samples of all its processes took."""
    latency: dict[str, Any] = run.get("latency_ms") or {}
    series = (*latency.get("samples", ()), *latency.get("warmup", ()))
    return sum(sum(values) for values in series) / 1e3

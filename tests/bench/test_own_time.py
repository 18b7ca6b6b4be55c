"""Verdicts by own time: over noise as it was recorded, where both clocks disagree, and where there is none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.ab import Comparison, compare_in_turn
from bench.gate import judge_pair
from bench.own_time import of_processes, verdict
from bench.rules import parse_rules

Make = Callable[..., dict[str, Any]]
RULES = parse_rules(["latency:5%"], [])


def crowded(make: Make, factor: float, seed: int) -> Any:
    """A comparison on a machine as it was recorded with 12 to 30 programs on two cores: an inference of 4 ms takes 12
    to 40 ms, in whole slices of 4 ms, and its own time differs by 1 % between processes."""
    rng = np.random.default_rng(seed)
    runs = {"a": make("a"), "b": make("b")}
    for run in runs.values():
        run["latency_ms"] = {"samples": [], "own_ms": [], "waited_share": [], "p50": None}

    def turn(name: str) -> Callable[[], dict[str, Any]]:
        def measure() -> dict[str, Any]:
            latency = runs[name]["latency_ms"]
            own = 4.06 * (factor if name == "b" else 1.0) * float(np.exp(rng.normal(0, 0.011)))
            wall = 4.0 * float(rng.integers(3, 11))
            latency["samples"] = [*latency["samples"], [wall]]
            latency["own_ms"] = [*latency["own_ms"], own]
            latency["waited_share"] = [*latency["waited_share"], 1 - own / wall]
            latency["p50"] = float(np.median(latency["samples"]))
            return runs[name]

        return measure

    return compare_in_turn(Comparison(("A", "B"), RULES, 1e6), (turn("a"), turn("b")), random.Random(seed))


def verdicts(make: Make, factor: float, decisions: int) -> list[str]:
    return [crowded(make, factor, seed).verdict for seed in range(decisions)]


def test_on_a_crowded_machine_the_promises_hold_by_own_time(gate_run: Make) -> None:
    assert verdicts(gate_run, 1.0, 200).count("worse") <= 2
    assert verdicts(gate_run, 1.03, 100).count("worse") <= 5
    assert verdicts(gate_run, 1.08, 100).count("worse") >= 95


def sides(make: Make, own: tuple[float, float], wall: tuple[float, float], share: float = 0.5) -> list[dict[str, Any]]:
    found = []
    for name, own_ms, wall_ms in zip("ab", own, wall, strict=True):
        run = make(name, wall_ms, processes=8)
        run["latency_ms"] |= {"own_ms": [own_ms * (1 + 0.001 * k) for k in range(8)], "waited_share": [share] * 8}
        found.append(run)
    return found


def judged(runs: list[dict[str, Any]]) -> Any:
    from bench.ab import TERMS

    (outcome,) = judge_pair(runs[0], runs[1], RULES, TERMS)
    return outcome


def test_own_time_decides_and_says_so(gate_run: Make) -> None:
    outcome = judged(sides(gate_run, (4.0, 4.4), (12.0, 12.0)))
    assert outcome.verdict == "worse"
    assert outcome.change == pytest.approx(0.1, abs=0.01)
    assert (outcome.baseline, outcome.candidate) == (pytest.approx(4.014), pytest.approx(4.4154))
    assert outcome.why == (
        "judged by own time: of the wall clock (12 and 12 ms) 50% and 50% were spent waiting for a core"
    )


def test_a_wall_clock_that_is_worse_is_never_green(gate_run: Make) -> None:
    outcome = judged(sides(gate_run, (4.0, 4.0), (12.0, 16.0)))
    assert outcome.verdict == "inconclusive"
    assert "the wall clock is worse" in outcome.why


def test_where_nobody_waited_nothing_is_said(gate_run: Make) -> None:
    assert judged(sides(gate_run, (12.0, 12.0), (12.0, 12.0), share=0.001)).why == ""


def test_without_own_times_of_every_process_the_wall_clock_decides(gate_run: Make) -> None:
    runs = sides(gate_run, (4.0, 4.4), (12.0, 12.0))
    runs[0]["latency_ms"]["own_ms"] = None
    outcome = judged(runs)
    assert (outcome.verdict, outcome.baseline) == ("same", 12.0)


@pytest.mark.parametrize(
    ("own", "wall", "expected"),
    [
        ((9.0, 9.0), (9.2, 13.2), "inconclusive"),  # others took the core from the candidate
        ((9.0, 9.9), (13.0, 13.0), "inconclusive"),  # they had taken it from the baseline
        ((9.0, 9.0), (13.2, 9.2), "same"),
        ((9.0, 9.9), (13.2, 9.9), "inconclusive"),
        ((9.0, 9.9), (13.0, 14.3), "worse"),
        ((9.9, 9.0), (14.3, 13.0), "better"),
        ((9.0, 9.0), (13.0, 13.0), "same"),
        ((9.0, 9.3), (13.0, 14.3), "inconclusive"),
    ],
)
def test_of_runs_of_different_times_nothing_is_said_that_own_time_does_not_bear_out(
    gate_run: Make, own: tuple[float, float], wall: tuple[float, float], expected: str
) -> None:
    (outcome,) = judge_pair(*sides(gate_run, own, wall, share=0.3), RULES)
    assert outcome.verdict == expected
    assert (outcome.baseline, outcome.candidate) == wall
    assert ("waiting for a core" in outcome.why) is (expected in {"inconclusive"} or wall[0] / wall[1] > 1.3)


def test_own_time_is_widened_as_the_wall_clock_is(gate_run: Make) -> None:
    """The machine became slower by a tenth between the runs: an own time that did, too, takes nothing back."""
    runs = sides(gate_run, (9.0, 9.9), (13.0, 13.0))
    assert judge_pair(*runs, RULES)[0].verdict == "inconclusive"
    runs[1]["machine_gflop_s"] = [720.0, 720.0]
    (outcome,) = judge_pair(*runs, RULES)
    assert outcome.verdict == "same"
    assert "own time" not in outcome.why


def noisy(runs: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """Own times that are 9 % apart and spread by 5 %: alone they prove nothing."""
    for run, base in zip(runs, (9.0, 9.8), strict=True):
        run["latency_ms"] |= {"own_ms": [base * f for f in (1, 1.05, 0.95, 1.03, 0.97)], "waited_share": [share] * 5}
    return runs


def test_a_true_regression_stays_where_own_time_only_says_it_less_surely(gate_run: Make) -> None:
    runs = noisy([gate_run("a", 13.0), gate_run("b", 14.3)], share=0.3)
    assert judge_pair(*runs, RULES)[0].verdict == "worse"


def test_where_nobody_waited_the_wall_clock_is_right(gate_run: Make) -> None:
    runs = sides(gate_run, (9.0, 9.0), (9.2, 13.2), share=0.0)
    (outcome,) = judge_pair(*runs, RULES)
    assert (outcome.verdict, "own time" in outcome.why) == ("worse", False)


def test_own_times_without_what_was_waited_do_not_count(gate_run: Make) -> None:
    runs = sides(gate_run, (9.0, 9.0), (9.2, 13.2))
    del runs[0]["latency_ms"]["waited_share"]
    assert judge_pair(*runs, RULES)[0].verdict == "worse"


def test_another_machine_is_judged_by_the_wall_clock(gate_run: Make) -> None:
    from bench.gate import Terms

    runs = sides(gate_run, (9.0, 9.0), (13.0, 39.0))
    runs[1]["machine"] = {**runs[1]["machine"], "cpu": "Another"}
    (outcome,) = judge_pair(*runs, RULES, Terms(normalise=True))
    assert outcome.verdict == "worse"


@pytest.mark.parametrize(
    ("wall", "own", "expected"),
    [
        ("worse", "same", "inconclusive"), ("worse", "better", "inconclusive"), ("worse", "worse", "worse"),
        ("same", "worse", "worse"), ("inconclusive", "same", "same"), ("worse", "inconclusive", "inconclusive"),
    ],
)  # fmt: skip
def test_which_clock_decides(wall: Any, own: Any, expected: str) -> None:
    assert verdict(wall, own) == expected


def test_processes_without_an_own_time_give_the_reason() -> None:
    told = {"own_ms": 4.0, "waited_share": 0.1, "why": None}
    assert of_processes([{"own": told}, {"own": told}]) == {
        "own_ms": [4.0, 4.0], "waited_share": [0.1, 0.1], "own_missing": None,
    }  # fmt: skip
    mixed = of_processes([{"own": told}, {"own": {"own_ms": None, "why": "several threads share an inference"}}])
    assert mixed == {"own_ms": None, "waited_share": None, "own_missing": "several threads share an inference"}
    assert of_processes([{}])["own_missing"] == "not told by the worker"

"""The judge keeps its promises over simulated clocks, and its interval is the one that the textbooks define."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from bench.judge import (
    GUARD,
    Ratio,
    least_units,
    rank_sum_limit,
    ratio_of,
    unit_medians,
    verdict_of,
)

Draw = Callable[[np.random.Generator, int], np.ndarray]
MARGIN = 0.05


def drifting(rng: np.random.Generator, n: int) -> np.ndarray:
    """A random walk over a session whose turns both sides share: even and odd places are drawn as sides by `sides`."""
    return rng.uniform(-0.1, 0.1) * np.arange(n) / n + np.cumsum(rng.normal(0, 0.007, n))


CLOCKS: dict[str, Draw] = {
    "calm": lambda rng, n: rng.normal(0, 0.005, n),
    "noisy": lambda rng, n: rng.normal(0, 0.015, n),
    "bimodal": lambda rng, n: 0.125 * (rng.random(n) < 0.2) + rng.normal(0, 0.003, n),
    "heavy-tailed": lambda rng, n: 0.01 * np.abs(rng.standard_t(2, n)),
    "drifting": drifting,
}
"""Logarithm of a process's median; the truth is a factor between the sides."""


def sides(clock: str, n: int, factor: float, rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """n processes a side that took turns, the first of each two drawn by lot."""
    turns = np.exp(CLOCKS[clock](rng, 2 * n)).reshape(n, 2)
    first = rng.integers(0, 2, n)
    rows = np.arange(n)
    return list(10 * turns[rows, first]), list(10 * factor * turns[rows, 1 - first])


def verdicts(clock: str, factor: float, decisions: int, n: int = 10, margin: float = MARGIN) -> list[str]:
    rng = np.random.default_rng(11)
    return [verdict_of(ratio_of(*sides(clock, n, factor, rng)), margin) for _ in range(decisions)]


# Promises


@pytest.mark.parametrize("clock", CLOCKS)
def test_of_200_decisions_between_equals_at_most_2_call_a_regression(clock: str) -> None:
    assert verdicts(clock, 1.0, 200).count("worse") <= 2


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_slowdown_of_3_percent_is_called_one_of_5_at_most_5_times_in_100(clock: str) -> None:
    assert verdicts(clock, 1.03, 400).count("worse") / 4 <= 5


@pytest.mark.parametrize("clock", ["calm", "noisy", "heavy-tailed", "drifting"])
def test_a_slowdown_of_8_percent_is_called_at_least_95_times_in_100(clock: str) -> None:
    assert verdicts(clock, 1.08, 100).count("worse") >= 95


def test_between_modes_12_percent_apart_10_processes_call_8_percent_most_of_the_time_and_never_the_contrary() -> None:
    found = verdicts("bimodal", 1.08, 200)
    assert found.count("worse") >= 130
    assert found.count("better") == 0
    assert found.count("same") <= 2


def test_a_speed_up_is_called_as_readily_as_a_slowdown() -> None:
    assert verdicts("noisy", 1 / 1.08, 100).count("better") >= 95


@pytest.mark.parametrize("clock", ["bimodal", "drifting", "heavy-tailed"])
@pytest.mark.parametrize("n", [4, 5, 10])
def test_the_interval_holds_the_truth_at_least_93_times_in_100(clock: str, n: int) -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        interval = ratio_of(*sides(clock, n, 1.07, rng)).interval
        assert interval is not None
        held += interval[0] <= 1.07 <= interval[1]
    assert held / 300 >= 0.93


def test_modes_that_each_side_fell_into_by_chance_are_no_regression_with_three_processes() -> None:
    """One in 20 draws of 3 and 3 from one distribution separates completely, so that no such draw may be called."""
    assert verdict_of(ratio_of([22.5, 22.5, 22.6], [25.5, 25.6, 25.5]), MARGIN) == "inconclusive"
    assert verdict_of(ratio_of([22.5, 22.5, 22.6, 22.4], [25.5, 25.6, 25.5, 25.4]), MARGIN) == "worse"


# The interval


@pytest.mark.parametrize(("a", "b"), [(3, 3), (3, 4), (4, 4), (5, 5), (3, 9), (7, 10)])
def test_the_limit_is_the_largest_that_the_rank_sum_test_allows(a: int, b: int) -> None:
    """Against an enumeration of all orders, and against scipy's exact p-value of the order at the limit."""
    statistics = []
    for places in itertools.combinations(range(a + b), a):
        others = [p for p in range(a + b) if p not in places]
        statistics.append(sum(x > y for x in places for y in others))
    allowed = [u for u in range(a * b) if np.mean(np.array(statistics) <= u) <= 0.025]
    assert rank_sum_limit(a, b) == (max(allowed) if allowed else None)


def test_the_interval_excludes_exactly_what_scipys_test_rejects() -> None:
    rng = np.random.default_rng(2)
    for a, b in ((4, 4), (5, 7), (10, 6)):
        x, y = rng.lognormal(0, 0.1, a), rng.lognormal(0.1, 0.1, b)
        interval = ratio_of(x, y).interval
        assert interval is not None
        for factor in np.exp(np.linspace(-0.4, 0.5, 60)):
            p = mannwhitneyu(y / factor, x, method="exact").pvalue
            assert (p > 0.05) == (interval[0] <= factor <= interval[1])


def test_the_estimate_is_the_median_of_all_ratios_and_lies_in_the_interval() -> None:
    a, b = [1.0, 2.0, 4.0, 3.0], [2.0, 8.0, 6.0, 5.0]
    found = ratio_of(a, b)
    assert found.value == pytest.approx(math.exp(median(math.log(y / x) for x in a for y in b)))
    assert found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1]


def test_the_other_way_round_is_the_reciprocal() -> None:
    a, b = [10.0, 11, 10.4, 9.7, 10.1], [13.0, 12.1, 12.9, 14]
    there, back = ratio_of(a, b), ratio_of(b, a)
    assert there.interval is not None
    assert back.interval is not None
    assert back.value == pytest.approx(1 / there.value)
    assert back.interval == pytest.approx((1 / there.interval[1], 1 / there.interval[0]))


def test_more_confidence_needs_more_units() -> None:
    assert rank_sum_limit(4, 4, 0.99) is None
    assert rank_sum_limit(5, 5, 0.99) == 0
    assert (least_units(4), least_units(3), least_units(1), least_units(4, 0.99)) == (4, 5, 5, 6)
    wide, narrow = (ratio_of([1, 2, 3, 4, 5], [2, 3, 4, 5, 6], c).interval for c in (0.99, 0.9))
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] <= narrow[1] < wide[1]


def test_one_or_two_units_are_no_side_however_many_the_other_has() -> None:
    assert rank_sum_limit(1, 80) is None
    assert rank_sum_limit(2, 80) is None
    assert ratio_of([1.0], [2.0] * 80).interval is None


def test_nothing_to_compare_is_our_bug() -> None:
    with pytest.raises(ValueError, match="no units"):
        ratio_of([], [1.0])


# Units


def test_the_process_is_the_unit_and_not_its_samples() -> None:
    assert unit_medians([[1, 2, 9], [], [4, 6]]) == [2, 5]


def test_of_several_builds_the_build_is_the_unit() -> None:
    processes = [[1.0], [1.2], [], [5.0], [1.1]]
    assert unit_medians(processes, ["x", "x", "x", "y", "x"]) == [1.1, 5.0]
    assert unit_medians(processes, ["x"] * 5) == [1.0, 1.2, 5.0, 1.1]


# Verdicts


@pytest.mark.parametrize(
    ("value", "interval", "verdict"),
    [
        (1.0, (0.98, 1.02), "same"),
        (1.0, (0.8, 1.0499), "same"),
        (1.0, (0.98, 1.06), "inconclusive"),
        (1.06, (1.031, 1.3), "worse"),
        (1.06, (1.029, 1.3), "inconclusive"),
        (1.049, (1.04, 1.06), "inconclusive"),
        (0.94, (0.9, 0.97), "better"),
        (0.94, (0.9, 0.98), "same"),
        (0.94, (0.8, 1.06), "inconclusive"),
        (9.0, None, "inconclusive"),
    ],
)
def test_verdicts(value: float, interval: tuple[float, float] | None, verdict: str) -> None:
    assert verdict_of(Ratio(value, interval), MARGIN) == verdict


def test_a_wider_interval_never_turns_inconclusive_into_a_verdict() -> None:
    for value in np.exp(np.linspace(-0.2, 0.2, 41)):
        for half in (0.005, 0.02, 0.06):
            ratio = Ratio(value, (value * math.exp(-half), value * math.exp(half)))
            before, after = verdict_of(ratio, MARGIN), verdict_of(ratio.stretched(), MARGIN)
            assert after in {before, "inconclusive", "same"}
            assert not (before == "inconclusive" and after != before)
            assert not (before == "worse" and after == "same")


def test_stretching_keeps_the_estimate_and_reaches_twice_as_far() -> None:
    assert Ratio(2.0, (1.0, 8.0)).stretched(2) == Ratio(2.0, (0.5, 32.0))
    assert Ratio(2.0, None).stretched() == Ratio(2.0, None)


def test_reaching_only_widens() -> None:
    assert Ratio(1.0, (0.9, 1.2)).reaching(0.5, 2) == Ratio(1.0, (0.45, 2.4))
    assert Ratio(1.0, (0.9, 1.2)).reaching(2, 0.5) == Ratio(1.0, (0.9, 1.2))
    assert Ratio(1.0, None).reaching(0.5, 2) == Ratio(1.0, None)


def test_the_guard_is_what_the_promises_ask_for() -> None:
    """3 % must not pass for 5 %, and 8 % need not prove 5 %."""
    assert GUARD * math.log(1.05) == pytest.approx(math.log(1.03), rel=0.02)

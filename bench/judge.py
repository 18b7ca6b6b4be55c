"""Two sets of process medians → ratio, interval, verdict against a margin. Pure statistics; knows no run and no clock.

The replicated unit is the process, and the build above it: samples of one process agree far better with each other
than with those of the next. A ratio is B over A: above 1, B takes longer. docs/gate.md says what else was tried.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.stats import CONFIDENCE

Verdict = Literal["better", "same", "worse", "inconclusive"]

GUARD = 0.6
"""A change is called when the estimate lies beyond the margin and the whole interval beyond this share of it. So a true
change of 3 % is taken for one of 5 % at most as often as the interval fails, and one of 8 % need not prove 5 %."""
LEAST = 3
"""Units on each side without which there is no interval, however many the other side has."""
STRETCH = 2.0
"""The interval of rows that something has disturbed reaches this many times as far from the estimate."""


@dataclass(frozen=True)
class Ratio:
    """How many times the figure of A that of B is."""

    value: float
    interval: tuple[float, float] | None
    """At the confidence asked for; None where so few units cannot carry one."""

    def stretched(self, factor: float = STRETCH) -> Ratio:
        """The same estimate, its interval `factor` times as far away from it on the logarithmic scale."""
        if self.interval is None:
            return self
        low, high = (self.value * (bound / self.value) ** factor for bound in self.interval)
        return Ratio(self.value, (low, high))

    def reaching(self, low: float, high: float) -> Ratio:
        """The same estimate; the interval made to reach as far again as these factors, where they are beyond 1."""
        if self.interval is None:
            return self
        return Ratio(self.value, (self.interval[0] * min(1.0, low), self.interval[1] * max(1.0, high)))


def unit_medians(processes: Sequence[Sequence[float]], builds: Sequence[Hashable] | None = None) -> list[float]:
    """One figure per replicated unit: the median of each process, or of each build where there are several.

    Processes that share a build share what that build chose, so that they are not independent: with two builds or more
    the unit is the build, and its figure the median of its processes' medians.

    Args:
        builds: of every process, which build it ran; None: all the same.
    """
    filled = [(place, median(samples)) for place, samples in enumerate(processes) if samples]
    if builds is None or len(set(builds)) < 2:
        return [value for _, value in filled]
    by_build: dict[Hashable, list[float]] = {}
    for place, value in filled:
        by_build.setdefault(builds[place], []).append(value)
    return [median(values) for values in by_build.values()]


def ratio_of(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """Ratio of two sets of positive figures with its exact interval: Hodges and Lehmann's, on logarithms.

    Estimate: the median of all ratios of one of B to one of A. Interval: those factors that, taken off B, leave sides
    that the rank-sum test does not tell apart; it holds the true factor at least as often as it says whatever the
    distribution (bimodal, heavy-tailed), as long as the units of both sides are drawn alike and independently.

    Source: Hodges, Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics 34, 1963.
    """
    ratios = sorted(y / x for x in a for y in b)
    if not ratios:
        raise ValueError("no units to compare")
    outside = rank_sum_limit(len(a), len(b), confidence)
    interval = None if outside is None else (ratios[outside], ratios[-1 - outside])
    middle = math.sqrt(ratios[(len(ratios) - 1) // 2] * ratios[len(ratios) // 2])  # the same from both sides
    return Ratio(middle, interval)


@functools.cache
def rank_sum_limit(a: int, b: int, confidence: float = CONFIDENCE) -> int | None:
    """How many of the a·b ratios lie outside the interval at each end; None where `confidence` is not to be had.

    With 3 units on each side even complete separation has a chance of 1 in 10 (both ends); 4 and 4 are enough for 95 %.
    """
    if min(a, b) < LEAST:
        return None
    total = math.comb(a + b, a)
    allowed = (1 - confidence) / 2 * total * (1 + 1e-9)
    seen, outside = 0, None
    for u, count in enumerate(_rank_sum_counts(a, b)):
        seen += count
        if seen > allowed:
            return outside
        outside = u
    return outside


@functools.cache
def _rank_sum_counts(a: int, b: int) -> tuple[int, ...]:
    """Of all orders of a and b units, how many have U = 0, 1, 2, ... pairs in the other order (Mann and Whitney)."""
    if a == 0 or b == 0:
        return (1,)
    counts = [0] * (a * b + 1)
    for offset, smaller in ((b, _rank_sum_counts(a - 1, b)), (0, _rank_sum_counts(a, b - 1))):
        for u, count in enumerate(smaller):
            counts[u + offset] += count
    return tuple(counts)


def least_units(other: int, confidence: float = CONFIDENCE) -> int:
    """Units that a side needs for an interval when the other side has `other`, or LEAST where that has fewer."""
    needed = LEAST
    while rank_sum_limit(needed, max(LEAST, other), confidence) is None:
        needed += 1
    return needed


def verdict_of(ratio: Ratio, margin: float) -> Verdict:
    """What a ratio means for a figure of which less is better, at a margin given as a share (0.05: 5 %).

    worse: the estimate lies above 1 + margin and the whole interval above 1 + GUARD · margin. better: the same on the
    other side, 1 / (1 + margin). same: nothing in the interval is worse by more than the margin; where it reaches
    beyond the margin on the good side, it may be better, but is not called so. Everything else is inconclusive.
    """
    if ratio.interval is None:
        return "inconclusive"
    edge = math.log1p(margin)
    value, low, high = (math.log(number) for number in (ratio.value, *ratio.interval))
    if value > edge and low > GUARD * edge:
        return "worse"
    if value < -edge and high < -GUARD * edge:
        return "better"
    return "same" if high <= edge else "inconclusive"

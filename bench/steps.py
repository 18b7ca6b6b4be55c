"""A figure over time → the places where it changed its level for good. Pure; knows no commit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.judge import rank_sum_limit, ratio_of

LEAST = 4
"""Values on each side of a step."""
SMALLEST = 0.02
"""Share below which a change is no step, however certain."""


@dataclass(frozen=True)
class Step:
    """One change of level."""

    place: int
    """Index of the first value of the new level."""
    before: float
    after: float
    """Medians of the two levels."""

    @property
    def change(self) -> float:
        """A share of the level before."""
        return self.after / self.before - 1


def find_steps(values: Sequence[float]) -> list[Step]:
    """Steps of a series of positive values, in order; single outliers are none.

    Binary segmentation: the split that separates the logarithms best is a step where the rank-sum test tells its sides
    apart at 95 %, shared among all the splits that were tried; then both sides are split again.
    """
    if not values:
        return []
    places = sorted(_split(values, 0, len(values)))
    bounds = [0, *places, len(values)]
    levels = [median(values[a:b]) for a, b in itertools.pairwise(bounds)]
    return [Step(place, before, after) for place, before, after in zip(places, levels, levels[1:], strict=False)]


def _split(values: Sequence[float], start: int, end: int) -> list[int]:
    tried = range(start + LEAST, end - LEAST + 1)
    if not tried:
        return []
    place = max(tried, key=lambda p: _separation(values[start:p], values[p:end]))
    confidence = 1 - 0.05 / len(tried)
    left, right = values[start:place], values[place:end]
    if rank_sum_limit(len(left), len(right), confidence) is None:
        return []
    ratio = ratio_of(left, right, confidence)
    assert ratio.interval is not None
    certain = ratio.interval[0] > 1 or ratio.interval[1] < 1
    if not certain or abs(math.log(median(right) / median(left))) < math.log1p(SMALLEST):
        return []
    return [*_split(values, start, place), place, *_split(values, place, end)]


def _separation(left: Sequence[float], right: Sequence[float]) -> float:
    """Difference of the mean logarithms, weighted as a t statistic weights it."""
    means = [math.fsum(map(math.log, side)) / len(side) for side in (left, right)]
    return abs(means[1] - means[0]) * math.sqrt(len(left) * len(right) / (len(left) + len(right)))

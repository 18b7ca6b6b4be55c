"""How far cases under way have come → how long the rest will take, in words. Reads no clock, knows no case."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

UNITS = ((3600, "h"), (60, "min"), (1, "s"))
"""Seconds and name; the first of which there are two or more is used."""


@dataclass(frozen=True)
class Pace:
    """What is known of a case that is not done."""

    seconds: tuple[float, ...]
    """Wall time of each of its processes so far, start-up included; at least one. The first also judges the output, and
    counts only where it is alone."""
    least: int
    """Processes that it still needs at least."""
    most: int
    """And at most."""


def processes_left(done: int, spent_s: float, budget_s: float, limits: tuple[int, int]) -> tuple[int, int]:
    """Least and most processes that a case still needs which goes on until its interval is narrow or its budget spent.

    Args:
        done: processes so far, at least 1; the case is not done with these.
        spent_s: what they used of the budget.
        limits: least and most processes of any case.
    """
    least = max(limits[0] - done, 1)
    until_spent = math.ceil((budget_s - spent_s) * done / spent_s) if spent_s > 0 else limits[1]
    return least, max(least, min(limits[1] - done, until_spent))


def seconds_left(paces: Iterable[Pace], after_s: float = 0.0) -> tuple[float, float]:
    """Least and most seconds until all are done, if every process takes as long as those of its case did so far.

    Args:
        after_s: what follows the last of them.
    """
    each = [(fmean(pace.seconds[1:] or pace.seconds), pace) for pace in paces]
    return sum(s * p.least for s, p in each) + after_s, sum(s * p.most for s, p in each) + after_s


def in_words(least_s: float, most_s: float) -> str:
    """`about 40 s left`, `2 to 5 min left`: no more digits than a forecast deserves."""
    unit_s, unit = next((pair for pair in UNITS if most_s >= 2 * pair[0]), UNITS[-1])
    step = 10 if unit == "s" else 1
    low, high = (step * round(seconds / unit_s / step) for seconds in (least_s, most_s))
    if low == high:
        return f"about {max(low, step)} {unit} left"
    return f"{low} to {high} {unit} left" if low else f"up to {high} {unit} left"

"""Percentiles, intervals and the question whether a number is stable. Pure functions; no I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

CONFIDENCE = 0.95
BEYOND = 10
"""A percentile is shown only with at least this many samples beyond it: p90 from 100 samples, p99 from 1,000."""
WIDE = 0.10
"""Half an interval of more than this share of the median is labelled unstable."""
DRIFT = 0.05
DRIFT_SAMPLES = 6
STOLEN = 0.02
FOREIGN = 0.10


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """Linear-interpolation percentile of the samples in their unit; None where too few stand beyond it (BEYOND)."""
    if len(samples) * (100 - percent) / 100 < BEYOND:
        return None
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def order_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the median of independent samples, from order statistics; None below 6 samples.

    No assumption on the distribution: the number of samples below the true median is binomial(n, 1/2).
    Source: David, Nagaraja: Order Statistics, 3rd edition, section 7.1.
    """
    n = len(samples)
    ordered = sorted(samples)
    limit = round((1 - CONFIDENCE) / 2 * 10**6) * 2**n // 10**6
    term, tail, k = 1, 1, 0  # in integers: binomial(n, k), its sum so far; 2^n overflows a float from n = 1024
    while tail <= limit:
        term = term * (n - k) // (k + 1)
        k += 1
        tail += term
    return None if k == 0 else (ordered[k - 1], ordered[n - k])


def median_interval(processes: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % interval of the median latency of this case on this machine, over all the processes one could start.

    With two processes or more the unit is the process: Student's t over the medians of the processes, since samples
    of one process agree far better with each other (0.3 %) than with those of the next (up to 26 %); united with the
    range of these medians. On clocks of two modes it holds the median from five processes on, not with three. With one
    process only, the order-statistic interval of its samples, which says nothing about the next process. None where
    even that cannot be had.
    """
    filled = [samples for samples in processes if samples]
    if len(filled) < 2:
        return order_interval(filled[0]) if filled else None
    medians = [median(samples) for samples in filled]
    half = student_t(len(medians) - 1) * stdev(medians) / math.sqrt(len(medians))
    centre = fmean(medians)
    # Never narrower than what was seen: where processes fall into two modes, three of one mode agree by chance.
    return max(0.0, min(centre - half, *medians)), max(centre + half, *medians)


def central(processes: Sequence[Sequence[float]]) -> float:
    """Median of the processes' medians: a disturbed process takes more samples, and must not count more for it."""
    return median(median(samples) for samples in processes if samples)


def half_width_share(interval: tuple[float, float] | None, centre: float) -> float:
    """Half the interval's width as a share of its centre; infinite without an interval."""
    return math.inf if interval is None or centre <= 0 else (interval[1] - interval[0]) / 2 / centre


def student_t(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t distribution."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees))


def summarise(processes: Sequence[Sequence[float]]) -> dict[str, object]:
    """The `latency_ms` figures that follow from samples in ms, one sequence per process."""
    pooled = [sample for samples in processes for sample in samples]
    interval = median_interval(processes)
    return {
        "p50": central(processes),
        "p90": percentile(pooled, 90),
        "p95": percentile(pooled, 95),
        "p99": percentile(pooled, 99),
        "ci95": list(interval) if interval else None,
        "ci95_of": "median over processes" if len(processes) > 1 else "median within one process",
    }


@dataclass(frozen=True)
class Disturbance:
    """What was seen beside the samples; shares of 1, None where the machine does not say."""

    steal_share: float | None
    foreign_share: float | None
    machine_change: float | None
    """Lowest matrix-product rate of the machine around the processes over the highest, minus 1."""
    unsettled: int = 0
    """Processes whose warm-up ended by its budget, and that have too few samples to show a drift."""


def instability(processes: Sequence[Sequence[float]], seen: Disturbance) -> list[str]:
    """Reasons not to trust the median, each a clause for the user; empty when there is none."""
    share = half_width_share(median_interval(processes), central(processes))
    reasons = []
    if math.isinf(share):
        reasons.append("too few samples for an interval: raise --budget or --processes")
    elif share > WIDE:
        reasons.append(f"the interval is ±{share:.0%} of the median: processes or samples disagree")
    drift = max((abs(_drift(samples)) for samples in processes if len(samples) >= DRIFT_SAMPLES), default=0.0)
    if drift > DRIFT:
        reasons.append(f"samples drift by {drift:.0%} within a process")
    if seen.steal_share is not None and seen.steal_share > STOLEN:
        reasons.append(f"the hypervisor took {seen.steal_share:.0%} of the processor time")
    if seen.foreign_share is not None and seen.foreign_share > FOREIGN:
        reasons.append(f"other programs used {seen.foreign_share:.0%} of the processor time")
    if seen.machine_change is not None and abs(seen.machine_change) > WIDE:
        reasons.append(f"the machine's matrix-product rate changed by {seen.machine_change:+.0%} during the case")
    if seen.unsettled:
        reasons.append(f"warm-up had not settled in {seen.unsettled} of {len(processes)} processes: raise --budget")
    return reasons


def _drift(samples: Sequence[float]) -> float:
    """Median of the last third over that of the first third, minus 1."""
    third = len(samples) // 3
    return median(samples[-third:]) / median(samples[:third]) - 1

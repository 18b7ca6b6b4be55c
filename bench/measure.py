"""The loop and the only clock: a step that can be called → warm-up and samples in ms. Knows no engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.stats import half_width_share, order_interval

Clock = Callable[[], float]


@dataclass(frozen=True)
class Rule:
    """When warm-up ends and when sampling ends. Times in seconds."""

    budget_s: float
    """Of one process: warm-up and samples together, without the first inference."""
    min_samples: int = 2
    """Taken even where the budget is spent."""
    max_samples: int = 5000
    margin: float = 0.005
    """Sampling ends when half the interval of this process's median is below this share of it."""
    settled: int = 2
    """Warm-up ends after this many inferences in a row that are not faster than the fastest before them ..."""
    slow_ms: float = 1000
    """... of which one is enough where it takes this long: what settles does so within seconds, not inferences ..."""
    gain: float = 0.02
    """... by more than this share; the first, cold one is not compared with ..."""
    warm_up_share: float = 0.25
    """... or when it has used this share of the budget, after two."""
    min_time_s: float = 0.5
    """A narrow interval ends sampling only after this time: shorter series miss slow disturbances."""


@dataclass
class Series:
    """What one process saw, all in ms. `first` is the first inference, `warmup` those after it that are not counted."""

    first: float
    warmup: list[float] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)
    steady: bool = False
    """Whether warm-up ended because the latency had settled, and not because its share of the budget was used."""


def measure(
    step: Callable[[], None],
    rule: Rule,
    clock: Clock = time.perf_counter,
    progress: Callable[[Series], None] = lambda _: None,
) -> Series:
    """Times `step` until its median is known well enough or the budget ends.

    Args:
        step: one whole inference; returns when it is done.
        rule: when to stop.
        clock: seconds, monotonic; tests pass one that ticks.
        progress: called between timed steps, outside of what is timed.
    """

    def timed() -> float:
        before = clock()
        step()
        return (clock() - before) * 1e3

    series = Series(first=timed())
    start = clock()  # after the first inference, which may compile for minutes
    _warm_up(series, rule, timed, lambda: clock() - start, progress)
    sampling = clock()
    while not _enough(series, rule, clock() - start, clock() - sampling):
        series.samples.append(timed())
        progress(series)
    return series


def _warm_up(
    series: Series,
    rule: Rule,
    timed: Callable[[], float],
    elapsed: Callable[[], float],
    progress: Callable[[Series], None],
) -> None:
    best, calm = math.inf, 0
    while True:
        value = timed()
        series.warmup.append(value)
        progress(series)
        calm = calm + 1 if value > best * (1 - rule.gain) else 0
        best = min(best, value)
        series.steady = calm >= (1 if value >= rule.slow_ms else rule.settled)
        spent = len(series.warmup) > 1 and elapsed() >= rule.budget_s * rule.warm_up_share
        if series.steady or spent:
            return


def _enough(series: Series, rule: Rule, spent_s: float, sampling_s: float) -> bool:
    n = len(series.samples)
    if n < rule.min_samples:
        return False
    if n >= rule.max_samples or spent_s >= rule.budget_s:
        return True
    if sampling_s < rule.min_time_s or n & (n - 1):  # looked at 4, 8, 16, ... samples: a look costs a sort
        return False
    interval = order_interval(series.samples)
    return half_width_share(interval, sorted(series.samples)[n // 2]) < rule.margin

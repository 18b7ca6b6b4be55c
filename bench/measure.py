"""The loop and the only clock: a step that can be called → warm-up and samples in ms. Knows no engine.

Every sample is this clock's, from the call to its end, whichever the engine. What a device's own events say of the same
inference, and how long the host took to submit it, are kept beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
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


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Parts:
    """One whole inference where the parts of it are figures of their own."""

    submit: Callable[[], None]
    finish: Callable[[], None]
    """Returns when it is done; submit and finish together are a sample."""
    prepare: Callable[[], None] = _nothing
    """Called before every sample, and no part of it."""
    device_ms: Callable[[], Mapping[str, float]] = dict
    """Called after every sample, and no part of it: `compute` of it, where the device has a clock."""
    asynchronous: bool = False
    """Whether the clock is also read between submit and finish."""


@dataclass
class Series:
    """What one process saw, all in ms. `first` is the first inference, `warmup` those after it that are not counted."""

    first: float
    warmup: list[float] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)
    steady: bool = False
    """Whether warm-up ended because the latency had settled, and not because its share of the budget was used."""
    enqueue: list[float] = field(default_factory=list)
    """Of every sample, the host's time to submit it; empty where submitting is doing."""
    compute: list[float] = field(default_factory=list)
    """Of every sample, the time on the device's own clock; empty where it has none."""


def measure(
    step: Callable[[], None] | Parts,
    rule: Rule,
    clock: Clock = time.perf_counter,
    progress: Callable[[Series], None] = lambda _: None,
) -> Series:
    """Times `step` until its median is known well enough or the budget ends.

    Args:
        step: one whole inference; returns when it is done. Or its parts.
        rule: when to stop.
        clock: seconds, monotonic; tests pass one that ticks.
        progress: called between timed steps, outside of what is timed.
    """

    timed = _timed(step, clock) if isinstance(step, Parts) else _timed(Parts(step, _nothing), clock)
    series = Series(first=timed()[0])
    start = clock()  # after the first inference, which may compile for minutes
    _warm_up(series, rule, lambda: timed()[0], lambda: clock() - start, progress)
    sampling = clock()
    while not _enough(series, rule, clock() - start, clock() - sampling):
        whole, enqueue, compute = timed()
        series.samples.append(whole)
        series.enqueue += enqueue
        series.compute += compute
        progress(series)
    return series


def _timed(parts: Parts, clock: Clock) -> Callable[[], tuple[float, list[float], list[float]]]:
    """One inference → ms of the whole, of submitting it and on the device; the last two may be empty."""

    def timed() -> tuple[float, list[float], list[float]]:
        parts.prepare()
        before = clock()
        parts.submit()
        between = clock() if parts.asynchronous else before
        parts.finish()
        whole = (clock() - before) * 1e3
        told = parts.device_ms()
        enqueue = [(between - before) * 1e3] if parts.asynchronous else []
        return whole, enqueue, [told["compute"]] if "compute" in told else []

    return timed


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

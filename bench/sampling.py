"""What reading counters between inferences does to their median: proof for `bench doctor`.

The very readings of a worker, in turn every few inferences: none; those around every inference (bench/waiting.py), as
in a worker; and all, with those that a worker takes every PERIOD_S (bench/telemetry.py) before every inference too, so
that what one of them costs the inference behind it can be told. Timed in the thread's own processor time, so that
neighbours on the machine, who come and go in whole time slices, are in none of them; what readings cost the caches is.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from bench.judge import Ratio
from bench.measure import Clock, Rule, Series, measure
from bench.stats import order_interval
from bench.telemetry import PERIOD_S, Telemetry
from bench.waiting import Waiting, reader

NARROW = 0.002
"""The proof ends when half of both intervals is below this share."""
LEAST_TURNS = 40
BLOCK = 6
"""Samples of one side of a turn, after the inferences that warm up."""

Side = Literal["none", "around", "all"]
SIDES: tuple[Side, ...] = ("none", "around", "all")


@dataclass(frozen=True)
class Cost:
    """What readings cost an inference of `step_ms`: medians over those without any, with 95 % intervals."""

    step_ms: float
    around: Ratio
    """As in a worker, but for what it reads every PERIOD_S."""
    behind_all: Ratio
    """All that a worker reads, before every inference."""

    @property
    def reading_us(self) -> float:
        """At most so many µs longer is an inference behind a reading of all: the upper end of the interval."""
        assert self.behind_all.interval is not None
        return max(self.behind_all.interval[1] - 1, 0.0) * self.step_ms * 1e3

    @property
    def most(self) -> float:
        """Share of a median that readings change at most in a worker: those around each inference, the end of the
        interval that is further off, and those every PERIOD_S. These reach every inference only where one takes as long
        as that, and shorter ones as much more seldom."""
        assert self.around.interval is not None
        return max(abs(bound - 1) for bound in self.around.interval) + self.reading_us * 1e-6 / PERIOD_S


@dataclass
class Turns:
    """Series without readings and with them, in turn."""

    step: Callable[[], object]
    clock: Clock = time.thread_time
    lot: random.Random = field(default_factory=random.Random)
    waited_ns: Callable[[], int] | None = field(default_factory=reader)
    telemetry: Callable[[Series], None] = field(default_factory=lambda: Telemetry("cpu", period_s=0.0))
    medians: list[dict[Side, float]] = field(default_factory=list)
    """In ms, of every turn."""

    def take(self) -> None:
        """One turn, in random order."""
        found: dict[Side, float] = {}
        for side in self.lot.sample(SIDES, len(SIDES)):
            rule = Rule(budget_s=math.inf, max_samples=BLOCK, margin=0.0, min_time_s=0.0)
            series = measure(lambda: (self.step(), None)[1], rule, self.clock, self._between(side))
            found[side] = median(series.samples)
        self.medians.append(found)

    def _between(self, side: Side) -> Callable[[Series], None]:
        if side == "none":
            return lambda series: None
        waiting = Waiting(self.waited_ns)

        def between(series: Series) -> None:
            waiting.after(series)
            if side == "all":
                self.telemetry(series)
            waiting.before(series)

        return between

    @property
    def cost(self) -> Cost:
        """Medians of the turns, with 95 % intervals from order statistics."""
        step_ms = median(each["none"] for each in self.medians)
        return Cost(step_ms, self._ratio("around"), self._ratio("all"))

    def _ratio(self, side: Side) -> Ratio:
        logs = [math.log(each[side] / each["none"]) for each in self.medians]
        interval = order_interval(logs)
        return Ratio(
            math.exp(median(logs)), None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
        )


def sampling_cost(step: Callable[[], object], seconds: float, wall: Clock = time.perf_counter) -> Cost:
    """What a worker's readings cost the inferences between them.

    Args:
        step: what is timed; short, one thread.
        seconds: at most; less where both intervals are narrow before.
    """
    turns, start = Turns(step), wall()
    while len(turns.medians) < LEAST_TURNS or wall() - start < seconds:
        turns.take()
        count = len(turns.medians)
        if count >= LEAST_TURNS and count % LEAST_TURNS == 0 and _is_narrow(turns.cost):
            break
    return turns.cost


def _is_narrow(cost: Cost) -> bool:
    intervals = (cost.around.interval, cost.behind_all.interval)
    return all(each is not None and (each[1] - each[0]) / 2 < NARROW for each in intervals)

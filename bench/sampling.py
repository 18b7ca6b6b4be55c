"""What reading counters between inferences does to their median → a ratio and its interval: proof for `bench doctor`.

The very readings of a worker, on and off in turn every few inferences: bench/waiting.py around every inference, as
there, and bench/telemetry.py, OFTENER times as often. Timed in the thread's own processor time, so that neighbours on
the machine, who come and go in whole time slices, are in neither side; what readings cost the caches is in it.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from bench.judge import Ratio
from bench.measure import Clock, Rule, Series, measure
from bench.stats import order_interval
from bench.telemetry import PERIOD_S, Telemetry
from bench.waiting import Waiting

NARROW = 0.002
"""The proof ends when half the interval is below this share."""
LEAST_TURNS = 40
BLOCK = 6
"""Samples of one side of a turn, after the inferences that warm up."""
OFTENER = 25
"""Than a worker, telemetry is read: every 20 ms, so that it is met in the seconds that the proof takes."""


@dataclass
class Turns:
    """Series with readings and series without, in turn."""

    step: Callable[[], object]
    clock: Clock = time.thread_time
    lot: random.Random = field(default_factory=random.Random)
    telemetry: Telemetry = field(default_factory=lambda: Telemetry("cpu", PERIOD_S / OFTENER))
    ratios: list[float] = field(default_factory=list)
    """Logarithm of the median with readings over that without, of every turn."""

    def take(self) -> None:
        """One turn, in random order."""
        found = {}
        for on in self.lot.sample((True, False), 2):
            rule = Rule(budget_s=math.inf, max_samples=BLOCK, margin=0.0, min_time_s=0.0)
            series = measure(lambda: (self.step(), None)[1], rule, self.clock, self._readings() if on else _nothing)
            found[on] = median(series.samples)
        self.ratios.append(math.log(found[True] / found[False]))

    def _readings(self) -> Callable[[Series], None]:
        """All that a worker reads between inferences."""
        waiting = Waiting()

        def between(series: Series) -> None:
            waiting.after(series)
            self.telemetry(series)
            waiting.before(series)

        return between

    @property
    def ratio(self) -> Ratio:
        """The median of the turns, with its 95 % interval from order statistics."""
        interval = order_interval(self.ratios)
        value = math.exp(median(self.ratios))
        return Ratio(value, None if interval is None else (math.exp(interval[0]), math.exp(interval[1])))


def sampling_ratio(step: Callable[[], object], seconds: float, wall: Clock = time.perf_counter) -> Ratio:
    """The median of an inference with a worker's readings, over that without.

    Args:
        step: what is timed; short, one thread.
        seconds: at most; less where the interval is narrow before.
    """
    turns, start = Turns(step), wall()
    while len(turns.ratios) < LEAST_TURNS or wall() - start < seconds:
        turns.take()
        count = len(turns.ratios)
        if count >= LEAST_TURNS and count % LEAST_TURNS == 0 and _is_narrow(turns.ratio):
            break
    return turns.ratio


def _is_narrow(ratio: Ratio) -> bool:
    return ratio.interval is not None and (ratio.interval[1] - ratio.interval[0]) / 2 < NARROW


def _nothing(series: Series) -> None:
    pass

"""The proof that sampling costs nothing: it finds a cost that is there, and narrows down one that is not."""

from __future__ import annotations

import random
import time

import pytest

import bench.sampling
from bench.measure import Series
from bench.sampling import LEAST_TURNS, OFTENER, Turns, sampling_ratio
from bench.telemetry import PERIOD_S


class Work:
    """A clock, and steps of 1 ms that take longer by `cost` after each reading; with noise of 1 %."""

    def __init__(self, cost: float) -> None:
        self.now, self._cost, self._slow = 0.0, cost, False
        self._lot = random.Random(3)

    def step(self) -> None:
        factor = 1 + (self._cost if self._slow else 0.0) + self._lot.gauss(0, 0.01)
        self._slow = False
        self.now += 1e-3 * factor

    def reading(self, series: Series) -> None:
        self._slow = True
        self.now += 5.0  # is in no sample

    def turns(self, monkeypatch: pytest.MonkeyPatch, count: int) -> Turns:
        monkeypatch.setattr(Turns, "_readings", lambda turns: self.reading)
        turns = Turns(self.step, lambda: self.now, random.Random(1))
        for _ in range(count):
            turns.take()
        return turns


@pytest.mark.parametrize("cost", [0.0, 0.01])
def test_the_interval_holds_the_cost_that_is_there(monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
    ratio = Work(cost).turns(monkeypatch, 400).ratio
    assert ratio.interval is not None
    low, high = ratio.interval
    assert low <= 1 + cost <= high
    assert high - low < 0.004


def test_a_cost_of_one_percent_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    interval = Work(0.01).turns(monkeypatch, 400).ratio.interval
    assert interval is not None
    assert interval[0] > 1.005


def test_it_ends_in_time_and_never_before_its_least_turns() -> None:
    calls = []

    def step() -> None:
        calls.append(1)
        time.sleep(0)

    ratio = sampling_ratio(lambda: (step(), sum(range(500))), seconds=0.0)
    assert ratio.interval is not None
    assert len(calls) >= 2 * LEAST_TURNS


def test_the_readings_are_those_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(bench.sampling.Telemetry, "read", lambda self: read.append("telemetry") or {})
    monkeypatch.setattr(bench.sampling.Waiting, "before", lambda self, series: read.append("waiting"))
    now = 0.0
    turns = Turns(lambda: None, telemetry=bench.sampling.Telemetry("cpu", PERIOD_S / OFTENER, lambda: now))
    between = turns._readings()
    for _ in range(10):
        between(Series(1.0))
        now += PERIOD_S / OFTENER / 2
    assert read == ["telemetry", "waiting", "waiting"] * 5

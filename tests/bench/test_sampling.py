"""The proof that sampling costs nothing: it finds a cost that is there, and narrows down one that is not."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

import bench.sampling
from bench.measure import Series
from bench.sampling import LEAST_TURNS, Turns, sampling_cost


class Work:
    """A clock, and steps of 1 ms with noise of 1 %, which take longer by these shares after readings."""

    def __init__(self, around: float, telemetry: float) -> None:
        self.now, self._slower = 0.0, 0.0
        self._around, self._telemetry = around, telemetry
        self._lot = random.Random(3)

    def step(self) -> None:
        self.now += 1e-3 * (1 + self._slower + self._lot.gauss(0, 0.01))
        self._slower = 0.0

    def waited_ns(self) -> int:
        self._slower = max(self._slower, self._around)
        self.now += 2.0  # is in no sample
        return 0

    def read_all(self, series: Series) -> None:
        self._slower = self._telemetry
        self.now += 5.0

    def turns(self, count: int) -> Turns:
        turns = Turns(self.step, lambda: self.now, random.Random(1), self.waited_ns, self.read_all)
        for _ in range(count):
            turns.take()
        return turns


@pytest.mark.parametrize("around", [0.0, 0.01])
@pytest.mark.parametrize("telemetry", [0.0, 0.02, 2.0])
def test_the_intervals_hold_the_costs_that_are_there(around: float, telemetry: float) -> None:
    cost = Work(around, telemetry).turns(400).cost
    for ratio, true in ((cost.around, around), (cost.behind_all, max(around, telemetry))):
        assert ratio.interval is not None
        low, high = ratio.interval
        assert low <= 1 + true <= high
        assert high - low < 0.004 * (1 + true)
    assert cost.reading_us == pytest.approx(1000 * max(around, telemetry), abs=8)
    assert cost.most == pytest.approx(around + max(around, telemetry) * 1e-3 / 0.5, abs=0.003)


def test_a_cost_of_one_percent_is_told_from_none() -> None:
    interval = Work(0.01, 0.0).turns(400).cost.around.interval
    assert interval is not None
    assert interval[0] > 1.005


def test_it_ends_in_time_and_never_before_its_least_turns() -> None:
    calls = []

    def step() -> None:
        calls.append(1)
        time.sleep(0)

    cost = sampling_cost(lambda: (step(), sum(range(500))), seconds=0.0)
    assert cost.around.interval is not None
    assert len(calls) >= 3 * LEAST_TURNS


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not show open files")
def test_turns_leave_no_files_open() -> None:
    turns = Turns(lambda: None)
    turns.take()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        turns.take()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_readings_are_those_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(bench.sampling.Telemetry, "read", lambda self: read.append("telemetry") or {})
    monkeypatch.setattr(bench.sampling.Waiting, "before", lambda self, series: read.append("waiting"))
    turns = Turns(lambda: None)
    for side in bench.sampling.SIDES:
        between = turns._between(side)
        for _ in range(2):
            between(Series(1.0))
    assert read == ["waiting"] * 2 + ["telemetry", "waiting"] * 2

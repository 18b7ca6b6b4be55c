"""Cases in their ways of use: pacing with a clock that ticks, several in flight and pictures with real threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.in_use import Between, Pacer, Use, ends_ms, measure_in_flight, measure_use
from bench.measure import Rule, Series, measure
from bench.ways import Way
from reference_models import get


class Player:
    """A clock, and inferences of the given ms in turn."""

    def __init__(self, *durations_ms: float) -> None:
        self.now = 100.0
        self._durations = list(durations_ms)
        self.starts: list[float] = []

    def step(self) -> None:
        self.starts.append(self.now)
        self.now += (self._durations.pop(0) if self._durations else 10.0) / 1e3

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now


def paced(*durations_ms: float, fps: float = 20.0) -> tuple[Player, Pacer, Series]:
    player = Player(*durations_ms)
    pacer = Pacer(fps, player.clock, player.sleep)
    rule = Rule(budget_s=1e9, max_samples=len(durations_ms) - 4, margin=0.0)
    return player, pacer, measure(player.step, rule, player.clock, pacer)


def test_paced_pictures_begin_when_they_are_due_and_sleep_is_in_no_sample() -> None:
    player, pacer, series = paced(30, 10, 10, 10, 20, 49, 20, 20)
    assert series.samples == pytest.approx([20, 49, 20, 20])
    assert np.diff(player.starts[2:]) == pytest.approx(0.05)
    assert pacer.told == {"due": 4, "late": 0, "dropped": 0}


def test_a_late_picture_misses_and_those_that_came_meanwhile_are_dropped() -> None:
    _, pacer, _ = paced(10, 10, 10, 10, 60, 20, 160, 20)
    # 60 ms: late, and the next one dropped, which came 10 ms before; 160 ms: late, three dropped.
    assert pacer.told == {"due": 8, "late": 2, "dropped": 4}


def test_an_engine_slower_than_the_pace_misses_all() -> None:
    _, pacer, _ = paced(*[75] * 24)
    assert pacer.late == 20
    assert pacer.dropped == 20
    assert pacer.due == 40


def test_warm_up_is_not_counted() -> None:
    _, pacer, _ = paced(500, 200, 10, 10, 10, 10, 10)
    assert pacer.told["late"] == pacer.told["dropped"] == 0


RULE = Rule(budget_s=0.6, max_samples=10**6, margin=0.0, min_time_s=0.1)


def sleeper(ms: float) -> Any:
    return lambda: time.sleep(ms / 1e3)


def test_two_in_flight_finish_more_than_one_in_the_same_time() -> None:
    counts: list[int] = []
    series, rate = measure_in_flight([sleeper(20)] * 2, RULE, progress=lambda s: counts.append(len(s.samples)))
    assert min(series.samples) >= 20
    assert rate > 1.2 * 1e3 / np.median(series.samples)  # more than one at a time, however late threads wake up
    assert rate <= 2 * 1e3 / 20
    assert counts == sorted(counts)
    assert len(series.warmup) >= 4
    assert not [thread for thread in threading.enumerate() if "_run" in thread.name]


def test_what_one_thread_raises_ends_all() -> None:
    calls = []

    def breaks() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        measure_in_flight([breaks, sleeper(1)], RULE)


# Sessions


class Session:
    """Counts what is asked of it; takes a millisecond."""

    asynchronous = False
    in_flight = 1
    graph = SimpleNamespace(takes_pictures=False)

    def __init__(self) -> None:
        self.bound: list[np.ndarray] = []
        self.runs = 0
        self.closed = False

    def bind(self, x: np.ndarray) -> None:
        self.bound.append(x)

    def prepare(self) -> None:
        """Nothing has to happen."""

    def device_ms(self) -> dict[str, float]:
        return {}

    def enqueue(self) -> None:
        time.sleep(0.001)

    def synchronize(self) -> None:
        self.runs += 1

    def read(self) -> np.ndarray:
        return self.bound[-1]

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def use(way: Way, tmp_path: Path) -> tuple[Use, Session, list[Session]]:
    import reference_models

    np.save(tmp_path / "source.npy", np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    spec = reference_models.get("can24").to_json()
    first, others = Session(), list[Session]()

    def another() -> Session:
        others.append(Session())
        return others[-1]

    job = {"sources": [str(tmp_path / "source.npy")], "output_shape": (1, 3, 12, 16), "case": {"spec": spec},
           "judge": True}  # fmt: skip
    return Use(way, first, another, job), first, others


SHORT = Rule(budget_s=0.15, max_samples=20, min_time_s=0.02)


def test_back_to_back_is_the_network_only_and_calls_others_between(tmp_path: Path) -> None:
    case, session, _ = use(Way(), tmp_path)
    calls: list[str] = []
    between = Between(lambda _: calls.append("before"), lambda _: calls.append("after"), [lambda _: calls.append("x")])
    series, told = measure_use(case, SHORT, between)
    assert told == {}
    assert session.bound == []
    assert session.runs == 1 + len(series.warmup) + len(series.samples)
    assert calls[:3] == ["after", "x", "before"]


def test_a_paced_case_uses_its_whole_budget(tmp_path: Path) -> None:
    case, _, _ = use(Way(pace_fps=100.0), tmp_path)
    start = time.perf_counter()
    series, told = measure_use(case, Rule(budget_s=0.3, min_time_s=0.01), Between())
    assert time.perf_counter() - start >= 0.3
    assert told["due"] >= len(series.samples) > 2


def test_picture_to_picture_converts_both_ways_and_tells_the_files_apart(tmp_path: Path) -> None:
    case, session, _ = use(Way(pictures=True), tmp_path)
    _, told = measure_use(case, SHORT, Between())
    assert {x.shape for x in session.bound} == {(1, 3, 12, 16)}
    assert set(told["ends_ms"]) == {"encode_png", "decode_png", "encode_jpg", "decode_jpg"}
    assert all(ms > 0 for ms in told["ends_ms"].values())


def test_in_flight_loads_a_session_for_each_and_closes_what_it_loaded(tmp_path: Path) -> None:
    case, session, others = use(Way(in_flight=3), tmp_path)
    _, told = measure_use(case, Rule(budget_s=0.2, min_time_s=0.02), Between())
    assert len(others) == 2
    assert all(other.closed and other.runs > 1 for other in others)
    assert not session.closed  # its owner still reads its output
    assert told["throughput_fps"] > 0


def test_reading_and_writing_leave_no_file(tmp_path: Path) -> None:
    found = ends_ms(np.zeros((8, 8, 3), np.uint8), str(tmp_path), repeats=2)
    assert len(found) == 4


def test_a_plan_on_pictures_is_given_the_picture_itself(tmp_path: Path) -> None:
    picture = np.zeros((3, 4, 3), np.uint8)
    np.save(tmp_path / "picture.npy", picture)
    session = Session()
    session.graph = SimpleNamespace(takes_pictures=True)  # type: ignore[misc]
    job = {"case": {"spec": get("can24").to_json()}, "sources": [str(tmp_path / "picture.npy")]}
    use = Use(Way(pictures=True), session, Session, {**job, "output_shape": (1, 3, 3, 4)})
    use.step()()
    assert (session.bound[0].dtype, session.bound[0].shape, session.runs) == (np.uint8, (3, 4, 3), 1)

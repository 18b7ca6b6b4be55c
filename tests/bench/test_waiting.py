"""Own time: the wall clock's less what a thread waited for a core, where one thread computes alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count

import pytest

from bench.measure import Series
from bench.waiting import Waiting, reader


def run(samples: list[float], waited_ms: list[float], thread_share: float = 1.0) -> dict[str, object]:
    """What is told of these samples, each of which has waited so long; warm-up waits too, and does not count."""
    now_ns = 0

    def clock(share: float) -> Callable[[], float]:
        ticks = count()
        return lambda: next(ticks) * share

    waiting = Waiting(lambda: now_ns, clock(thread_share), clock(1.0))
    series = Series(first=1.0, warmup=[9.0])
    waiting.before(series)
    now_ns += 10**9
    waiting.after(series)
    for ms, waited in zip(samples, waited_ms, strict=True):
        waiting.before(series)
        now_ns += int(waited * 1e6)
        series.samples.append(ms)
        waiting.after(series)
        now_ns += 5 * 10**9  # between inferences
    return waiting.told(series)


def test_own_time_is_the_wall_clock_less_the_waiting_of_every_sample() -> None:
    assert run([16.0, 4.0, 20.0], [12.0, 0.0, 15.0]) == {
        "own_ms": 4.0, "waited_share": pytest.approx(27 / 40), "why": None,
    }  # fmt: skip


def test_counters_that_say_more_than_the_clock_leave_a_positive_time() -> None:
    told = run([2.0, 2.0], [2.5, 2.5])
    assert told["own_ms"] == pytest.approx(0.002)


def test_there_is_none_where_threads_share_the_work() -> None:
    told = run([16.0], [12.0], thread_share=0.6)
    assert told["own_ms"] is None
    assert told["why"] == "several threads share an inference"


def test_there_is_none_where_samples_came_from_other_threads() -> None:
    waiting = Waiting(lambda: 0)
    waiting.before(Series(1.0))
    assert waiting.told(Series(1.0, samples=[1.0, 2.0]))["why"] == "several inferences were under way at once"


def test_a_real_thread_that_is_kept_from_its_core_waits() -> None:
    read = reader()
    if read is None:
        pytest.skip("this system does not tell what a thread waits for a core")
    before = read()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert read() >= before


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.waiting.SCHEDSTAT", "/nonexistent")


@pytest.mark.usefixtures("unreadable")
def test_a_system_without_counters_says_so() -> None:
    waiting, series = Waiting(), Series(1.0, samples=[1.0])
    waiting.before(series)
    waiting.after(series)
    told = waiting.told(series)
    assert told["own_ms"] is None
    assert "does not tell" in str(told["why"])


def test_every_thread_reads_its_own_counter() -> None:
    if reader() is None:
        pytest.skip("this system does not tell what a thread waits for a core")
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append((reader() or int)()))
    thread.start()
    thread.join()
    assert found[0] >= 0

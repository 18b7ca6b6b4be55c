"""Order and end of a sweep that has to be done in time; the execution is a double with a clock of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.spawn import TimeOver
from bench.within import LEFT, batches, left_in_words, parse_duration, run_within, spread
from reference_models.errors import UserError


@pytest.mark.parametrize(
    ("word", "seconds"), [(None, None), ("90", 90), ("90s", 90), ("9min", 540), ("1.5h", 5400), ("0.5min", 30)]
)
def test_a_time_is_read(word: str | None, seconds: float | None) -> None:
    assert parse_duration(word) == seconds


@pytest.mark.parametrize("word", ["9", "0min", "min", "9 min", "9m", "-9min", "nan", "1e3", "9h30min", "8000h"])
def test_what_is_no_time_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="--within"):
        parse_duration(word)


@pytest.mark.parametrize(
    ("count", "order"), [(0, []), (1, [0]), (2, [1, 0]), (3, [1, 2, 0]), (6, [3, 0, 5, 4, 2, 1]), (4, [2, 0, 3, 1])]
)
def test_the_middle_comes_first_and_then_what_lies_far_from_all(count: int, order: list[int]) -> None:
    assert spread(count) == order


def case(model: str, size: int, engine: str = "null", precision: str = "fp32") -> Any:
    found = SimpleNamespace(model=model, width=size, height=size, variant=engine, precision=precision)
    run = {"interrupted": False, "unstable": [], "status": "ok", "reason": None}
    return SimpleNamespace(case=found, run=run, results=[], seconds=[], done=False)


def test_every_network_has_its_middle_size_before_any_has_its_next_and_calibration_comes_behind() -> None:
    wanted = [("a", 20, "fp32"), ("b", 20, "fp32"), ("a", 20, "int8"), ("a", 30, "fp32"), ("b", 30, "fp32")]
    wanted += [("a", 30, "int8"), ("a", 10, "fp32"), ("b", 10, "fp32"), ("a", 10, "int8")]
    given = [case(model, size, precision=p) for p in ("int8", "fp32") for model in "ab" for size in (10, 20, 30)]
    given = [p for p in given if (p.case.model, p.case.precision) != ("b", "int8")]
    found = [(batch[0].case.model, batch[0].case.width, batch[0].case.precision) for batch in batches(given)]
    assert found == wanted


class Execution:
    """Every process takes `seconds` of its engine, everything else one second; a worker is ended at `end`."""

    def __init__(self, end: float, **seconds: float) -> None:
        self.end, self.now, self.told, self._seconds, self.asked_peaks = end, 0.0, [], seconds, 0

    def clock(self) -> float:
        return self.now

    def _pass(self, seconds: float) -> None:
        if self.now + seconds > self.end:
            self.now = self.end
            raise TimeOver
        self.now += seconds

    def peaks(self) -> dict[str, Any]:
        self.now += 1
        self.asked_peaks += 1
        return {}

    def open(self, batch: list[Any]) -> None:
        self._pass(1)
        self.told.append(f"open {batch[0].case.model}{batch[0].case.width}")

    def turn(self, progress: Any, peaks: Any, place: str) -> None:
        self._pass(self._seconds[progress.case.variant])
        progress.seconds.append(self._seconds[progress.case.variant])
        progress.results.append({})
        self.told.append(f"{progress.case.variant} {place}")

    def close(self, under_way: Any, peaks: Any) -> None:
        self.now += 1


def test_what_does_not_fit_is_left_and_says_so() -> None:
    under_way = [case("a", size, engine) for size in (10, 20, 30) for engine in ("quick", "slow")]
    execution = Execution(39.0, quick=1.0, slow=9.0)
    run_within(execution, under_way, 1, execution.clock)  # type: ignore[arg-type]
    # Peaks until 1, 34 is the end; a20 until 12, a30 until 23; of a10 the quick one until 25, and 9 more are too many.
    measured = [(p.case.width, p.case.variant) for p in under_way if p.results]
    assert measured == [(10, "quick"), (20, "quick"), (20, "slow"), (30, "quick"), (30, "slow")]
    left = [p for p in under_way if not p.results]
    assert [(p.run["status"], p.run["reason"], p.done) for p in left] == [("skipped", LEFT, True)]
    assert execution.now <= 39
    assert [word for word in execution.told if word.startswith("open")] == ["open a20", "open a30", "open a10"]
    assert left_in_words([p.run for p in under_way], 0) == "1 case is left: the same command goes on with them"
    assert "quick 2 of 6 cases done, about 20 s left of --within" in execution.told


def test_a_short_time_completes_some_cases_and_begins_no_others() -> None:
    """Three processes of the first, and then what the others would take does not fit."""
    under_way = [case("a", 10, engine) for engine in ("slow", "slower", "slowest")]
    execution = Execution(42.0, slow=10.0, slower=10.0, slowest=10.0)
    run_within(execution, under_way, 3, execution.clock)  # type: ignore[arg-type]
    assert [len(p.results) for p in under_way] == [3, 0, 0]
    assert [p.run["status"] for p in under_way] == ["ok", "skipped", "skipped"]
    again = under_way[1:]
    for progress in again:
        progress.done = False
    execution = Execution(42.0, slow=10.0, slower=10.0, slowest=10.0)
    run_within(execution, again, 3, execution.clock)  # type: ignore[arg-type]
    assert [len(p.results) for p in under_way] == [3, 3, 0]  # the same command goes on


def test_a_worker_under_way_at_the_end_is_ended_and_its_case_left() -> None:
    """Nobody knows what the first process of an engine takes."""
    under_way = [case("a", 10, "slow"), case("b", 10, "quick")]
    execution = Execution(60.0, slow=1000.0, quick=1.0)
    run_within(execution, under_way, 3, execution.clock)  # type: ignore[arg-type]
    assert [(p.run["status"], p.run["reason"]) for p in under_way] == [("skipped", LEFT)] * 2
    assert execution.now <= 60


def test_too_few_processes_are_no_result_and_take_no_more_time() -> None:
    under_way = [case("a", 10, "slow"), case("b", 10, "quick")]
    execution = Execution(30.0, slow=10.0, quick=1.0)
    run_within(execution, under_way, 3, execution.clock)  # type: ignore[arg-type]
    assert [(len(p.results), p.run["status"]) for p in under_way] == [(1, "skipped"), (3, "ok")]
    assert under_way[0].run["reason"] == LEFT


def test_what_fits_is_complete() -> None:
    under_way = [case("a", size, "quick") for size in (10, 20)]
    execution = Execution(600.0, quick=1.0)
    run_within(execution, under_way, 3, execution.clock)  # type: ignore[arg-type]
    assert [(len(p.results), p.run["interrupted"], p.done) for p in under_way] == [(3, False, True)] * 2
    assert left_in_words([p.run for p in under_way], 0) is None
    assert execution.asked_peaks == 1


@pytest.mark.parametrize(("held", "end"), [(0, "--processes 1)"), (4, "--processes 1); 4 were there before")])
def test_a_time_that_completes_nothing_says_what_would(held: int, end: str) -> None:
    runs = [{"status": "skipped", "reason": LEFT}, {"status": "skipped", "reason": LEFT}]
    said = str(left_in_words(runs, held))
    assert said.startswith("2 cases are left, and this call completed none: give it more time")
    assert said.endswith(end)

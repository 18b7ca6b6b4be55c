"""Stages overlap, order is kept, little is in memory, and what fails or stops takes nothing else with it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from bench.pipeline import Stages, Width, one_by_one, overlapped


@pytest.fixture
def computing() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def same(x: Any) -> Any:
    return x


def test_results_come_in_the_order_of_the_items(computing: ThreadPoolExecutor) -> None:
    turn = threading.Event()

    def load(item: int) -> int:
        if item == 0:
            assert turn.wait(10), "item 1 was not loaded while item 0 was"
        turn.set()
        return item

    outcomes = list(overlapped(range(20), Stages(load, same, same), computing, Width(loaders=2, savers=2)))
    assert [(o.item, o.value, o.error) for o in outcomes] == [(i, i, None) for i in range(20)]


def test_the_three_stages_run_at_the_same_time(computing: ThreadPoolExecutor) -> None:
    """Each of the three waits until all of them are busy, with an item of its own."""
    meeting = threading.Barrier(3, timeout=10)

    def load(item: int) -> int:
        return meeting.wait() * 0 + item if item == 2 else item

    def compute(item: int) -> int:
        return meeting.wait() * 0 + item if item == 1 else item

    def save(item: int) -> int:
        return meeting.wait() * 0 + item if item == 0 else item

    outcomes = list(overlapped(range(3), Stages(load, compute, save), computing, Width()))
    assert [o.error for o in outcomes] == [None] * 3


def test_one_by_one_begins_nothing_before_the_last_is_saved(computing: ThreadPoolExecutor) -> None:
    steps: list[tuple[str, int]] = []

    def noted(name: str) -> Any:
        return lambda item: steps.append((name, item)) or item

    stages = Stages(noted("load"), noted("compute"), noted("save"))
    assert len(list(one_by_one(range(3), stages, computing))) == 3
    assert steps == [(name, item) for item in range(3) for name in ("load", "compute", "save")]


def test_never_more_items_are_begun_than_the_width_allows(computing: ThreadPoolExecutor) -> None:
    begun, saved, most = itertools.count(1), itertools.count(1), []
    numbers = {"begun": 0, "saved": 0}

    def load(item: int) -> int:
        numbers["begun"] = next(begun)
        most.append(numbers["begun"] - numbers["saved"])
        return item

    def save(item: int) -> int:
        numbers["saved"] = next(saved)
        return item

    for _ in overlapped(range(50), Stages(load, same, save), computing, Width(in_flight=4)):
        pass
    assert 1 < max(most) <= 5  # one more may be begun between a save and its counting


def test_an_item_that_fails_in_any_stage_is_told_and_ends_no_other(computing: ThreadPoolExecutor) -> None:
    def failing_at(bad: int) -> Any:
        def stage(item: int) -> int:
            if item == bad:
                raise ValueError(f"item {bad}")
            return item

        return stage

    stages = Stages(failing_at(1), failing_at(3), failing_at(5))
    outcomes = list(overlapped(range(7), stages, computing, Width()))
    assert [o.item for o in outcomes if o.error] == [1, 3, 5]
    assert [str(o.error) for o in outcomes if o.error] == ["item 1", "item 3", "item 5"]
    assert [o.value for o in outcomes if not o.error] == [0, 2, 4, 6]


def test_closing_it_finishes_what_was_begun_without_a_gap(computing: ThreadPoolExecutor) -> None:
    saved: list[int] = []
    stages = Stages(same, same, lambda item: saved.append(item) or item)
    with closing(overlapped(itertools.count(), stages, computing, Width())) as outcomes:
        for outcome in outcomes:
            if outcome.item == 5:
                break
    assert saved == list(range(len(saved)))
    assert 6 <= len(saved) <= 10

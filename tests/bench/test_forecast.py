"""How long the rest takes: by hand-made cases, by the processes that a case really takes, and in words."""

from __future__ import annotations

import math
import random

import pytest

from bench.forecast import Pace, in_words, processes_left, seconds_left


@pytest.mark.parametrize(
    ("done", "spent_s", "expected"),
    [
        (1, 15, (2, 2)),  # three of 15 s are the budget
        (1, 5, (2, 8)),
        (1, 1, (2, 9)),  # never more than ten
        (3, 44, (1, 1)),
        (3, 30, (1, 2)),
        (2, 60, (1, 1)),  # more than the budget, but three are always measured
        (9, 9, (1, 1)),
        (1, 0, (2, 9)),
    ],
)
def test_processes_that_a_case_still_needs(done: int, spent_s: float, expected: tuple[int, int]) -> None:
    assert processes_left(done, spent_s, 45, (3, 10)) == expected


def test_a_case_never_takes_more_or_fewer_processes_than_was_said() -> None:
    """The rule of bench/run.py played through: three at least, ten at most, until narrow or the budget is spent."""
    lot = random.Random(0)
    for _ in range(500):
        each, narrow_at = lot.uniform(0.1, 20), lot.randint(1, 12)
        said, done = [], 0
        while done == 0 or not (done >= 10 or (done >= 3 and (done >= narrow_at or done * each >= 45))):
            done += 1
            said.append(processes_left(done, done * each, 45, (3, 10)))
        for place, (least, most) in enumerate(said[:-1], 1):  # after the last the case is done and not asked
            assert least <= done - place <= most


def test_seconds_are_those_of_the_cases_own_processes() -> None:
    paces = [Pace((10.0,), 2, 5), Pace((30.0, 4.0, 6.0), 1, 1)]
    assert seconds_left(paces) == (25.0, 55.0)  # the first process of the second case judged its output too
    assert seconds_left(paces, after_s=7) == (32.0, 62.0)
    assert seconds_left([]) == (0, 0)


@pytest.mark.parametrize(
    ("least_s", "most_s", "words"),
    [
        (37, 37, "about 40 s left"),
        (2, 3, "about 10 s left"),
        (0, 0, "about 10 s left"),
        (14, 52, "10 to 50 s left"),
        (3, 50, "up to 50 s left"),
        (118, 119, "about 120 s left"),
        (118, 300, "2 to 5 min left"),
        (20, 150, "up to 2 min left"),
        (3000, 7100, "50 to 118 min left"),
        (3000, 9000, "1 to 2 h left"),
        (36000, 36000, "about 10 h left"),
    ],
)
def test_words(least_s: float, most_s: float, words: str) -> None:
    assert in_words(least_s, most_s) == words


def test_the_words_are_never_far_from_the_numbers() -> None:
    for seconds in range(1, 20000, 7):
        number, unit = in_words(seconds, seconds).split()[1:3]
        said = int(number) * {"s": 1, "min": 60, "h": 3600}[unit]
        assert math.isclose(said, seconds, rel_tol=0.26, abs_tol=10)

"""The loop with a clock that ticks only when a step or somebody else makes it: every number is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat

import pytest

from bench.measure import Parts, Rule, Series, measure

LONG = Rule(budget_s=1000, max_samples=10, margin=0)


@dataclass
class Time:
    """A clock, and steps that take the given milliseconds in turn."""

    now_s: float = 0.0
    durations_ms: Iterator[float] = field(default_factory=lambda: repeat(100.0))
    steps: int = 0

    def clock(self) -> float:
        return self.now_s

    def step(self) -> None:
        self.steps += 1
        self.now_s += next(self.durations_ms) / 1e3

    def spend(self, seconds: float) -> None:
        self.now_s += seconds


def run(
    durations_ms: Iterable[float], rule: Rule = LONG, progress: Callable[[Series], None] = lambda _: None
) -> tuple[Series, Time]:
    time = Time(durations_ms=iter(durations_ms))
    return measure(time.step, rule, time.clock, progress), time


def ms(*values: float) -> list[float]:
    return [pytest.approx(value, rel=1e-9) for value in values]


# What is a first, a warm-up, a sample


def test_submitting_is_a_part_of_the_sample_and_what_stands_around_it_is_not() -> None:
    time = Time(durations_ms=repeat(100.0))
    parts = Parts(
        submit=lambda: time.spend(0.02), finish=time.step, prepare=lambda: time.spend(7.0),
        device_ms=lambda: time.spend(3.0) or {"compute": 90.0}, asynchronous=True,
    )  # fmt: skip
    series = measure(parts, LONG, time.clock)
    assert series.samples == ms(*[120.0] * 10)
    assert series.enqueue == ms(*[20.0] * 10)
    assert series.compute == [90.0] * 10
    assert series.first == pytest.approx(120)


def test_a_device_that_times_copies_alone_gives_no_time_of_an_inference() -> None:
    time = Time()
    parts = Parts(submit=time.step, finish=lambda: None, device_ms=lambda: {"h2d": 1.0, "d2h": 2.0})
    series = measure(parts, LONG, time.clock)
    assert (series.samples, series.enqueue, series.compute) == (ms(*[100.0] * 10), [], [])


def test_where_submitting_is_doing_there_is_no_such_part() -> None:
    time = Time()
    series = measure(Parts(submit=time.step, finish=lambda: None), LONG, time.clock)
    assert (series.samples, series.enqueue, series.compute) == (ms(*[100.0] * 10), [], [])


def test_first_warm_up_and_samples_are_told_apart_exactly() -> None:
    series, time = run([900, 300, 200, 100, 100, 100, 11, 12, 13], Rule(budget_s=1e9, max_samples=3))
    assert series.first == pytest.approx(900)
    assert series.warmup == ms(300, 200, 100, 100, 100)
    assert series.samples == ms(11, 12, 13)
    assert series.steady
    assert time.steps == 9


def test_time_between_steps_is_in_no_sample() -> None:
    time = Time(now_s=5.0)
    series = measure(time.step, LONG, time.clock, lambda _: time.spend(3.0))
    assert series.samples == ms(*[100] * 10)
    assert series.warmup == ms(100, 100, 100)
    assert series.first == pytest.approx(100)


# Warm-up


def test_warm_up_ends_after_two_inferences_in_a_row_that_gain_no_more_than_2_percent() -> None:
    series, _ = run(chain([100, 98.5, 98.1], repeat(98.0)))
    assert series.warmup == ms(98.5, 98.1, 98.0)


def test_the_cold_first_inference_is_not_what_warm_up_is_compared_with() -> None:
    series, _ = run(chain([10], [100, 90], repeat(80.0)))
    assert series.warmup == ms(100, 90, 80, 80, 80)


def test_one_inference_that_gains_nothing_is_enough_where_it_takes_a_second() -> None:
    for each, count in ((999.0, 3), (1000.0, 2)):
        series, _ = run(repeat(each))
        assert (len(series.warmup), series.steady) == (count, True)


def test_one_gain_starts_the_count_again() -> None:
    series, _ = run(chain([100, 100, 90, 90, 80, 80, 80], repeat(80)))
    assert series.warmup == ms(100, 90, 90, 80, 80, 80)
    assert series.steady


def test_the_gain_is_over_the_fastest_so_far_and_not_over_the_last() -> None:
    series, _ = run(chain([100, 100, 200, 150], repeat(50.0)))
    assert series.warmup == ms(100, 200, 150)


def test_warm_up_takes_no_more_than_its_share_of_the_budget() -> None:
    faster = [1000 * 0.95**i for i in range(1000)]
    series, _ = run(faster, Rule(budget_s=20, warm_up_share=0.25, max_samples=3))
    spent = sum(series.warmup) / 1e3
    assert 5 <= spent < 5 + series.warmup[-1] / 1e3
    assert not series.steady


def test_the_first_inference_is_spent_from_no_budget() -> None:
    """It may compile for minutes, which is no reason to warm up less."""
    series, _ = run(chain([600_000, 300, 200], repeat(100.0)), Rule(budget_s=4, margin=0))
    assert series.warmup == ms(300, 200, 100, 100, 100)
    assert series.steady
    assert len(series.samples) == pytest.approx(32, abs=1)


def test_steady_is_said_where_the_latency_settles_as_the_share_ends() -> None:
    series, _ = run(repeat(1000.0), Rule(budget_s=8, warm_up_share=0.25))
    assert len(series.warmup) == 2
    assert series.steady


def test_an_inference_longer_than_the_budget_is_still_warmed_up_twice() -> None:
    series, _ = run([60_000.0 * 0.9**i for i in range(9)], Rule(budget_s=10))
    assert len(series.warmup) == 2
    assert not series.steady


# Samples


@pytest.mark.parametrize("min_samples", [1, 3, 5])
def test_fewest_samples_are_taken_even_where_the_budget_is_spent(min_samples: int) -> None:
    series, _ = run(repeat(60_000.0), Rule(budget_s=10, min_samples=min_samples))
    assert len(series.samples) == min_samples


def test_sampling_ends_with_the_budget_which_warm_up_is_part_of() -> None:
    noisy = chain.from_iterable(repeat((1000.0, 1100.0)))
    series, time = run(chain([1000.0], noisy), Rule(budget_s=30))
    assert 30 <= time.now_s - series.first / 1e3 < 31.1
    assert sum(series.warmup + series.samples) / 1e3 == pytest.approx(time.now_s - series.first / 1e3)


def test_sampling_ends_at_the_margin() -> None:
    """Half the interval of 8 equal samples is 0: no need to go on. Of 4 there is no interval."""
    series, _ = run(repeat(100.0), Rule(budget_s=1000, min_time_s=0.5))
    assert len(series.samples) == 8


@pytest.mark.parametrize(("spread_ms", "samples"), [(0.9, 8), (1.1, 2000)])
def test_the_margin_is_half_the_interval_as_a_share_of_the_median(spread_ms: float, samples: int) -> None:
    """Two levels in turn: half the interval is half their distance, here 0.45 % and 0.55 %."""
    levels = chain.from_iterable(repeat((100.0 - spread_ms / 2, 100.0 + spread_ms / 2)))
    series, _ = run(levels, Rule(budget_s=1e6, max_samples=2000, margin=0.005))
    assert len(series.samples) == samples


def test_a_narrow_interval_ends_nothing_before_the_least_time() -> None:
    series, _ = run(repeat(10.0), Rule(budget_s=1000, min_time_s=0.5))
    assert len(series.samples) == 64  # 0.5 s is 50 samples; looked at 64
    assert sum(series.samples) >= 500


def test_no_more_than_the_most_samples() -> None:
    series, _ = run(repeat(0.001), Rule(budget_s=1e9, min_time_s=1e9))
    assert len(series.samples) == 5000


# Progress


def test_progress_is_told_of_every_warm_up_and_sample() -> None:
    seen: list[tuple[int, int]] = []
    run(repeat(100.0), LONG, lambda series: seen.append((len(series.warmup), len(series.samples))))
    assert seen == [(1, 0), (2, 0), (3, 0), *((3, n) for n in range(1, 11))]


def test_time_spent_in_progress_is_spent_from_the_budget() -> None:
    """The budget is the user's waiting time; what is shown meanwhile is part of it, but of no sample."""
    time = Time()
    rule = Rule(budget_s=10, margin=0)
    series = measure(time.step, rule, time.clock, lambda _: time.spend(0.9))
    assert 10 <= time.now_s - 0.1 < 11
    assert series.samples == ms(*[100] * len(series.samples))
    assert len(series.samples) < 10


def test_what_a_step_raises_gets_through() -> None:
    def step() -> None:
        raise RuntimeError("kernel failed")

    with pytest.raises(RuntimeError, match="kernel failed"):
        measure(step, LONG, Time().clock)


def test_the_real_clock_counts_milliseconds() -> None:
    from time import sleep

    series = measure(lambda: sleep(0.02), Rule(budget_s=0.2, max_samples=5))
    assert all(20 <= sample < 2000 for sample in series.samples)

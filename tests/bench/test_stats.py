"""Percentiles, intervals and instability by their promises: coverage over many draws, numpy and scipy beside them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench import stats
from bench.stats import Disturbance

CALM = Disturbance(steal_share=0.0, foreign_share=0.01, machine_change=-0.02)
UNKNOWN = Disturbance(None, None, None)
QUIET = [[100.0, 100.2, 99.9, 100.1, 100.0, 99.8, 100.1]] * 2 + [[100.3, 100.1, 100.2, 100.0, 100.4, 100.2, 100.1]]


def hierarchical(
    random: np.random.Generator, processes: int, samples: int = 15, between: float = 0.05, within: float = 0.003
) -> list[list[float]]:
    """Latencies around 100 ms: each process has its own level, and its samples agree far better with each other."""
    levels = 100 * (1 + between * random.standard_normal(processes))
    return [list(level * (1 + within * random.standard_normal(samples))) for level in levels]


# Percentiles


@pytest.mark.parametrize(("percent", "needed"), [(90, 100), (95, 200), (99, 1000)])
def test_percentile_is_shown_only_with_ten_samples_beyond_it(percent: int, needed: int) -> None:
    samples = [float(i) for i in range(needed)]
    assert stats.percentile(samples[:-1], percent) is None
    assert stats.percentile(samples, percent) is not None


@pytest.mark.parametrize("count", [1000, 1001, 1337])
@pytest.mark.parametrize("percent", [50, 90, 95, 99])
def test_percentile_is_numpys_linear_interpolation(percent: int, count: int) -> None:
    samples = np.random.default_rng(count).lognormal(size=count)
    assert stats.percentile(list(samples), percent) == pytest.approx(np.percentile(samples, percent), rel=1e-12)


def test_percentile_leaves_the_samples_in_their_order() -> None:
    samples = [float(i) for i in range(200, 0, -1)]
    stats.percentile(samples, 90)
    assert samples[0] == 200


# Order statistics


@pytest.mark.parametrize(
    ("count", "low"),
    # The largest k with 2 * P(Binomial(n, 1/2) < k) <= 5 %, as in the tables of the sign test.
    list(enumerate((1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 6), start=6)),
)
def test_order_interval_takes_the_samples_of_the_binomial_tables(count: int, low: int) -> None:
    samples = [float(i) for i in range(1, count + 1)]
    np.random.default_rng(0).shuffle(samples)
    assert stats.order_interval(samples) == (low, count + 1 - low)


@pytest.mark.parametrize("count", [6, 23, 100, 1023, 1100, 2000])
def test_order_interval_is_the_narrowest_that_keeps_95_percent(count: int) -> None:
    interval = stats.order_interval([float(i) for i in range(1, count + 1)])
    assert interval is not None
    outside = scipy_stats.binom.cdf(interval[0] - 1, count, 0.5)
    assert 2 * outside <= 0.05 < 2 * scipy_stats.binom.cdf(interval[0], count, 0.5)
    assert interval[0] + interval[1] == count + 1


@pytest.mark.parametrize("count", range(6))
def test_no_order_interval_below_six_samples(count: int) -> None:
    assert stats.order_interval([1.0] * count) is None


@pytest.mark.parametrize("count", [6, 12, 25, 60])
@pytest.mark.parametrize("shape", ["exponential", "lognormal", "two levels", "ties"])
def test_order_interval_holds_the_true_median_as_often_as_claimed(shape: str, count: int) -> None:
    random = np.random.default_rng(len(shape) * 100 + count)
    draws = {
        "exponential": lambda: (random.exponential(size=count), math.log(2)),
        "lognormal": lambda: (random.lognormal(sigma=2, size=count), 1.0),
        "two levels": lambda: (
            np.where(random.random(count) < 0.6, random.random(count), 50 + random.random(count)),
            5 / 6,
        ),
        "ties": lambda: (np.round(random.exponential(size=count), 1), 0.7),
    }[shape]
    held = 0
    for _ in range(800):
        samples, truth = draws()
        low, high = stats.order_interval(list(samples)) or (math.inf, -math.inf)
        held += low <= truth <= high
    # Three standard deviations of the count below 95 %; the interval may be wider than asked, since n is small.
    assert held / 800 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 800)


def test_order_interval_is_no_wider_than_needed() -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(1500):
        low, high = stats.order_interval(list(random.exponential(size=60))) or (math.inf, -math.inf)
        held += low <= math.log(2) <= high
    assert held / 1500 <= 0.985


def test_a_look_at_thousands_of_samples_takes_no_longer_than_a_few_sorts() -> None:
    """`measure` looks while a case is under way: half a second of idling there changes what comes after."""
    samples = list(np.random.default_rng(0).random(4096))
    times = []
    for _ in range(3):
        start = time.process_time()
        stats.order_interval(samples)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


# Intervals over processes


@pytest.mark.parametrize("processes", [3, 5])
def test_median_interval_holds_the_true_median_in_95_percent(processes: int) -> None:
    random = np.random.default_rng(processes)
    held = 0
    for _ in range(1000):
        low, high = stats.median_interval(hierarchical(random, processes)) or (math.inf, -math.inf)
        held += low <= 100 <= high
    assert held / 1000 >= 0.93


def test_samples_of_one_process_alone_would_not_hold_it() -> None:
    """Why the process is the unit: the test above can fail."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        pooled = [s for samples in hierarchical(random, 3) for s in samples]
        low, high = stats.order_interval(pooled) or (math.inf, -math.inf)
        held += low <= 100 <= high
    assert held / 300 < 0.8


@pytest.mark.parametrize("processes", [3, 5])
def test_two_runs_of_the_same_case_overlap_in_95_percent(processes: int) -> None:
    random = np.random.default_rng(10 + processes)
    overlaps = 0
    for _ in range(600):
        a = stats.median_interval(hierarchical(random, processes)) or (0.0, 0.0)
        b = stats.median_interval(hierarchical(random, processes)) or (0.0, 0.0)
        overlaps += a[0] <= b[1] and b[0] <= a[1]
    assert overlaps / 600 >= 0.95


@pytest.mark.parametrize("processes", [2, 3, 5, 10])
def test_median_interval_is_scipys_student_t_united_with_the_range_of_the_medians(processes: int) -> None:
    samples = hierarchical(np.random.default_rng(processes), processes, samples=9)
    medians = [float(np.median(s)) for s in samples]
    expected = scipy_stats.t.interval(0.95, processes - 1, loc=np.mean(medians), scale=scipy_stats.sem(medians))
    united = min(expected[0], *medians), max(expected[1], *medians)
    assert stats.median_interval(samples) == pytest.approx(united, rel=1e-9)


def test_median_interval_holds_the_median_of_two_modes_from_five_processes_on() -> None:
    """Processes are fast or slow by the toss of a coin; the true median lies anywhere between the modes."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        modes = rng.choice([10.0, 11.25], 5) * rng.normal(1, 0.003, 5)
        low, high = stats.median_interval([[mode] * 9 for mode in modes]) or (0.0, 0.0)
        held.append(low <= 10.625 <= high)
    assert np.mean(held) >= 0.93


def test_a_disturbed_process_counts_once_however_many_samples_it_took() -> None:
    """Quiet processes stop early; a disturbed one runs to its budget and would outvote them in a pooled median."""
    processes = [[10.0] * 16, [10.02] * 16, [10.5] * 512]
    assert stats.central(processes) == 10.02
    assert stats.summarise(processes)["p50"] == 10.02


def test_median_interval_contains_the_median_that_is_shown() -> None:
    for medians in ([10.0, 10.1, 14.0], [10.0] * 4 + [10.5], [10.0, 10.0, 10.0]):
        processes = [[value] * 3 for value in medians]
        low, high = stats.median_interval(processes) or (math.inf, -math.inf)
        assert low <= stats.central(processes) <= high


def test_median_interval_has_no_negative_end() -> None:
    low, high = stats.median_interval([[1.0], [9.0]]) or (-1.0, 0.0)
    assert low == 0
    assert high > 9


def test_one_process_gives_the_interval_of_its_samples() -> None:
    samples = [5.0, 1.0, 3.0, 2.0, 4.0, 6.0, 7.0]
    assert stats.median_interval([samples]) == stats.order_interval(samples) == (1.0, 7.0)
    assert stats.median_interval([samples, []]) == (1.0, 7.0)
    assert stats.median_interval([[1.0, 2.0]]) is None
    assert stats.median_interval([]) is None


def test_half_width_share() -> None:
    assert stats.half_width_share((9.0, 11.0), 10.0) == pytest.approx(0.1)
    assert stats.half_width_share(None, 10.0) == math.inf
    assert stats.half_width_share((0.0, 0.0), 0.0) == math.inf


# Summaries


def test_summary_has_the_figures_of_the_runs_file() -> None:
    found = stats.summarise([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    assert list(found) == ["p50", "p90", "p95", "p99", "ci95", "ci95_of"]
    assert found["p50"] == 2.5
    assert (found["p90"], found["p95"], found["p99"]) == (None, None, None)
    assert found["ci95"] == list(stats.median_interval([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]) or ())
    assert found["ci95_of"] == "median over processes"


def test_summary_of_one_process_says_so() -> None:
    found = stats.summarise([[float(i) for i in range(1000)]])
    assert found["ci95_of"] == "median within one process"
    assert found["p99"] == pytest.approx(989.01)
    assert stats.summarise([[1.0, 2.0, 3.0]])["ci95"] is None


def test_percentiles_of_a_summary_are_those_of_all_processes() -> None:
    first, second = [1.0] * 60, [3.0] * 60
    assert stats.summarise([first, second])["p90"] == 3.0


# Instability


def test_calm_data_are_called_stable() -> None:
    assert stats.instability(QUIET, CALM) == []
    assert stats.instability(QUIET, UNKNOWN) == []


@pytest.mark.parametrize(
    ("processes", "seen", "words"),
    [
        ([[100.0] * 3], UNKNOWN, "too few samples for an interval"),
        ([[100.0] * 7, [120.0] * 7, [140.0] * 7], UNKNOWN, "the interval is ±41% of the median"),
        ([*QUIET[:2], [100, 100, 102, 103, 106, 106]], CALM, "samples drift by 6% within a process"),
        ([*QUIET[:2], [106, 106, 103, 102, 100, 100]], CALM, "samples drift by 6% within a process"),
        (QUIET, Disturbance(0.03, 0.0, 0.0), "the hypervisor took 3% of the processor time"),
        (QUIET, Disturbance(0.0, 0.11, 0.0), "other programs used 11% of the processor time"),
        (QUIET, Disturbance(0.0, 0.0, -0.12), "matrix-product rate changed by -12% during the case"),
        (QUIET, Disturbance(0.0, 0.0, 0.12), "matrix-product rate changed by +12% during the case"),
    ],
)
def test_each_disturbance_alone_is_named(processes: list[Sequence[float]], seen: Disturbance, words: str) -> None:
    reasons = stats.instability(processes, seen)
    assert len(reasons) == 1
    assert words in reasons[0]


@pytest.mark.parametrize("seen", [Disturbance(0.02, 0.1, -0.1), Disturbance(0.0, 0.0, 0.1)])
def test_what_only_reaches_a_limit_is_not_named(seen: Disturbance) -> None:
    assert stats.instability(QUIET, seen) == []


def test_drift_is_not_asked_of_fewer_than_six_samples() -> None:
    assert stats.instability([*QUIET[:2], [99.0, 99.5, 100.0, 100.5, 106.0]], CALM) == []


def test_all_disturbances_together_are_all_named() -> None:
    processes = [[100.0, 100, 100, 150, 150, 150], [200.0] * 6, [300.0] * 6]
    assert len(stats.instability(processes, Disturbance(0.5, 0.5, -0.5))) == 5

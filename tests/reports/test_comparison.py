"""Like with like, and a verdict only where the numbers carry one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from reports.comparison import Ratio, compare_rows, ratio_of, verdict_of
from reports.figures import quality
from reports.row import Row, row_from_run

Make = Callable[..., dict[str, Any]]


def row(make_run: Make, name: str, ms: float, **changes: Any) -> Row:
    return row_from_run(make_run(name, ms, **changes))


def with_medians(make_run: Make, name: str, medians: list[float]) -> Row:
    run = make_run(name)
    run["latency_ms"] |= {"samples": [[m] for m in medians], "p50": float(np.median(medians))}
    return row_from_run(run)


def test_the_interval_is_welchs_on_logarithms(make_run: Make) -> None:
    a, b = [10.0, 11.0, 10.4, 9.7], [13.0, 12.1, 12.9]
    expected = ttest_ind(np.log(b), np.log(a), equal_var=False).confidence_interval(0.95)
    found = ratio_of(with_medians(make_run, "a", a), with_medians(make_run, "b", b))
    assert found.interval == pytest.approx(tuple(np.exp(expected)))
    assert found.value == pytest.approx(12.9 / 10.2)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says(make_run: Make) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        a, b = (list(scale * np.exp(rng.normal(0, spread, n))) for scale, spread, n in ((10, 0.03, 3), (12, 0.08, 5)))
        interval = ratio_of(with_medians(make_run, "a", a), with_medians(make_run, "b", b)).interval
        assert interval is not None
        held += interval[0] <= 1.2 <= interval[1]
    assert held / 400 >= 0.93


def test_one_process_on_a_side_gives_no_interval_and_no_verdict(make_run: Make) -> None:
    one, three = with_medians(make_run, "a", [10.0]), with_medians(make_run, "b", [30.0, 30.1, 30.2])
    assert ratio_of(one, three).interval is None
    (pair,) = compare_rows([one], [three]).pairs
    assert pair.verdict == "inconclusive"
    assert "there are 1 and 3" in pair.why


def test_processes_that_agree_exactly_give_a_point(make_run: Make) -> None:
    ten, twenty = (with_medians(make_run, name, [ms, ms]) for name, ms in (("a", 10.0), ("b", 20.0)))
    assert ratio_of(ten, twenty).interval == pytest.approx((2, 2))


@pytest.mark.parametrize(
    ("value", "interval", "verdict", "of_unstable"),
    [
        (1.0, (0.98, 1.02), "same", "inconclusive"),
        (1.1, (1.06, 1.14), "slower", "slower"),
        (1.1, (1.01, 1.2), "slower", "inconclusive"),
        (1.1, (0.99, 1.2), "inconclusive", "inconclusive"),
        (1.04, (1.01, 1.08), "inconclusive", "inconclusive"),
        (1 / 1.1, (1 / 1.14, 1 / 1.06), "faster", "faster"),
        (1 / 1.1, (1 / 1.2, 1 / 1.01), "faster", "inconclusive"),
        (0.9, (0.8, 1.01), "inconclusive", "inconclusive"),
        (1.05, (1 / 1.05, 1.05), "same", "inconclusive"),
        (9.0, None, "inconclusive", "inconclusive"),
    ],
)
def test_verdicts(value: float, interval: tuple[float, float] | None, verdict: str, of_unstable: str) -> None:
    assert verdict_of(Ratio(value, interval), 0.05) == verdict
    assert verdict_of(Ratio(value, interval), 0.05, unstable=True) == of_unstable


def test_verdicts_are_the_same_from_both_sides() -> None:
    turned = {"faster": "slower", "slower": "faster", "same": "same", "inconclusive": "inconclusive"}
    for value in np.exp(np.linspace(-0.3, 0.3, 31)):
        for half in (0.01, 0.04, 0.2):
            there = Ratio(value, (value * math.exp(-half), value * math.exp(half)))
            back = Ratio(1 / value, (math.exp(-half) / value, math.exp(half) / value))
            assert verdict_of(back, 0.05) == turned[verdict_of(there, 0.05)]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "can32"}, {"weights_sha256": "cd"}, {"trained": False}, {"resolution": "1080p"},
        {"output_shape": [1, 3, 1440, 2560]}, {"tile": "512"}, {"statistics": "frozen"}, {"device": "cuda:0"},
    ],
)  # fmt: skip
def test_only_like_cases_are_paired(make_run: Make, change: dict[str, Any]) -> None:
    """The second row of each side keeps the changed choice from being what the sides differ in as a whole."""
    mixed = dict.fromkeys(("variant", "precision", "statistics", "tile", "device"), "other")
    a = [row(make_run, "a", 10), row(make_run, "a2", 10, case=mixed)]
    b = [row(make_run, "b", 10, case=change), row(make_run, "b2", 10, case=mixed | {"model": "unlike"})]
    found = compare_rows(a, b)
    assert not found.pairs
    assert all("no like case" in reason for side in found.unmatched for _, reason in side)


def test_what_both_sides_chose_differently_is_what_is_compared(make_run: Make) -> None:
    a = [row(make_run, f"a{p}", 10, case={"precision": p}) for p in ("fp32", "bf16")]
    b = [
        row(make_run, f"b{p}", 5, case={"precision": p, "engine": "openvino", "variant": "openvino"})
        for p in ("fp32", "bf16")
    ]
    found = compare_rows(a, b)
    assert found.compared == [("variant", "onnxruntime", "openvino")]
    assert [(pair.a.precision, pair.b.precision, pair.verdict) for pair in found.pairs] == [
        ("bf16", "bf16", "faster"), ("fp32", "fp32", "faster"),
    ]  # fmt: skip


def test_different_machines_are_not_judged_unless_asked(make_run: Make) -> None:
    a, b = [row(make_run, "a", 10)], [row(make_run, "b", 30, machine={"cpu": "Other CPU"})]
    found = compare_rows(a, b)
    assert found.counts == {"not judged": 1}
    assert found.pairs[0].why == "measured on different machines"
    assert ("machine: cpu", "Some CPU", "Other CPU") in found.differences
    assert compare_rows(a, b, across_machines=True).counts == {"slower": 1}


def test_another_contract_is_another_quantity(make_run: Make) -> None:
    found = compare_rows(
        [row(make_run, "a", 10)], [row(make_run, "b", 10, contract={"threads": 4})], across_machines=True
    )
    assert found.pairs[0].verdict == "not judged"
    assert "threads 8 → 4" in found.pairs[0].why


def test_what_differs_is_told_of_the_compared_rows_only(make_run: Make) -> None:
    a = [row(make_run, "a", 10), row(make_run, "old", 10, case={"model": "x"}, versions={"torch": "1"})]
    b = [row(make_run, "b", 10, versions={"torch": "2.14.0"}, commit="fedc")]
    assert compare_rows(a, b).differences == [
        ("versions: torch", "2.13.0", "2.14.0"),
        ("commit", "0123456789abcdef", "fedc"),
    ]


def test_every_row_is_in_a_pair_or_has_a_reason(make_run: Make) -> None:
    same = row(make_run, "s", 10, case={"model": "can32"})
    a = [row(make_run, "a", 10), row(make_run, "a0", 9, time="2020-01-01"), same]
    case = {"model": "new"}
    failed = row(make_run, "f", status="failed", reason="no memory", ms=1.0, latency_ms=None, case=case)
    b = [row(make_run, "b", 10), same, failed]
    found = compare_rows(a, b)
    reasons = [{r.id: why for r, why in side} for side in found.unmatched]
    assert [(p.a.id, p.b.id) for p in found.pairs] == [("a", "b")]
    assert reasons[0] == {
        "a0": "a later run of the same case stands in its place",
        "s": "the same run is on both sides",
    }
    assert reasons[1] == {"s": "the same run is on both sides", "f": "failed: no memory"}


def test_unstable_rows_need_a_larger_difference(make_run: Make) -> None:
    a = row(make_run, "a", 100, spread=0.02)
    assert compare_rows([a], [row(make_run, "b", 107, spread=0.02)]).counts == {"slower": 1}
    found = compare_rows([a], [row(make_run, "b", 107, spread=0.02, unstable=["noise"])])
    assert found.counts == {"inconclusive": 1}
    assert found.pairs[0].why == "one side is unstable"
    assert compare_rows([a], [row(make_run, "b", 140, spread=0.02, unstable=["noise"])]).counts == {"slower": 1}


def test_the_newest_run_counts_even_where_it_failed(make_run: Make) -> None:
    old = row(make_run, "old", 5, time="2026-01-01")
    new = row(make_run, "new", 1.0, time="2026-02-01", status="failed", reason="no memory", latency_ms=None)
    found = compare_rows([row(make_run, "a", 10)], [old, new])
    assert [(p.b.id, p.ratio, p.verdict, p.why) for p in found.pairs] == [
        ("new", None, "failed", "B failed: no memory")
    ]
    assert found.counts == {"failed": 1}
    assert found.faults(45) == {"failed": 1}
    assert [why for _, why in found.unmatched[1]] == ["a later run of the same case stands in its place"]
    turned = compare_rows([old, new], [row(make_run, "a", 10)])
    assert (turned.counts, turned.faults(45)) == ({"not judged": 1}, {})
    skipped = row(make_run, "s", 1.0, time="2026-03-01", status="skipped", reason="x", latency_ms=None)
    assert compare_rows([row(make_run, "a", 10)], [old, skipped]).pairs[0].b is old


def test_a_latency_within_one_process_gives_no_verdict(make_run: Make) -> None:
    one = row(make_run, "b", 30, latency_ms={"ci95_of": "median within one process", "p50": 30.0})
    (pair,) = compare_rows([row(make_run, "a", 10)], [one]).pairs
    assert (pair.verdict, pair.ratio and pair.ratio.interval) == ("inconclusive", None)
    assert "there are 3 and 1" in pair.why


@pytest.mark.parametrize("ms", [1e299, 5e-324])
def test_a_latency_that_cannot_be_is_not_judged(make_run: Make, ms: float) -> None:
    b = row(make_run, "b", ms, spread=0, throughput_fps=1.0, work={"gflop_per_s": 1.0})
    (pair,) = compare_rows([row(make_run, "a", 10)], [b]).pairs
    assert (pair.verdict, pair.ratio) == ("not judged", None)
    assert "latency_ms.p50" in pair.why


def test_other_input_pictures_are_a_difference(make_run: Make) -> None:
    a, b = [row(make_run, "a", 10)], [row(make_run, "b", 10, pictures=["other.png"])]
    assert ("input pictures", "coffee.png", "other.png") in compare_rows(a, b).differences
    assert quality(compare_rows(a, b).pairs[0]) == "other pictures"
    digests = [row(make_run, n, 10, pictures_sha256=[n * 64]) for n in "ab"]
    assert not digests[0].same_pictures(digests[1])
    assert digests[0].same_pictures(a[0])

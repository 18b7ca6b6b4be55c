"""Like with like, and a verdict only where the numbers carry one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench import gate
from bench.rules import parse_rules
from reports.comparison import compare_rows
from reports.figures import quality
from reports.row import Row, row_from_run

Make = Callable[..., dict[str, Any]]


def row(make_run: Make, name: str, ms: float, **changes: Any) -> Row:
    return row_from_run(make_run(name, ms, **changes))


def with_medians(make_run: Make, name: str, medians: list[float], **changes: Any) -> Row:
    run = make_run(name, **changes)
    run["latency_ms"] |= {"samples": [[m] for m in medians], "p50": float(np.median(medians))}
    return row_from_run(run)


def drawn(rng: np.random.Generator, count: int, factor: float) -> list[float]:
    """Medians of processes that differ by 4 %."""
    return [float(factor * 100 * v) for v in np.exp(rng.normal(0, 0.04, count))]


def in_a_way(make_run: Make, side: str, ms: float, way: str) -> Row:
    run = make_run(f"{side} {way}", ms)
    return row_from_run(run | {"contract": {**run["contract"], "way": way}})


def test_two_ways_of_use_are_two_cases_and_never_compared(make_run: Make) -> None:
    sides = [
        [in_a_way(make_run, side, 100.0, "back to back"), in_a_way(make_run, side, 50.0, "30 fps")] for side in "ab"
    ]
    pairs = compare_rows(*sides).pairs
    assert sorted(pair.a.contract["way"] for pair in pairs) == ["30 fps", "back to back"]
    assert all(pair.a.contract["way"] == pair.b.contract["way"] for pair in pairs)
    assert not compare_rows(sides[0][:1], sides[1][1:]).pairs


@pytest.mark.parametrize("unstable", [[], ["noise"]])
@pytest.mark.parametrize("rate", [30.0, 20.0, 35.0])
def test_the_verdict_is_the_gates(make_run: Make, unstable: list[str], rate: float) -> None:
    """Runs of three to six processes, disturbed or not, on a machine that drifted or not."""
    words = {"worse": "slower", "better": "faster"}
    seen = set()
    rng = np.random.default_rng(11)
    rule = parse_rules(["latency:5%"], [])
    for _ in range(60):
        factor = float(rng.choice([0.8, 0.95, 1, 1.05, 1.25]))
        a = with_medians(make_run, "a", drawn(rng, int(rng.integers(3, 7)), 1), machine_gflop_s=[30.0])
        b = with_medians(make_run, "b", drawn(rng, 5, factor), machine_gflop_s=[rate], unstable=unstable)
        (outcome,) = gate.judge_runs([a.run], [b.run], rule).outcomes
        (pair,) = compare_rows([a], [b]).pairs
        assert pair.verdict == words.get(outcome.verdict, outcome.verdict)
        assert pair.ratio is not None
        assert pair.ratio.value - 1 == pytest.approx(outcome.change)
        seen.add(pair.verdict)
    assert len(seen) >= 2


def test_a_machine_that_slowed_down_makes_no_case_slower(make_run: Make) -> None:
    medians = [100.0, 101.0, 102.0, 103.0, 104.0]
    a = with_medians(make_run, "a", medians, machine_gflop_s=[200.0, 198.0])
    slow = [median * 1.2 for median in medians]
    b = with_medians(make_run, "b", slow, machine_gflop_s=[160.0, 164.0])
    (pair,) = compare_rows([a], [b]).pairs
    assert (pair.verdict, "the machine's own rate changed by -19% from A to B" in pair.why) == ("inconclusive", True)
    (same_rate,) = compare_rows([a], [with_medians(make_run, "c", slow, machine_gflop_s=[200.0])]).pairs
    assert same_rate.verdict == "slower"


@pytest.mark.parametrize(
    "apart", [{"machine": {"isa": ["avx2"]}}, {"contract": {"streams": 2}}, {"machine": {"virtualised": True}}]
)
def test_what_the_gate_refuses_is_not_judged(make_run: Make, apart: dict[str, Any]) -> None:
    a = make_run("a", 10, machine={"isa": ["avx2", "avx512f"]}, contract={"streams": 1})
    b = make_run("b", 30, **{"machine": {"isa": ["avx2", "avx512f"]}, "contract": {"streams": 1}, **apart})
    assert gate.judge_runs([a], [b], parse_rules([], [])).verdict == "could not measure"
    assert compare_rows([row_from_run(a)], [row_from_run(b)]).counts == {"not judged": 1}


def test_few_processes_give_no_interval_and_no_verdict(make_run: Make) -> None:
    for a, b, said in (([10.0], [30.0, 30.1, 30.2], "1 and 3"), ([10.0, 10.1, 10.2], [30.0] * 3, "3 and 3")):
        (pair,) = compare_rows([with_medians(make_run, "a", a)], [with_medians(make_run, "b", b)]).pairs
        assert (pair.verdict, pair.ratio and pair.ratio.interval) == ("inconclusive", None)
        assert said in pair.why


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
    assert found.pairs[0].why == "interval widened 2 times: B unstable (noise)"
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

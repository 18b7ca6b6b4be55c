"""The gate: every verdict and exit code, and that nothing missing, empty or disturbed is ever green."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.gate import Gate, Terms, judge_runs
from bench.rules import parse_rules
from reference_models.errors import UserError

Make = Callable[..., dict[str, Any]]
LATENCY = parse_rules(["latency:5%"], [])


def gate(a: list[dict[str, Any]], b: list[dict[str, Any]], *words: str, **terms: Any) -> Gate:
    minima = [w for w in words if w.startswith(("psnr", "ssim"))]
    rules = parse_rules([w for w in words if w not in minima], minima) if words else LATENCY
    return judge_runs(a, b, rules, terms=Terms(**terms))


# Latency


@pytest.mark.parametrize(
    ("ms", "verdict", "code"),
    [(100, "same", 0), (103, "same", 0), (108, "worse", 3), (92, "better", 0), (104.8, "inconclusive", 4)],
)
def test_latency(gate_run: Make, ms: float, verdict: str, code: int) -> None:
    found = gate([gate_run("a")], [gate_run("b", ms)])
    (outcome,) = found.outcomes
    assert (outcome.verdict, found.verdict, found.exit_code) == (verdict, verdict, code)
    assert (outcome.baseline, outcome.candidate) == (100, ms)
    assert outcome.change == pytest.approx(ms / 100 - 1, abs=2e-3)
    assert outcome.interval is not None
    assert outcome.interval[0] < outcome.change < outcome.interval[1]


def test_a_margin_in_ms_is_one_of_the_baseline(gate_run: Make) -> None:
    assert gate([gate_run("a")], [gate_run("b", 108)], "latency:10ms").exit_code == 0
    assert gate([gate_run("a")], [gate_run("b", 108)], "latency:5ms").exit_code == 3


@pytest.mark.parametrize(("a", "b"), [(1, 5), (5, 1), (3, 3), (2, 9)])
def test_too_few_processes_give_no_verdict_however_far_apart(gate_run: Make, a: int, b: int) -> None:
    found = gate([gate_run("a", processes=a)], [gate_run("b", 500, processes=b)])
    assert (found.verdict, found.exit_code) == ("inconclusive", 4)
    assert f"{a} and {b} processes" in found.outcomes[0].why
    assert "--processes" in found.outcomes[0].why


def test_one_process_with_a_thousand_samples_is_still_one(gate_run: Make) -> None:
    a, b = (
        gate_run("a", latency_ms={"samples": [[100.0] * 1000]}),
        gate_run("b", latency_ms={"samples": [[200.0] * 1000]}),
    )
    assert gate([a], [b]).exit_code == 4


def test_an_unstable_row_is_widened_and_says_so(gate_run: Make) -> None:
    wild = [104.0, 107, 106, 110, 108]
    b = gate_run("b", 107, latency_ms={"samples": [[m] for m in wild], "p50": 107})
    assert gate([gate_run("a")], [b]).exit_code == 3
    found = gate([gate_run("a")], [b | {"unstable": ["other programs used 40%"]}])
    assert found.exit_code == 4
    assert "candidate unstable (other programs used 40%)" in found.outcomes[0].why


def test_processes_that_took_turns_share_what_disturbed_them(gate_run: Make) -> None:
    b = gate_run("b", 108, unstable=["other programs used 40%"], machine_gflop_s=[500.0])
    found = gate([gate_run("a")], [b], interleaved=True)
    assert (found.exit_code, found.outcomes[0].why) == (3, "")


def test_a_machine_that_slowed_down_between_the_sides_is_no_regression(gate_run: Make) -> None:
    found = gate([gate_run("a")], [gate_run("b", 110, machine_gflop_s=[720.0, 730.0])])
    assert found.exit_code == 4
    assert "-9%" in found.outcomes[0].why
    assert gate([gate_run("a")], [gate_run("b", 130, machine_gflop_s=[720.0])]).exit_code == 3
    assert gate([gate_run("a")], [gate_run("b", 110, machine_gflop_s=[790.0])]).exit_code == 3


def test_a_machine_that_became_faster_hides_no_slowdown(gate_run: Make) -> None:
    found = gate([gate_run("a")], [gate_run("b", 100, machine_gflop_s=[900.0])])
    assert found.exit_code == 4


def test_of_several_builds_each_counts_once(gate_run: Make) -> None:
    """Ten processes of two builds are two units: too few for a verdict."""
    a, b = (gate_run(n, ms, 10, latency_ms={"builds": [0] * 5 + [1] * 5}) for n, ms in (("a", 100), ("b", 120)))
    for run, ms in ((a, 100), (b, 120)):
        run["latency_ms"]["samples"] = [[ms]] * 10
    found = gate([a], [b])
    assert found.exit_code == 4
    assert "2 and 2 processes" in found.outcomes[0].why


# Nothing missing is green


def test_an_empty_candidate_is_could_not_measure(gate_run: Make) -> None:
    assert gate([gate_run("a")], []).exit_code == 5


def test_an_empty_baseline_judges_nothing(gate_run: Make) -> None:
    found = gate([], [gate_run("b")], "latency:5%")
    assert found.exit_code == 5
    assert {o.verdict for o in found.outcomes} == {"not judged", "could not measure"}


def test_two_empty_files_are_no_pass() -> None:
    assert gate([], []).exit_code == 5
    assert judge_runs([], [], parse_rules([], [])).exit_code == 5


def test_one_row_missing_among_many_is_not_green(gate_run: Make) -> None:
    a = [gate_run(f"a{k}", case={"model": f"m{k}"}) for k in range(5)]
    b = [gate_run(f"b{k}", case={"model": f"m{k}"}) for k in range(5)]
    assert gate(a, b).exit_code == 0
    assert gate(a, b[:4]).exit_code == 5
    for status in ("failed", "skipped"):
        broken = gate(a, [*b[:4], b[4] | {"status": status, "reason": "why", "latency_ms": None}])
        assert broken.exit_code == 5
        assert f"{status} in the candidate: why" in broken.outcomes[0].why


def test_new_rows_are_listed_and_change_nothing(gate_run: Make) -> None:
    found = gate([gate_run("a")], [gate_run("b"), gate_run("c", case={"model": "new"})])
    assert found.exit_code == 0
    assert [(o.verdict, o.why) for o in found.outcomes] == [("same", ""), ("not judged", "not in the baseline")]


def test_a_regression_decides_before_a_missing_row_and_that_before_an_inconclusive_one(gate_run: Make) -> None:
    a = [gate_run(f"a{k}", case={"model": f"m{k}"}) for k in range(3)]
    slower, unclear = (gate_run(f"b{k}", ms, case={"model": f"m{k}"}) for k, ms in ((0, 120), (1, 104.8)))
    assert gate(a, [slower, unclear]).exit_code == 3
    assert gate(a[1:], [unclear]).exit_code == 5
    assert gate(a[:2], [slower, unclear]).exit_code == 3
    assert gate(a[1:2], [unclear]).exit_code == 4


def test_the_same_file_on_both_sides_judges_nothing(gate_run: Make) -> None:
    assert gate([gate_run("a")], [gate_run("a")]).exit_code == 5


def test_another_machine_or_contract_is_could_not_measure(gate_run: Make) -> None:
    assert gate([gate_run("a")], [gate_run("b", machine={"cpu": "Other"})]).exit_code == 5
    assert gate([gate_run("a")], [gate_run("b", contract={"transfers": "in"})]).exit_code == 5


def test_an_asked_for_figure_that_nobody_has_is_not_green_but_a_default_one_is(gate_run: Make) -> None:
    assert gate([gate_run("a")], [gate_run("b")], "latency:5%", "plan_size:5%").exit_code == 5
    assert judge_runs([gate_run("a")], [gate_run("b")], parse_rules([], [])).exit_code == 0


def test_a_figure_that_the_candidate_lost_is_not_green(gate_run: Make) -> None:
    b = gate_run("b", memory={"host_peak_mib": None})
    found = gate([gate_run("a")], [b], "latency:5%", "memory:10%")
    assert found.exit_code == 5
    assert found.outcomes[0].why == "the candidate has no such figure"
    assert gate([b], [gate_run("c")], "memory:10%").exit_code == 5  # nothing judged
    lost = gate([gate_run("a")], [gate_run("b", quality={"vs_reference": None})], "psnr:0.1dB")
    assert lost.exit_code == 5


# Memory and size


@pytest.mark.parametrize(("mib", "verdict"), [(500, "same"), (549, "same"), (551, "worse"), (440, "better")])
def test_memory(gate_run: Make, mib: float, verdict: str) -> None:
    found = gate([gate_run("a")], [gate_run("b", memory={"host_peak_mib": mib})], "memory:10%")
    assert found.outcomes[0].verdict == verdict
    assert found.outcomes[0].change == pytest.approx(mib / 500 - 1)


def test_one_process_that_took_more_memory_is_no_regression(gate_run: Make) -> None:
    each = {"host_peak_mib": 900.0, "host_peak_mib_all": [500.0, 501.0, 900.0, 499.0, 500.0]}
    a = gate_run("a", memory={"host_peak_mib_all": [500.0, 500.0]})
    assert gate([a], [gate_run("b", memory=each)], "memory:10%").exit_code == 0


def test_sizes_in_mib_and_from_nothing(gate_run: Make) -> None:
    a, b = gate_run("a", memory={"plan_mib": 4.0}), gate_run("b", memory={"plan_mib": 6.0})
    assert gate([a], [b], "plan_size:1.9MiB").exit_code == 3
    assert gate([a], [b], "plan_size:2.1MiB").exit_code == 0
    assert gate([gate_run("a", memory={"plan_mib": 0.0})], [b], "plan_size:10%").exit_code == 3


# Quality


def quality(psnr: float | None = 60.0, ssim: float | None = 0.999, **flags: bool) -> dict[str, Any]:
    return {"vs_reference": {"psnr_db": psnr, "ssim": ssim, "identical": False, "finite": True, **flags}}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (quality(60), quality(59.95), "same"),
        (quality(60), quality(59.9), "same"),
        (quality(60), quality(59.89), "worse"),
        (quality(60), quality(61), "better"),
        (quality(None, 1.0, identical=True), quality(140), "same"),
        (quality(None, 1.0, identical=True), quality(90), "worse"),
        (quality(90), quality(None, 1.0, identical=True), "better"),
        (quality(150), quality(130), "same"),
        (quality(60), quality(None, None, finite=False), "worse"),
        (quality(None, None, finite=False), quality(60), "better"),
        (quality(None, None, finite=False), quality(None, None, finite=False), "could not measure"),
    ],
)
def test_psnr(gate_run: Make, before: dict[str, Any], after: dict[str, Any], verdict: str) -> None:
    found = gate([gate_run("a", quality=before)], [gate_run("b", quality=after)], "psnr:0.1dB")
    assert found.outcomes[0].verdict == verdict


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (quality(132.5), quality(130.5), "above 120 dB all are alike"),
        (quality(None, 1.0, identical=True), quality(90), ""),
        (quality(60.0), quality(61.0), ""),
    ],
)
def test_why_a_difference_of_tiny_errors_is_none_is_said(
    gate_run: Make, before: dict[str, Any], after: dict[str, Any], why: str
) -> None:
    (outcome,) = gate([gate_run("a", quality=before)], [gate_run("b", quality=after)], "psnr:0.1dB").outcomes
    assert outcome.why == why


def test_ssim(gate_run: Make) -> None:
    a = gate_run("a")
    assert gate([a], [gate_run("b", quality=quality(60, 0.9981))], "ssim:0.001").exit_code == 0
    assert gate([a], [gate_run("b", quality=quality(60, 0.9979))], "ssim:0.001").exit_code == 3


def test_quality_of_other_pictures_or_conventions_is_not_compared(gate_run: Make) -> None:
    a = gate_run("a")
    pictures = gate([a], [gate_run("b", pictures_sha256=["00"])], "latency:5%", "psnr:0.1dB")
    assert [(o.rule.figure.name, o.verdict) for o in pictures.outcomes if o.rule] == [
        ("psnr", "could not measure"), ("latency", "same"),
    ]  # fmt: skip
    convention = gate_run("b", quality={**quality(), "convention": {"range": 255}})
    assert gate([a], [convention], "psnr:0.1dB").exit_code == 5


def test_a_network_too_small_for_ssim_has_no_verdict_on_it(gate_run: Make) -> None:
    a, b = (gate_run(name, quality=quality(60, None)) for name in "ab")
    assert judge_runs([a], [b], parse_rules([], [])).exit_code == 0


# Across machines


def test_normalised_latencies_are_in_units_of_each_machines_peaks(gate_run: Make) -> None:
    """Twice the peak and half the time is the same; the same time is twice as slow."""
    fast = {"machine": {"cpu": "Fast"}, "work": {"peaks": {"fp32_gflop_s": 2000.0, "copy_gb_s": 60.0}},
            "machine_gflop_s": [1600.0]}  # fmt: skip
    like = gate([gate_run("a")], [gate_run("b", 50, **fast)], "latency:15%", normalise=True)
    assert like.outcomes[0].change == pytest.approx(0, abs=2e-3)
    assert like.exit_code == 0
    assert "may mislead by 10%" in like.outcomes[0].why
    assert gate([gate_run("a")], [gate_run("b", 100, **fast)], "latency:15%", normalise=True).exit_code == 3


def test_normalising_costs_certainty(gate_run: Make) -> None:
    other = gate_run("b", 100, machine={"cpu": "Other"})
    found = gate([gate_run("a")], [other], normalise=True)
    assert found.exit_code == 4
    interval = found.outcomes[0].interval
    assert interval is not None
    assert interval[0] < -0.09
    assert interval[1] > 0.1


def test_without_peaks_nothing_can_be_normalised(gate_run: Make) -> None:
    other = gate_run("b", 100, machine={"cpu": "Other"}, work={"peaks": {"failed": "x"}})
    assert gate([gate_run("a")], [other], normalise=True).exit_code == 5


def test_quantised_networks_are_normalised_by_the_rate_of_eight_bits(gate_run: Make) -> None:
    def run(identifier: str, ms: float, rate: float, cpu: str) -> Any:
        peaks = {"int8_gflop_s": rate, "copy_gb_s": rate}
        return gate_run(
            identifier, ms, case={"precision": "int8+fp16"}, machine={"cpu": cpu}, work={"peaks": peaks},
            machine_gflop_s=[rate],
        )  # fmt: skip

    like = gate([run("a", 100, 1000, "Slow")], [run("b", 50, 2000, "Fast")], "latency:15%", normalise=True)
    assert like.outcomes[0].change == pytest.approx(0, abs=2e-3)


def test_on_one_machine_normalising_changes_nothing(gate_run: Make) -> None:
    pair = [gate_run("a")], [gate_run("b", 108)]
    assert gate(*pair, normalise=True).outcomes == gate(*pair).outcomes


# The whole


def test_what_decides_stands_first_and_all_is_counted(gate_run: Make) -> None:
    a = [gate_run(f"a{k}", case={"model": f"m{k}"}) for k in range(3)]
    b = [gate_run(f"b{k}", ms, case={"model": f"m{k}"}) for k, ms in enumerate((100, 120, 90))]
    found = gate(a, b)
    assert [o.title.split()[0] for o in found.outcomes] == ["m1", "m2", "m0"]
    assert found.counts == {"worse": 1, "better": 1, "same": 1}


def test_a_run_changed_by_hand_is_wrong_use(gate_run: Make) -> None:
    with pytest.raises(UserError, match="candidate"):
        gate([gate_run("a")], [gate_run("b", latency_ms={"samples": None})])
    with pytest.raises(UserError, match="psnr_db"):
        gate([gate_run("a")], [gate_run("b", quality=quality("60"))], "psnr:0.1dB")  # type: ignore[arg-type]


def test_200_gates_between_equal_bimodal_engines_call_at_most_2_regressions(gate_run: Make) -> None:
    """The whole way from stored runs, with the processes of `bench run --processes 5`."""
    rng = np.random.default_rng(7)

    def side(name: str, factor: float) -> dict[str, Any]:
        medians = 20 * factor * np.exp(0.125 * (rng.random(5) < 0.5) + rng.normal(0, 0.003, 5))
        return gate_run(name, float(np.median(medians)), latency_ms={"samples": [[float(m)] for m in medians]})

    codes = [gate([side("a", 1)], [side("b", 1)]).exit_code for _ in range(200)]
    assert codes.count(3) <= 2

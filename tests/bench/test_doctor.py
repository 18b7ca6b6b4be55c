"""The examination: every finding from made-up facts, and once for real."""

from __future__ import annotations

from typing import Any

import pytest

from bench.doctor import Check, conditions, examine, gpu_processes, harness_cost, sampling_effect, stability
from bench.judge import Ratio
from bench.sampling import Cost

CALM: dict[str, float | None] = {"steal_share": 0.0, "foreign_share": 0.01, "wall_s": 1.0}


def facts(**changes: Any) -> dict[str, Any]:
    return {"governor": "performance", "virtualised": False, "cpu_quota": None, **changes}


def by_name(checks: Any) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_calm_machine() -> None:
    found = by_name(conditions(facts(), CALM, 0.1))
    assert found["frequency governor"].good
    assert found["virtual machine"].finding == "no"
    assert found["used by other programs"] == Check("used by other programs", "1.0% of the processor time", True)
    assert found["load average"].good


def test_a_disturbed_machine() -> None:
    load: dict[str, float | None] = {"steal_share": 0.05, "foreign_share": 0.4, "wall_s": 1.0}
    found = by_name(conditions(facts(governor="powersave", virtualised=True, cpu_quota=1.5), load, 99.0))
    assert {name for name, check in found.items() if check.good is False} == {
        "frequency governor", "taken by the hypervisor", "used by other programs", "load average",
    }  # fmt: skip
    assert found["processor quota"].finding == "1.5 cores"


def test_what_the_system_does_not_show_is_neither_good_nor_bad() -> None:
    load: dict[str, float | None] = {"steal_share": None, "foreign_share": None, "wall_s": 1.0}
    found = by_name(conditions(facts(governor=None, virtualised=None), load, 0.1))
    assert found["frequency governor"] == Check("frequency governor", "not shown by this system", None)
    assert found["taken by the hypervisor"].good is None


@pytest.mark.parametrize("bits", [7, 8])
def test_what_the_processor_multiplies_exactly_is_a_fact(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.doctor.exact_weight_bits", lambda: bits)
    check = by_name(conditions(facts(), CALM, 0.1))["int8 products of this processor"]
    assert check.good is None
    assert f"weights of {bits} bits" in check.finding
    assert ("VNNI" in check.finding) is (bits == 7)


def test_gpu_processes() -> None:
    assert list(gpu_processes(None)) == []
    assert list(gpu_processes([])) == [Check("processes on the GPU", "none", True)]
    assert list(gpu_processes(["41 train.py 900 MiB"])) == [Check("processes on the GPU", "41 train.py 900 MiB", False)]


@pytest.mark.parametrize(
    ("interval", "behind_all", "good"),
    [
        ((0.998, 1.003), 1.01, True),
        ((1.006, 1.02), 1.02, False),
        ((0.99, 1.02), 1.02, None),
        ((0.9, 0.99), 1.0, False),
        ((0.999, 1.0005), 2.9, True),  # 0.1 %, and 1.9 ms in half a second
        ((0.999, 1.0005), 3.1, None),
    ],
)
def test_samplings_effect_is_good_only_where_it_is_known_to_be_small(
    interval: tuple[float, float], behind_all: float, good: bool | None
) -> None:
    found = sampling_effect(Cost(1.0, Ratio(1.0, interval), Ratio(behind_all, (1.0, behind_all))))
    assert found.good is good
    words = {True: "below 0.5%", False: "above 0.5%", None: "not known well enough"}
    assert found.finding.startswith(words[good])


def test_stability_is_that_of_run() -> None:
    calm = [[10.0], [10.01], [10.02], [10.0]]
    assert stability(calm, CALM, [100.0, 99.0]) == Check("numbers taken now", "stable", True)
    busy = stability(calm, {**CALM, "foreign_share": 0.5}, [100.0, 50.0])
    assert not busy.good
    assert "other programs used 50%" in busy.finding
    assert "-50%" in busy.finding


def test_the_harness_costs_less_than_fifty_microseconds() -> None:
    assert 0 < float(harness_cost().finding.split()[0]) < 50


def test_all_of_it_for_real_within_seconds() -> None:
    found = by_name(examine(lambda: sum(range(2000)), block_s=0.01, proof_s=0.1))
    assert "twice a second" in found["sampling's effect on the median"].finding
    assert found["numbers taken now"].finding.startswith(("stable", "unstable: "))

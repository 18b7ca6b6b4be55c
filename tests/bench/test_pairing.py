"""Like with like: what pairs, what is missing, what may not be compared, and what differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.pairing import check_runs, differences, machine_of, pair_runs, refusals, title_of
from export.recipe import Recipe
from reference_models.errors import UserError

Make = Callable[..., dict[str, Any]]


def test_like_cases_pair_in_the_order_of_the_baseline(gate_run: Make) -> None:
    a = [gate_run("a1", case={"resolution": "720p"}), gate_run("a2", case={"resolution": "1080p"})]
    b = [gate_run("b2", case={"resolution": "1080p"}), gate_run("b1", case={"resolution": "720p"})]
    found = pair_runs(a, b)
    assert [(x["id"], y["id"]) for x, y in found.pairs] == [("a1", "b1"), ("a2", "b2")]
    assert not found.missing
    assert not found.extra


@pytest.mark.parametrize(
    "change",
    [
        {"model": "can32"}, {"options": {"depth": 7}}, {"trained": False}, {"resolution": "1080p"},
        {"output_shape": [1, 3, 1440, 2560]}, {"variant": "onnxruntime:graph=basic"}, {"device": "cuda:0"},
        {"precision": "fp16"}, {"statistics": "frozen"}, {"tile": "512"}, {"recipe": {"precision": "int8"}},
        {"memory_mib": 1536.0},
    ],
)  # fmt: skip
def test_another_case_is_missing_and_not_a_partner(gate_run: Make, change: dict[str, Any]) -> None:
    found = pair_runs([gate_run("a")], [gate_run("b", case=change)])
    assert not found.pairs
    ((run, why),) = found.missing
    assert run["id"] == "a"
    assert why.startswith("the candidate has no run of this case")
    assert ("; one of the same name differs in" in why) == bool(
        change.keys() & {"output_shape", "recipe", "memory_mib"}
    )
    assert [(run["id"], why) for run, why in found.extra] == [("b", "not in the baseline")]


def test_what_a_case_of_the_same_name_has_otherwise_is_said(gate_run: Make) -> None:
    found = pair_runs([gate_run("a")], [gate_run("b", case={"memory_mib": 1536.0})])
    assert found.missing[0][1].endswith("; one of the same name differs in memory_mib (none → 1536.0)")
    old = gate_run("a")
    del old["case"]["options"]
    found = pair_runs([old], [gate_run("b", case={"memory_mib": 1536.0, "way": "back to back"})])
    assert found.missing[0][1].endswith("; one of the same name differs in memory_mib (none → 1536.0)")


def test_of_a_recipe_what_differs_alone_is_said(gate_run: Make) -> None:
    recipes = [Recipe("int8", "integer", shifted=True, weight_bits=bits).to_dict() for bits in (8, 7)]
    found = pair_runs(*([gate_run(name, case={"recipe": recipe})] for name, recipe in zip("ab", recipes, strict=True)))
    assert found.missing[0][1].endswith("; one of the same name differs in weight_bits (8 → 7)")


@pytest.mark.parametrize("originals", [("rof", "l0_smoothing"), ("rof", None), (None, "rof")])
def test_what_a_run_was_compared_with_besides_does_not_part_it(gate_run: Make, originals: tuple[str, str]) -> None:
    a, b = (gate_run(name, case={"original": word}) for name, word in zip("ab", originals, strict=True))
    found = pair_runs([a], [b])
    assert [(x["id"], y["id"]) for x, y in found.pairs] == [("a", "b")]
    assert not found.missing
    assert not found.extra


def test_where_a_case_was_compared_with_several_originals_each_has_its_own_partner(gate_run: Make) -> None:
    a = [gate_run("a1", case={"original": "rof"}), gate_run("a2", case={"original": None})]
    b = [gate_run("b2", case={"original": None}), gate_run("b1", case={"original": "rof"})]
    found = pair_runs(a, b)
    assert [(x["id"], y["id"]) for x, y in found.pairs] == [("a1", "b1"), ("a2", "b2")]
    noise = pair_runs(
        [gate_run("a", case={"original": "denoising sigma 70"})], [gate_run("b", case={"original": None})]
    )
    assert not noise.pairs  # another picture goes in
    several = pair_runs([gate_run("a", case={"original": "tvl1"})], b)
    assert not several.pairs
    assert len(several.extra) == 2


@pytest.mark.parametrize("change", [{"engine_version": "2"}, {"weights_sha256": "00"}, {"weights": "other"}])
def test_versions_and_weights_are_what_a_gate_is_for(gate_run: Make, change: dict[str, Any]) -> None:
    assert len(pair_runs([gate_run("a")], [gate_run("b", case=change)]).pairs) == 1
    assert refusals(gate_run("a"), gate_run("b", case=change)) == []


def test_the_memory_that_tiles_were_given_is_named(gate_run: Make) -> None:
    assert "tile auto in 1536 MiB" in title_of(gate_run(case={"tile": "auto", "memory_mib": 1536.0}))
    assert title_of(gate_run(case={"tile": "auto", "memory_mib": None})).endswith("tile auto")
    assert len(pair_runs([gate_run("a", case={"memory_mib": None})], [gate_run("b")]).pairs) == 1


def test_an_older_file_without_options_is_of_the_same_case(gate_run: Make) -> None:
    old = gate_run("a")
    del old["case"]["options"]
    assert len(pair_runs([old], [gate_run("b")]).pairs) == 1


def test_an_older_file_without_recipes_is_of_the_same_case(gate_run: Make) -> None:
    new = gate_run("b", case={"recipe": None})
    assert len(pair_runs([gate_run("a")], [new]).pairs) == 1
    assert check_runs([gate_run("a"), new], "x")


def test_the_last_run_by_time_counts_even_where_it_failed(gate_run: Make) -> None:
    early, late = gate_run("b1", time="2026-03-01T10:00:00"), gate_run("b2", time="2026-03-02T10:00:00")
    assert pair_runs([gate_run("a")], [late, early]).pairs[0][1]["id"] == "b2"
    failed = late | {"status": "failed", "reason": "out of memory", "latency_ms": None}
    found = pair_runs([gate_run("a")], [failed, early])
    assert [why for _, why in found.missing] == ["failed in the candidate: out of memory"]


def test_what_the_baseline_could_not_measure_is_extra(gate_run: Make) -> None:
    failed = gate_run("a", status="failed", reason="killed")
    assert [why for _, why in pair_runs([failed], [gate_run("b")]).extra] == ["failed in the baseline: killed"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"machine": {"cpu": "Other CPU"}}, "another machine: cpu Some CPU → Other CPU"),
        ({"machine": {"cores_usable": 4}}, "another machine: cores_usable 8 → 4"),
        ({"machine": {"gpus": [{"name": "L4"}]}}, "another machine: gpus none → L4"),
        ({"contract": {"threads": 4}}, "another contract: threads 8 → 4"),
        ({"contract": {"transfers": "both"}}, "another contract: transfers none → both"),
        ({"id": "a"}, "the same run stands on both sides"),
    ],
)
def test_what_may_not_be_compared(gate_run: Make, change: dict[str, Any], named: str) -> None:
    assert refusals(gate_run("a"), gate_run(**{"identifier": "b", **change}) | {"id": change.get("id", "b")}) == [named]


def test_threads_count_also_where_the_contract_does_not_state_them(gate_run: Make) -> None:
    a, b = gate_run("a", case={"threads": 2}), gate_run("b", case={"threads": 4})
    del a["contract"]["threads"]
    assert refusals(a, b) == ["another number of threads: 2 → 4"]


def test_other_machines_pass_when_asked_for(gate_run: Make) -> None:
    other = gate_run("b", machine={"cpu": "Other CPU"}, contract={"threads": 4})
    assert refusals(gate_run("a"), other, across_machines=True) == ["another contract: threads 8 → 4"]


def test_a_driver_or_kernel_is_no_other_machine_but_is_listed(gate_run: Make) -> None:
    a = gate_run("a", machine={"gpus": [{"name": "L4", "driver": "570"}]})
    b = gate_run("b", machine={"gpus": [{"name": "L4", "driver": "580"}], "kernel": "6.2"}, commit="fedc")
    assert machine_of(a) == machine_of(b)
    assert differences([(a, b)]) == [
        ("commit", "0123456789abcdef", "fedc"), ("kernel", "6.1", "6.2"), ("gpu driver", "570", "580"),
    ]  # fmt: skip


def test_a_part_of_the_contract_that_one_side_does_not_state_is_listed(gate_run: Make) -> None:
    b = gate_run("b", contract={"l2_state": "warm"})
    assert refusals(gate_run("a"), b) == []
    assert differences([(gate_run("a"), b)]) == [("contract: l2_state", "none", "warm")]


def test_titles_name_what_matters(gate_run: Make) -> None:
    assert title_of(gate_run()) == "can24 720p onnxruntime fp32 image"
    other = gate_run(case={"trained": False, "device": "cuda:0", "statistics": None, "options": {"depth": 7}})
    assert title_of(other) == "can24:depth=7 720p onnxruntime fp32 cuda:0 untrained"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"case": None}, "`case`"), ({"status": "fine"}, "`status`"), ({"latency_ms": None}, "latency_ms.samples"),
        ({"latency_ms": {"samples": [[0]]}}, "above 0"), ({"latency_ms": {"samples": [["x"]]}}, "above 0"),
        ({"machine": ["x"]}, "`machine`"), ({"quality": 5}, "`quality`"),
    ],
)  # fmt: skip
def test_a_run_changed_by_hand_is_refused(gate_run: Make, change: dict[str, Any], named: str) -> None:
    run = gate_run("bad") | change
    with pytest.raises(UserError, match=named) as caught:
        check_runs([run], "base.json")
    assert "base.json" in str(caught.value)


def test_a_case_without_a_fixed_key_is_refused(gate_run: Make) -> None:
    run = gate_run("bad")
    del run["case"]["precision"]
    with pytest.raises(UserError, match=r"case\.precision"):
        check_runs([run], "x")

"""Measuring and judging over a made-up device: order, what is never timed, quotients, verdicts. No torch is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bench import kernels
from bench.kernel_cases import KernelCase, cases
from bench.kernels import (
    LEAST_ROUNDS,
    MOST_ROUNDS,
    PRODUCTS,
    WARM_UPS,
    Prepared,
    in_turn,
    judge,
    measure_rows,
    quotient,
    row_of,
)

SIZES = [("a", 12, 12)]
ROUNDS = WARM_UPS + MOST_ROUNDS


class FakeLab:
    """A device whose steps take what `ms` says; `did` is what was timed."""

    name, copy_bytes, product_flop, late = "Made up", 1000, 4 * 10**9, 3

    def __init__(self, ms: Mapping[str, float], faults: Mapping[str, str] | None = None) -> None:
        self.ms, self.faults = ms, faults or {}
        self.did: list[str] = []
        self.now = ""

    def step(self, name: str) -> Callable[[], None]:
        return lambda: setattr(self, "now", name)

    def prepared(self, case: KernelCase) -> Prepared:
        if case.precision == "int8":
            return Prepared(skipped="does not fit")
        if reason := self.faults.get(case.kernel):
            return Prepared(fault=reason)
        return Prepared({name: self.step(name) for name in self.ms}, left_out={"compiled": "no compiler"})

    def product(self, precision: str) -> Callable[[], None]:
        return self.step(f"product {precision}")

    def time_ms(self, step: Callable[[], object]) -> float:
        step()
        self.did.append(self.now)
        return self.ms.get(self.now, 2.0)


MS = {"kernel": 1.0, "planned": 1.25, "native": 3.5, "copy": 2.0, "copy_alike": 0.8}
Emitted = list[tuple[str, dict[str, Any]]]


def measured(lab: FakeLab, *names: str, precisions: tuple[str, ...] = ()) -> tuple[dict[str, Any], Emitted]:
    emitted: Emitted = []
    chosen = cases(names, SIZES, precisions)
    return measure_rows(chosen, lab, lambda event, **fields: emitted.append((event, fields))), emitted


# Measuring


def test_a_wrong_kernel_is_never_timed() -> None:
    lab = FakeLab(MS, {"pixel_interleave": "3 elements differ"})
    found, _ = measured(lab, "pixel_interleave", precisions=("fp16",))
    (row,) = found["rows"]
    assert (row["status"], row["reason"]) == ("wrong", "3 elements differ")
    assert row["times"] is row["copy_share"] is row["native"] is None
    assert lab.did == []
    assert found["copy_gb_s"] is None


def test_a_kernel_that_is_wrong_leaves_the_others_measured() -> None:
    found, _ = measured(
        FakeLab(MS, {"pixel_interleave": "x"}), "pixel_interleave", "pixel_shuffle", precisions=("fp16",)
    )
    assert [(row["kernel"], row["status"]) for row in found["rows"]] == [
        ("pixel_shuffle", "ok"), ("pixel_shuffle", "ok"), ("pixel_interleave", "wrong")
    ]  # fmt: skip


def test_contenders_take_turns_and_each_of_them_begins() -> None:
    did: list[str] = []
    samples = in_turn({name: (lambda name=name: did.append(name)) for name in "abc"}, lambda step: (step(), 1.0)[1])  # type: ignore[misc]
    assert "".join(did[:9]) == "abcbcacab"
    assert {name: len(of) for name, of in samples.items()} == dict.fromkeys("abc", MOST_ROUNDS)
    assert len(did) == 3 * ROUNDS


def test_warm_up_is_timed_and_not_counted() -> None:
    times = iter([9.0] * WARM_UPS + [1.0] * MOST_ROUNDS)
    assert set(in_turn({"a": lambda: None}, lambda step: next(times))["a"]) == {1.0}


def test_a_slow_row_ends_with_the_least_rounds() -> None:
    assert len(in_turn({"a": lambda: None}, lambda step: 1000.0)["a"]) == LEAST_ROUNDS


def test_figures_of_a_row() -> None:
    found, _ = measured(FakeLab({**MS, "compiled": 2.0}), "pixel_interleave", precisions=("fp16",))
    (row,) = found["rows"]
    assert row["min_bytes"] == 2 * (16 * 12 * 12) * 2  # of the output's elements
    assert row["gb_s"] == pytest.approx(9216 / 1e6)  # in 1 ms
    # The large copy moves 1000 bytes in 2 ms, this one 9216 in 1 ms; a copy of as many takes 0.8 ms.
    assert row["copy_share"] == {"value": pytest.approx(18.432), "ci95": [pytest.approx(18.432)] * 2}
    assert row["copy_alike_share"]["value"] == pytest.approx(0.8)
    assert row["reach"]["value"] == pytest.approx(18.432 / 0.8)
    assert row["planned"]["value"] == pytest.approx(0.8)
    assert (row["native"]["value"], row["compiled"]["value"]) == (3.5, 2.0)
    assert row["tflop_s"] is row["matrix_share"] is None
    assert row["times"]["kernel"]["ms"] == 1
    assert row["times"]["native"]["ci95"] == (3.5, 3.5)
    assert len(row["times"]["copy"]["samples"]) >= LEAST_ROUNDS
    assert row["left_out"] == {"compiled": "no compiler"}
    assert found["copy_gb_s"] == pytest.approx(1000 / 2 / 1e6)
    assert (found["device_name"], found["late"]) == ("Made up", 3)


def test_nothing_of_a_case_is_kept_while_the_next_is_made() -> None:
    """Two of the largest would not fit into some device's memory."""
    import gc
    import weakref

    class Large:
        def __call__(self) -> None: ...

    class Keeping(FakeLab):
        kept: Any = None

        def prepared(self, case: KernelCase) -> Prepared:
            gc.collect()
            assert self.kept is None or self.kept() is None
            step = Large()
            self.kept = weakref.ref(step)
            return Prepared(dict.fromkeys(("kernel", "planned", "native", "copy"), step))

    found, _ = measured(Keeping(MS), "pixel_interleave")
    assert [row["status"] for row in found["rows"]] == ["ok"] * 4


def test_without_a_contender_there_is_no_figure_of_it() -> None:
    ms = {name: MS[name] for name in ("kernel", "planned", "native", "copy")}
    (row,) = measured(FakeLab(ms), "pixel_interleave", precisions=("fp16",))[0]["rows"]
    assert row["compiled"] is row["copy_alike_share"] is row["reach"] is None
    assert row["copy_share"]["value"] == pytest.approx(18.432)


def test_products_are_rated_in_their_type_before_the_rows() -> None:
    lab = FakeLab({**MS, "product tf32": 8.0, "product fp16": 4.0})
    found, _ = measured(lab, "pixel_dcl")
    assert found["matrix_tflop_s"] == {"tf32": pytest.approx(0.5), "fp16": pytest.approx(1.0)}
    assert lab.did[: 2 * PRODUCTS] == ["product tf32"] * PRODUCTS + ["product fp16"] * PRODUCTS
    row = next(row for row in found["rows"] if (row["planes"], row["precision"]) == (16, "tf32"))
    assert row["tflop_s"] == pytest.approx(2 * 8 * 16**2 * 36 / 1e9)  # in 1 ms
    assert row["matrix_share"] == pytest.approx(row["tflop_s"] / 0.5)


def test_rows_go_out_as_they_are_done() -> None:
    found, emitted = measured(FakeLab(MS), "pixel_interleave")
    assert [event for event, _ in emitted] == ["phase", "row"] * 4
    assert [fields["row"] for event, fields in emitted if event == "row"] == found["rows"]
    assert [fields["done"] for event, fields in emitted if event == "phase"] == [0, 1, 2, 3]


def test_a_skipped_row_has_its_reason() -> None:
    (row, _) = measured(FakeLab(MS), "pixel_shuffle", precisions=("int8",))[0]["rows"]
    assert (row["status"], row["reason"], row["times"]) == ("skipped", "does not fit", None)


def test_quotients_are_taken_round_by_round() -> None:
    """The device slows down by half in the middle of both: their quotient does not notice."""
    own = [1.0] * 10 + [2.0] * 10
    assert quotient([3 * ms for ms in own], own) == {"value": 3, "ci95": [3, 3]}
    assert quotient([3.0], [1.0]) == {"value": 3, "ci95": None}
    apart = quotient([1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0], [9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0])
    assert apart["ci95"][0] <= apart["value"] <= apart["ci95"][1]


# Judging


def row(value: float, low: float, high: float, kernel: str = "pixel_shuffle", **changed: Any) -> dict[str, Any]:
    figure = {"value": value, "ci95": [low, high]}
    return {
        "kernel": kernel, "status": "ok", "title": f"{kernel} {value}", "copy_share": figure, "native": figure,
        "reach": {"value": 1.0, "ci95": [1.0, 1.0]}, **changed,
    }  # fmt: skip


def verdict(*rows: dict[str, Any], goal: int = 0) -> str:
    return str(judge(rows)[goal]["verdict"])


def test_a_goal_is_met_where_every_row_meets_it() -> None:
    assert verdict(row(0.95, 0.93, 0.96), row(0.92, 0.90, 0.93)) == "met"


def test_a_goal_is_missed_where_one_row_misses_it() -> None:
    assert verdict(row(0.95, 0.93, 0.96), row(0.80, 0.79, 0.81), row(0.9, 0.85, 0.95)) == "missed"


def test_an_interval_that_holds_the_goal_is_not_judged() -> None:
    assert verdict(row(0.95, 0.93, 0.96), row(0.92, 0.89, 0.93)) == "not judged"
    assert verdict(row(0.95, 0.93, 0.96) | {"copy_share": {"value": 0.95, "ci95": None}}) == "not judged"


def test_without_a_row_nothing_was_timed() -> None:
    assert [goal["verdict"] for goal in judge([])] == ["not timed"] * 2
    assert verdict(row(0.95, 0.93, 0.96, status="wrong")) == "not timed"


@pytest.mark.parametrize("lost", [{"status": "skipped", "copy_share": None}, {"copy_share": None}])
def test_a_row_that_has_no_figure_is_not_judged(lost: dict[str, Any]) -> None:
    good, bad, without = row(0.95, 0.93, 0.96), row(0.80, 0.79, 0.81), row(0.95, 0.93, 0.96, **lost)
    assert verdict(good, without) == "not judged"
    assert verdict(good, bad, without) == "missed"
    assert verdict(without) == "not timed"
    (told, _) = judge([good, without])
    assert (told["untimed"], told["worst"]) == (1, "pixel_shuffle 0.95")
    assert told["in_words"].endswith(
        "not judged; least 95 % (93 % to 96 %), pixel_shuffle 0.95; met in 1 of 1 rows; 1 could not be timed"
    )


def test_each_goal_is_judged_by_its_own_kernel_and_figure() -> None:
    slow = row(2.5, 2.4, 2.6, "pixel_dcl")
    fast = row(3.5, 3.4, 3.6, "pixel_dcl")
    assert [goal["verdict"] for goal in judge([row(0.95, 0.93, 0.96), slow, fast])] == ["met", "missed"]
    assert [goal["verdict"] for goal in judge([row(0.8, 0.7, 0.85, "pixel_interleave"), fast])] == ["not timed", "met"]


def test_a_row_that_no_copy_of_its_size_brings_to_the_goal_is_not_the_kernel_s() -> None:
    small = row(0.5, 0.4, 0.6, reach={"value": 0.6, "ci95": [0.5, 0.7]})
    large = row(0.95, 0.93, 0.96)
    assert verdict(small, large) == "met"
    assert verdict(small) == "not judged"
    assert judge([small])[0]["worst"] is None
    assert judge([small, large])[0]["out_of_reach"] == 1
    assert "1 too small to be judged" in judge([small, large])[0]["in_words"]
    # An interval that holds the goal is no proof that it is out of reach, and without such a copy nothing is.
    assert verdict(row(0.5, 0.4, 0.6, reach={"value": 0.8, "ci95": [0.7, 0.91]})) == "missed"
    assert verdict(row(0.5, 0.4, 0.6, reach=None)) == "missed"
    # Times as fast are judged at every size.
    assert verdict(row(2, 1.9, 2.1, "pixel_dcl", reach={"value": 0.6, "ci95": [0.5, 0.7]}), goal=1) == "missed"


def test_a_verdict_names_the_worst_row_and_counts() -> None:
    first, second = judge([
        row(0.95, 0.93, 0.96), row(0.80, 0.79, 0.81), row(0.70, 0.69, 0.71), row(0.9, 0.85, 0.95),
        row(3.5, 3.4, 3.6, "pixel_dcl"),
    ])  # fmt: skip
    assert first["in_words"] == (
        "PixelShuffle at 90 % of the device's copy rate: missed; least 70 % (69 % to 71 %), pixel_shuffle 0.7; "
        "missed in 2, not judged in 1, met in 1 of 4 rows"
    )
    assert (first["worst"], first["rows"]) == ("pixel_shuffle 0.7", {"missed": 2, "not judged": 1, "met": 1})
    assert second["in_words"] == (
        "pixel deconvolution 3 times as fast as its operators: met; least 3.50 (3.40 to 3.60), pixel_dcl 3.5; "
        "met in 1 of 1 rows"
    )
    assert "interval too wide" in judge([row(0.9, 0.85, 0.95)])[0]["in_words"]
    assert judge([])[0]["in_words"] == "PixelShuffle at 90 % of the device's copy rate: not timed"


def test_goals_are_of_kernels_and_figures_that_exist() -> None:
    case = cases(["pixel_dcl"], SIZES, ["fp16"])[0]
    keys = row_of(case, Prepared(skipped="x"), {}, 1, {}).keys()
    for goal in kernels.GOALS:
        assert goal.figure in keys
        assert cases([goal.kernel], SIZES)


# Without a device


def test_the_interpreter_says_right_or_wrong_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "made", lambda case, device, seed: (device, seed))
    seen: list[Any] = []

    def fault(case: KernelCase, ready: Any, as_in_plan: bool) -> str | None:
        seen.append((ready, as_in_plan))
        return "wrong" if case.precision == "fp16" else None

    monkeypatch.setattr(kernels, "fault", fault)
    chosen = cases(["pixel_interleave"], SIZES)
    emitted: Emitted = []
    job = {"cases": [case.to_dict() for case in chosen]}
    found = kernels.check_kernels(job, lambda event, **fields: emitted.append((event, fields)))
    assert [row["status"] for row in found["rows"]] == ["ok", "wrong", "ok", "ok"]
    assert {row["times"] for row in found["rows"]} == {None}
    assert seen == [(("cpu", number), False) for number in range(4)]
    assert [event for event, _ in emitted] == ["phase", "row"] * 4

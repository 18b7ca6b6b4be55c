"""The numbers behind each figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from reports import series
from reports.row import Row, row_from_run

Make = Callable[..., dict[str, Any]]


def rows_of(*runs: dict[str, Any]) -> list[Row]:
    return [row_from_run(run) for run in runs]


def test_tables_are_strict_json(make_run: Make) -> None:
    equal = make_run("a")
    equal["quality"]["vs_reference"] |= {"psnr_db": None, "identical": True}
    equal["latency_ms"]["ci95"] = None
    for make in (series.latency, series.memory, series.quality, series.roofline, series.cold_start):
        table = make(rows_of(equal, make_run("b", 9, case={"variant": "y"}))).table()
        assert json.loads(json.dumps(table, allow_nan=False)) == table
        assert all(len(line) == len(table["columns"]) for line in table["rows"])


def test_each_panel_is_one_network_on_one_machine(make_run: Make) -> None:
    runs = [make_run("a"), make_run("b", case={"model": "can32"}), make_run("c", machine={"cpu": "Other"})]
    runs += [make_run("d", case={"trained": False}), make_run("e", contract={"threads": 1})]
    panels = list(series.latency(rows_of(*runs)).points["panel"])
    assert len(set(panels)) == 5
    assert any("Other" in title for title in panels)
    assert any("untrained" in title for title in panels)


def test_what_is_left_out_is_said(many_runs: Callable[..., list[dict[str, Any]]], make_run: Make) -> None:
    rows = rows_of(*(make_run(str(i), case={"model": f"m{i}"}) for i in range(20)))
    found = series.latency(rows)
    assert found.points["panel"].nunique() == series.PANELS
    assert "The first 12 of 20" in found.note
    assert series.latency(rows[:12]).note == ""
    assert "30 longest of 40" in series.cold_start(rows_of(*many_runs(40, 3))).note


def test_the_largest_size_of_each_network_comes_first(make_run: Make) -> None:
    runs = []
    for i in range(12):
        runs.append(make_run(f"s{i}", case={"model": f"m{i}", "resolution": "320p", "output_shape": [1, 3, 320, 568]}))
        runs.append(make_run(f"l{i}", case={"model": f"m{i}"}))
    found = series.quality(rows_of(*runs))
    assert set(found.points["resolution"]) == {"720p"}
    assert found.note.startswith("12 more")


def test_speed_up_is_against_eager_torch_or_the_slowest(make_run: Make) -> None:
    torch = make_run("t", 300.0, case={"engine": "torch_eager", "variant": "torch_eager"})
    slow, fast = make_run("s", 900.0, case={"variant": "slow"}), make_run("f", 100.0, case={"variant": "fast"})
    found = series.speed_up(rows_of(torch, slow, fast)).points.set_index("id")["speed_up"]
    assert found.to_dict() == pytest.approx({"t": 1, "s": 1 / 3, "f": 3})
    points = series.speed_up(rows_of(slow, fast)).points
    assert dict(zip(points["id"], points["speed_up"], strict=True)) == {"s": 1, "f": 9}
    assert len(series.speed_up(rows_of(fast)).points) == 0


def test_memory_of_a_device_has_its_own_limit(make_run: Make) -> None:
    gpus = [{"name": "H200", "memory_mib": 143000, "driver": "1"}]
    run = make_run("g", machine={"gpus": gpus}, case={"device": "cuda:0"}, memory={"device_peak_mib": 800.0})
    lines = series.memory(rows_of(run)).points.to_dict("records")
    assert [(p["memory"], p["peak_mib"], p["limit_mib"]) for p in lines] == [
        ("host", 500, 16000),
        ("device", 800, 143000),
    ]


def test_history_needs_two_commits_of_one_case(make_run: Make) -> None:
    same = [make_run("a"), make_run("b", time="2026-04-01")]
    assert len(series.history(rows_of(*same)).points) == 0
    assert len(series.history(rows_of(same[0], make_run("b", commit="ffff"))).points) == 2
    assert len(series.history(rows_of(same[0], make_run("b", commit=None))).points) == 0


def test_rows_without_peaks_are_not_on_the_roof(make_run: Make) -> None:
    assert len(series.roofline(rows_of(make_run(work={"peaks": {"failed": "x"}}))).points) == 0
    assert len(series.roofline(rows_of(make_run(work={"gmac": None}))).points) == 0


def test_what_no_axis_can_hold_is_left_out_with_a_note(make_run: Make) -> None:
    rest: dict[str, Any] = {"throughput_fps": 1.0, "work": {"gflop_per_s": 1.0}}
    odd = [make_run(f"b{ms}", ms, 0, case={"variant": f"v{ms}"}, **rest) for ms in (1e299, 5e-324)]
    rows = rows_of(make_run("a"), *odd)
    for make in (series.latency, series.memory, series.quality, series.roofline, series.cold_start):
        found = make(rows)
        assert set(found.points["id"]) == {"a"}
        assert "Left out: 2" in found.note


def test_devices_are_not_compared_with_each_other(make_run: Make) -> None:
    gpu, torch = {"device": "cuda:0"}, {"engine": "torch_eager", "variant": "torch_eager"}
    runs = [make_run("t", 400.0, case=torch), make_run("a"), make_run("g", 8.0, case=gpu)]
    runs.append(make_run("h", 4.0, case=gpu | {"variant": "fast"}))
    found = series.speed_up(rows_of(*runs)).points.set_index("id")["speed_up"]
    assert found.to_dict() == pytest.approx({"t": 1, "a": 4, "g": 1, "h": 2})


def test_steps_follow_the_comparisons_rule(make_run: Make) -> None:
    first = make_run("a", 100, spread=0.02)

    def steps(**changes: Any) -> list[str]:
        run = make_run("b", 107, spread=0.02, commit="ffff", time="2026-04-01", **changes)
        return list(series.history(rows_of(first, run)).points["step"])

    assert steps() == ["", "slower"]
    assert steps(unstable=["noise"]) == ["", ""]
    assert steps(contract={"transfers": "included"}) == ["", ""]


def test_panels_name_the_threads_where_they_vary(make_run: Make) -> None:
    titles = set(series.latency(rows_of(make_run("a"), make_run("b", contract={"threads": 1}))).points["panel"])
    assert titles == {"can24, threads 1", "can24, threads 8"}


def test_cases_of_two_machines_or_contracts_are_two_histories(make_run: Make) -> None:
    runs = []
    for name, changes in (("a", {}), ("b", {"machine": {"cpu": "Other"}}), ("c", {"contract": {"threads": 1}})):
        runs += [make_run(f"{name}{c}", commit=c, time=f"2026-01-0{c}", **changes) for c in "12"]
    panels = series.history(rows_of(*runs)).points.groupby("panel")["id"].apply(list)
    assert sorted(panels) == [["a1", "a2"], ["b1", "b2"], ["c1", "c2"]]


def test_layers_of_two_machines_are_two_panels(make_run: Make) -> None:
    layers = [{"layer": "conv1", "kind": "Conv", "ms": 3.5}]
    runs = [make_run("a", layers=layers), make_run("b", layers=layers, machine={"cpu": "Other"})]
    assert series.layers(rows_of(*runs)).points["panel"].nunique() == 2


def test_the_series_hold_the_runs_own_intervals_limits_and_order(make_run: Make) -> None:
    run = make_run("a", 100.0)
    run["latency_ms"]["ci95"] = [91.0, 140.0]
    (line,) = series.latency(rows_of(run)).points.to_dict("records")
    assert (line["latency_ms"], line["low_ms"], line["high_ms"]) == (100.0, 91.0, 140.0)
    later = make_run("b", 50.0, commit="ffff", time="2026-04-01")
    lines = series.history(rows_of(later, run)).points.to_dict("records")
    assert [(p["id"], p["order"], p["low_ms"], p["high_ms"]) for p in lines] == [
        ("a", 0, 91.0, 140.0),
        ("b", 1, 49.0, 51.0),
    ]


def test_a_commit_measured_again_stands_where_it_was_measured_last(make_run: Make) -> None:
    again = [("a1", "aaaa", 100.0, 1), ("b", "bbbb", 90.0, 2), ("a2", "aaaa", 77.0, 3)]
    runs = [make_run(name, ms, commit=commit, time=f"2026-01-0{day}") for name, commit, ms, day in again]
    for order in ((0, 1, 2), (2, 1, 0)):
        points = series.history(rows_of(*(runs[i] for i in order))).points
        assert list(points["id"]) == ["b", "a2"]


def test_a_level_that_changes_for_good_is_a_step_even_of_few_processes(make_run: Make) -> None:
    runs = []
    for order in range(12):
        run = make_run(f"r{order}", 100.0 * (1.3 if order >= 6 else 1) + order % 3, commit=f"c{order:02}")
        run["latency_ms"]["samples"] = run["latency_ms"]["samples"][:3]
        runs.append(run | {"time": f"2026-01-{order + 1:02}"})
    assert list(series.history(rows_of(*runs)).points["step"]) == [""] * 6 + ["slower"] + [""] * 5

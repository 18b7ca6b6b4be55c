"""A run from a file, whatever is in it → a row or a clear refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from bench import store
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]


def test_a_row_says_what_the_run_says(make_run: Make) -> None:
    row = row_from_run(make_run("x", 80.0), "a.json", 2)
    assert (row.id, row.source, row.place, row.ok) == ("x", "a.json", 2, True)
    assert row.title == "can24 720p onnxruntime fp32 image"
    assert (row.size, row.megapixels, row.network) == ("1280x720", 0.9216, "can24")
    assert row.latency_ms == 80.0
    assert row.medians_ms == pytest.approx((79.2, 79.6, 80.0, 80.4, 80.8))
    assert row.psnr_db == 60.0
    assert row.number("memory.host_peak_mib") == 500.0


def test_an_enlarged_size_names_both(make_run: Make) -> None:
    case = {"input_shape": [1, 3, 480, 854], "output_shape": [1, 3, 1440, 2560]}
    assert row_from_run(make_run(case=case)).size == "854x480 → 2560x1440"


def test_equal_outputs_are_infinitely_good_and_broken_ones_have_no_quality(make_run: Make) -> None:
    equal, broken = make_run(), make_run()
    equal["quality"]["vs_reference"] |= {"psnr_db": None, "identical": True}
    broken["quality"]["vs_reference"] |= {"psnr_db": None, "finite": False}
    assert row_from_run(equal).psnr_db == math.inf
    assert row_from_run(broken).psnr_db is None
    assert row_from_run(broken).broken


def test_untrained_is_what_is_not_said_to_be_trained(make_run: Make) -> None:
    assert row_from_run(make_run(case={"trained": "yes"})).network == "can24 (untrained)"


def test_a_failed_run_needs_no_figures(make_run: Make) -> None:
    row = row_from_run(make_run(status="failed", reason="no memory", latency_ms=None, work=None, memory=None))
    assert (row.ok, row.latency_ms, row.medians_ms, row.reason) == (False, None, (), "no memory")


def test_the_stored_runs_of_an_older_day_are_rows(request: pytest.FixtureRequest) -> None:
    for name in ("table_mixed", "table_pair"):
        path = request.config.rootpath / "tests" / "data" / f"{name}.json"
        assert all(row_from_run(run).model for run in store.load(path))


def test_another_driver_is_another_condition_but_no_other_machine(make_run: Make) -> None:
    gpus = [[{"name": "H200", "memory_mib": 143771, "driver": driver}] for driver in ("1", "2")]
    one, two = (row_from_run(make_run(machine={"gpus": gpu}, case={"device": "cuda:0"})) for gpu in gpus)
    assert one.machine_key == two.machine_key
    assert one.machine["gpu driver"] != two.machine["gpu driver"]
    assert one.device_limit_mib == 143771
    assert "H200" in one.machine_name
    assert row_from_run(make_run(machine={"gpus": gpus[0]}, case={"device": "cuda:3"})).device_limit_mib is None


def test_device_and_tile_are_named_where_they_are_not_the_usual(make_run: Make) -> None:
    row = row_from_run(make_run(case={"device": "cuda:0", "tile": "512+32"}))
    assert row.how == "onnxruntime cuda:0 fp32 image tile 512+32"
    assert row.title == "can24 720p onnxruntime cuda:0 fp32 image tile 512+32"


def test_half_characters_are_replaced_everywhere(make_run: Make) -> None:
    row = row_from_run(make_run("\ud800", case={"model": "m\udfff"}, pictures=["\ud800.png"]))
    for text in (row.id, row.title, row.pictures):
        assert text.encode()


@pytest.mark.parametrize(("ms", "absurd"), [(100.0, ""), (1e299, "latency_ms.p50 1e+299"), (5e-324, "latency_ms.p50")])
def test_figures_that_nothing_can_have_are_known(make_run: Make, ms: float, absurd: str) -> None:
    found = row_from_run(make_run(ms=ms, spread=0, throughput_fps=1.0, work={"gflop_per_s": 1.0})).absurd
    assert found.startswith(absurd)
    assert bool(found) == bool(absurd)


def test_a_floor_is_about_the_reference_or_the_original(make_run: Make) -> None:
    run = make_run(quality={"vs_original": {"psnr_db": 31.5, "ssim": 0.9}})
    assert (row_from_run(run).judged_db, row_from_run(run, against="original").judged_db) == (60.0, 31.5)
    assert row_from_run(make_run(), against="original").judged_db is None


def test_options_recipes_and_instruction_sets_tell_cases_and_machines_apart(make_run: Make) -> None:
    plain = row_from_run(make_run())
    assert row_from_run(make_run(machine={"isa": ["avx2"]})).machine_key != plain.machine_key
    other = row_from_run(make_run(case={"options": {"depth": 7}, "recipe": {"recovery": "none"}}))
    assert (other.model, other.how) == ("can24:depth=7", "onnxruntime fp32 recovery none image")

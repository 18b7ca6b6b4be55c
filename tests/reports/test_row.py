"""A run from a file, whatever is in it → a row or a clear refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from bench import store
from reference_models.errors import UserError
from reports.row import LONGEST, clean, facts_of, row_from_run

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


WRONG = [
    (("latency_ms", "p50"), "12"), (("latency_ms", "p50"), 0), (("latency_ms", "p50"), -1.0), (("latency_ms",), None),
    (("latency_ms", "p50"), 10**400), (("latency_ms", "p50"), True), (("latency_ms", "ci95"), [1]),
    (("latency_ms", "ci95"), [2, 1]), (("latency_ms", "ci95"), "ab"), (("latency_ms", "samples"), [1, 2]),
    (("latency_ms", "samples"), [["1"]]), (("latency_ms", "samples"), [[0.0]]), (("memory", "host_peak_mib"), "<b>"),
    (("memory", "host_peak_mib"), -5), (("quality", "vs_reference"), {"psnr_db": 3}),
    (("quality", "vs_reference", "psnr_db"), "∞"), (("quality", "vs_reference", "ssim"), [1]),
    (("work", "gmac"), {}), (("work", "peaks"), {"fp32_gflop_s": "fast"}), (("case",), []), (("case", "model"), 3),
    (("case", "input_shape"), [1, 3, 720]), (("case", "output_shape"), [1, 3, 0, 5]), (("machine",), "mine"),
    (("machine", "gpus"), ["H100"]), (("machine", "memory_mib"), "lots"), (("unstable",), [1]), (("status",), "fine"),
    (("contract",), None), (("cold_start", "load_s"), "soon"), (("reason",), {"a": 1}), (("commit",), 5),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_what_is_no_figure_is_refused_with_run_and_key(make_run: Make, path: tuple[str, ...], value: Any) -> None:
    run = make_run("run7")
    owner = run
    for name in path[:-1]:
        owner = owner[name]
    owner[path[-1]] = value
    with pytest.raises(UserError, match=r"run run7: `.*") as caught:
        row_from_run(run)
    assert path[0] in str(caught.value)


def test_text_is_cleaned_of_what_could_deceive_or_break_a_file() -> None:
    assert clean("a\x00b\u202ec\ud800d\ne\u00a0f") == "a\ufffdb\ufffdc\ufffdd e f"
    assert len(clean("x" * 10_000)) == LONGEST


def test_facts_are_lines_of_text_whatever_they_were() -> None:
    found = facts_of({"a": None, "b": [{"name": "H200"}, {"name": "L4"}], "c": True, "d": {"x": 1.5}, "e": []})
    assert found == {"b": "H200, L4", "c": "yes", "d": "x 1.5"}


def test_another_driver_is_another_condition_but_no_other_machine(make_run: Make) -> None:
    gpus = [[{"name": "H200", "memory_mib": 143771, "driver": driver}] for driver in ("1", "2")]
    one, two = (row_from_run(make_run(machine={"gpus": gpu}, case={"device": "cuda:0"})) for gpu in gpus)
    assert one.machine_key == two.machine_key
    assert one.machine["gpu driver"] != two.machine["gpu driver"]
    assert one.device_limit_mib == 143771
    assert "H200" in one.machine_name
    assert row_from_run(make_run(machine={"gpus": gpus[0]}, case={"device": "cuda:3"})).device_limit_mib is None


@pytest.mark.parametrize("quality", [None, [], "good", {}, 3])
def test_a_result_without_quality_is_refused(make_run: Make, quality: Any) -> None:
    run = make_run("run7")
    run["quality"] = quality
    with pytest.raises(UserError, match="run run7: `quality"):
        row_from_run(run)
    del run["quality"]
    with pytest.raises(UserError, match="run run7: `quality"):
        row_from_run(run)


def test_device_and_tile_are_named_where_they_are_not_the_usual(make_run: Make) -> None:
    row = row_from_run(make_run(case={"device": "cuda:0", "tile": "512+32"}))
    assert row.how == "onnxruntime cuda:0 fp32 image tile 512+32"
    assert row.title == "can24 720p onnxruntime cuda:0 fp32 image tile 512+32"


def test_nested_facts_end(make_run: Make) -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep, {"a": deep}] if not isinstance(deep, list) or len(str(deep)) < 99 else [deep]
    fact = row_from_run(make_run(machine={"odd": deep, "long": ["y" * 500] * 9000})).machine
    assert "…" in fact["odd"]
    assert max(map(len, fact.values())) <= LONGEST


def test_half_characters_are_replaced_everywhere(make_run: Make) -> None:
    row = row_from_run(make_run("\ud800", case={"model": "m\udfff"}, pictures=["\ud800.png"]))
    for text in (row.id, row.title, row.pictures):
        assert text.encode()


@pytest.mark.parametrize(("ms", "absurd"), [(100.0, ""), (1e299, "latency_ms.p50 1e+299"), (5e-324, "latency_ms.p50")])
def test_figures_that_nothing_can_have_are_known(make_run: Make, ms: float, absurd: str) -> None:
    found = row_from_run(make_run(ms=ms, spread=0, throughput_fps=1.0, work={"gflop_per_s": 1.0})).absurd
    assert found.startswith(absurd)
    assert bool(found) == bool(absurd)

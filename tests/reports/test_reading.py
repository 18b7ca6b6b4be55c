"""Values out of a run, whatever is in it: what they must be, or a clear refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from reference_models.errors import UserError
from reports.reading import LONGEST, Operator, clean, facts_of
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]


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
    (("case", "options"), [1]), (("case", "recipe"), "fast"), (("machine_gflop_s",), ["1"]),
    (("machine_gflop_s",), [0]),
    (("latency_ms", "builds"), [1]), (("latency_ms", "builds"), [[]] * 5), (("layers",), [3]), (("layers",), {}),
    (("layers",), [{"layer": "x"}]), (("layers",), [{"layer": "x", "ms": -1}]), (("quality", "vs_original"), 3),
    (("quality", "vs_original"), {"psnr_db": "x"}), (("quality", "vs_original"), {"finite": "no"}),
    (("original",), {"operator": 1}), (("original",), {"p50_ms": 0}), (("original",), [1]),
    (("quality", "vs_original"), {"psnr_db": 30.0, "baseline": {"name": 1}}),
    (("quality", "vs_original"), {"psnr_db": 30.0, "baseline": {"name": "the input", "psnr_db": "x"}}),
    (("quality", "seam"), 0.25), (("quality", "seam"), {"seam_db": "x", "elsewhere_db": 1}),
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


@pytest.mark.parametrize("quality", [None, [], "good", {}, 3])
def test_a_result_without_quality_is_refused(make_run: Make, quality: Any) -> None:
    run = make_run("run7")
    run["quality"] = quality
    with pytest.raises(UserError, match="run run7: `quality"):
        row_from_run(run)
    del run["quality"]
    with pytest.raises(UserError, match="run run7: `quality"):
        row_from_run(run)


def test_nested_facts_end(make_run: Make) -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep, {"a": deep}] if not isinstance(deep, list) or len(str(deep)) < 99 else [deep]
    fact = row_from_run(make_run(machine={"odd": deep, "long": ["y" * 500] * 9000})).machine
    assert "…" in fact["odd"]
    assert max(map(len, fact.values())) <= LONGEST


def test_a_model_is_named_with_its_options(make_run: Make) -> None:
    assert row_from_run(make_run(case={"model": "can32", "options": {"depth": 7}})).model == "can32:depth=7"


def test_of_a_recipe_only_what_was_asked_for_is_named(make_run: Make) -> None:
    recipe = {"precision": "int8", "placement": "inputs", "shifted": True, "clipping": "minmax", "recovery": "fast",
              "kept": [], "floor_db": None}  # fmt: skip

    def words(**asked: Any) -> str:
        return row_from_run(make_run(case={"recipe": recipe | asked})).recipe

    assert words() == ""
    assert words(recovery="none") == "recovery none"
    assert words(weight_bits=8) == ""
    assert words(weight_bits=7) == "weights of 7 bits"
    assert words(clipping="best") == "best clipping"
    assert words(floor_db=42.0, kept=["conv1", "last"]) == "above 42 dB conv1, last in float"
    assert row_from_run(make_run(case={"recipe": None})).recipe == ""


@pytest.mark.parametrize(("tile", "shown"), [("off", "off"), (512, "512"), ("512", "512"), (None, "")])
def test_a_tile_is_text_or_a_number(make_run: Make, tile: Any, shown: str) -> None:
    assert row_from_run(make_run(case={"tile": tile})).tile == shown


def test_the_memory_that_tiles_were_given_is_part_of_what_they_are(make_run: Make) -> None:
    rows = [row_from_run(make_run(case={"tile": "auto", "memory_mib": mib})) for mib in (None, 1024.0, 8192.0)]
    assert [row.tile for row in rows] == ["auto", "auto in 1024 MiB", "auto in 8192 MiB"]


def test_what_a_network_replaces_has_a_time_where_it_is_an_operator(make_run: Make) -> None:
    def operator(original: Any, baseline: Any = None) -> Operator:
        quality = {"vs_original": {"psnr_db": 30.0, "baseline": baseline}}
        return row_from_run(make_run(original=original, quality=quality)).operator

    timed = {"task": "l0_smoothing", "operator": "l0_smoothing", "threads": 2, "samples_ms": [812], "p50_ms": 812}
    truth = {"task": "super-resolution x3", "operator": None, "threads": 2, "samples_ms": [], "p50_ms": None}
    assert operator(timed) == Operator("l0_smoothing", 812.0)
    bicubic = {"name": "bicubic", "psnr_db": 26.0, "identical": False}
    assert operator(truth, bicubic) == Operator("super-resolution x3", None, "bicubic", 26.0)
    same = {"name": "the input", "psnr_db": None, "identical": True}
    assert operator(timed, same) == Operator("l0_smoothing", 812.0, "the input", math.inf)
    assert operator(None) == Operator()


@pytest.mark.parametrize(
    ("seam", "shown"),
    [
        ({"seam_db": 60.5, "elsewhere_db": 61.04, "db": 0.5}, "60.5 dB at the borders, 61.0 dB elsewhere"),
        ({"seam_db": None, "elsewhere_db": None, "db": 0}, "no error at the borders, no error elsewhere"),
        (None, ""),
    ],
)
def test_the_seam_is_said_in_words(make_run: Make, seam: Any, shown: str) -> None:
    assert row_from_run(make_run(quality={"seam": seam})).seam == shown

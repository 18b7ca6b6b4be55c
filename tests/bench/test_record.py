"""Runs filled from made-up results: the roofline by hand-made numbers, disturbances, what is not published."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bench import record
from bench.case import Case
from export.network import Graph, Network
from export.recipe import Recipe
from reference_models import get
from reference_models.own_factory import Geometry, own_spec

PEAKS = {
    "fp32_gflop_s": 100.0,
    "fp32_by": "numpy",
    "fp32_all_gflop_s": {"numpy": 100.0},
    "bf16_gflop_s": None,
    "copy_gb_s": 10.0,
    "threads": 1,
    "method": "made up",
}


SETTLED = {"steady": True, "samples": [1.0]}


# The roofline


def run_of(gmac: float, min_bytes: float, p50_ms: float, engine: str = "onnxruntime", precision: str = "fp32") -> Any:
    return {
        "status": "ok", "case": {"engine": engine, "precision": precision}, "latency_ms": {"p50": p50_ms},
        "work": {"gmac": gmac, "min_bytes": min_bytes},
    }  # fmt: skip


def test_limit_of_a_case_bound_by_the_product() -> None:
    """50 GMAC = 100 GFLOP at 100 GFLOP/s is 1 s; 1 GB at 10 GB/s is 0.1 s; it took 4 s."""
    run = run_of(50, 1e9, 4000)
    record.place_under_roof(run, PEAKS)
    assert run["work"]["limit"] == "matrix product"
    assert run["work"]["limit_share"] == pytest.approx(0.25)
    assert run["work"]["gflop_per_s"] == pytest.approx(25)
    assert run["work"]["peaks"] == PEAKS


def test_limit_of_a_case_bound_by_the_copy() -> None:
    run = run_of(0.5, 1e9, 500)
    record.place_under_roof(run, PEAKS)
    assert run["work"]["limit"] == "copy"
    assert run["work"]["limit_share"] == pytest.approx(0.2)


def test_the_peak_is_that_of_the_precision() -> None:
    run = run_of(50, 0, 1000, "openvino", "bf16")
    record.place_under_roof(run, {**PEAKS, "bf16_gflop_s": 400.0})
    assert run["work"]["limit_share"] == pytest.approx(0.25)
    record.place_under_roof(run, PEAKS)
    assert run["work"]["limit_share"] is run["work"]["limit"] is None


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.1), ("int8+fp16", 0.1), ("fp8", 0.05), ("auto", None)])
def test_eight_bits_have_a_limit_where_their_rate_is_known(precision: str, share: float | None) -> None:
    """100 GFLOP at 1000 GFLOP/s is 0.1 s of the second that it took. `auto` mixes types."""
    run = run_of(50, 0, 1000, "tensorrt", precision)
    record.place_under_roof(run, {**PEAKS, "int8_gflop_s": 1000.0, "fp8_gflop_s": 2000.0})
    assert run["work"]["limit_share"] == (None if share is None else pytest.approx(share))
    record.place_under_roof(run, {**PEAKS, "int8_gflop_s": None})
    assert run["work"]["limit_share"] is run["work"]["limit"] is None


def test_what_was_not_measured_or_computes_nothing_has_no_limit() -> None:
    failed = run_of(50, 1e9, 4000) | {"status": "failed"}
    record.place_under_roof(failed, PEAKS)
    assert "limit" not in failed["work"]
    null = run_of(50, 1e9, 4000, "null")
    record.place_under_roof(null, PEAKS)
    assert null["work"]["limit_share"] is None
    assert null["work"]["gflop_per_s"] == pytest.approx(25)


def test_the_higher_of_each_peak_counts() -> None:
    before = {**PEAKS, "fp32_gflop_s": 120.0, "fp32_by": "onnxruntime", "bf16_gflop_s": 300.0, "copy_gb_s": 8.0}
    after = {**PEAKS, "fp32_gflop_s": 110.0, "fp32_by": "numpy", "bf16_gflop_s": 310.0, "copy_gb_s": 9.0}
    better = record.better_peaks(before, after)
    assert (better["fp32_gflop_s"], better["fp32_by"]) == (120.0, "onnxruntime")
    assert (better["bf16_gflop_s"], better["copy_gb_s"]) == (310.0, 9.0)
    assert record.better_peaks(after, before)["fp32_by"] == "onnxruntime"
    assert after["fp32_gflop_s"] == 110.0


def test_a_rate_that_only_one_of_them_knows_counts() -> None:
    known, unknown = {**PEAKS, "int8_gflop_s": 900.0}, {**PEAKS, "int8_gflop_s": None}
    assert record.better_peaks(known, unknown)["int8_gflop_s"] == 900
    assert record.better_peaks(unknown, known)["int8_gflop_s"] == 900
    assert record.better_peaks(unknown, unknown)["int8_gflop_s"] is None
    faster = {**PEAKS, "int8_gflop_s": 950.0}
    assert record.better_peaks(faster, known)["int8_gflop_s"] == 950


@pytest.mark.parametrize("word", ["fp32", "int8", "fp8"])
def test_the_way_of_the_higher_peak_is_named(word: str) -> None:
    before, after = ({**PEAKS, f"{word}_gflop_s": rate, f"{word}_by": by} for rate, by in ((9e9, "a"), (8e9, "b")))
    assert record.better_peaks(before, after)[f"{word}_by"] == "a"
    assert record.better_peaks(after, before)[f"{word}_by"] == "a"


def test_a_peak_that_failed_leaves_the_other() -> None:
    failed = {"failed": "out of memory"}
    assert record.better_peaks(failed, PEAKS) == PEAKS
    assert record.better_peaks(PEAKS, failed) == PEAKS
    assert record.better_peaks(failed, failed) == failed


def test_the_worst_disturbance_of_any_process_counts() -> None:
    loads = [{"steal_share": 0.01, "foreign_share": None}, {"steal_share": 0.04, "foreign_share": 0.2}]
    seen = record._disturbance([{"load": load, "series": SETTLED} for load in loads], [100.0, 80.0, 90.0, 100.0])
    assert (seen.steal_share, seen.foreign_share) == (0.04, 0.2)
    assert seen.machine_change == pytest.approx(-0.2)
    silent = [{"load": {"steal_share": None, "foreign_share": None}, "series": SETTLED}]
    assert record._disturbance(silent, [1.0]).steal_share is None


def test_a_process_that_never_settled_counts_unless_its_samples_can_show_a_drift() -> None:
    load = {"steal_share": 0.0, "foreign_share": 0.0}
    short, long = ({"steady": False, "samples": [1.0] * n} for n in (5, 6))
    results = [{"load": load, "series": series} for series in (short, long, SETTLED, short)]
    assert record._disturbance(results, [1.0]).unsettled == 2


@pytest.mark.parametrize(
    ("engine", "build_s"), [("onnxruntime", 12.5), ("openvino", 12.5), ("torch_eager", None), ("torch_compile", None)]
)
def test_a_start_is_charged_with_the_export_only_where_the_engine_reads_what_was_exported(
    engine: str, build_s: float | None, tmp_path: Path
) -> None:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in ("x", "y")]
    path = tmp_path / "main.onnx"
    save(helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])), path)
    network = Network("can24", "image", Graph(str(path), "ab", "", "", {}, "onnx"), None, (), 20, export_s=12.5)
    case = Case(get("can24"), "64x48", 64, 48, engine, "cpu", "fp32", "image", None, "untrained", 1)
    run = record.new_run(case, {})
    record.describe_network(run, case, network)
    assert run["cold_start"]["build_s"] == build_s


def test_a_run_names_weights_by_content_and_without_their_folder(tmp_path: Path) -> None:
    """Runs are published; the folders of their makers are not, and two files of one name are told apart."""
    path = tmp_path / "w.npz"
    path.write_bytes(b"weights")
    case = Case(get("can24"), "64x48", 64, 48, "null", "cpu", "fp32", "image", str(path), str(path), 1)
    run = record.new_run(case, {})
    assert run["case"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert run["case"]["weights"] == "w.npz"
    assert run["case"]["trained"] is True
    assert str(tmp_path) not in json.dumps(run)


def test_a_run_tells_the_network_from_what_was_chosen_of_it() -> None:
    """The name groups runs of one network; the options say which of its variants was measured."""
    spec = get("can", {"depth": 5, "width": "8"})
    case = Case(spec, "64x48", 64, 48, "null", "cpu", "fp32", "image", None, "untrained", 1)
    run = record.new_run(case, {})
    assert (run["case"]["model"], run["case"]["options"]) == ("can", {"depth": 5, "width": 8})
    assert record.new_run(dataclasses.replace(case, spec=get("can")), {})["case"]["options"] == {}
    assert json.loads(json.dumps(run)) == run


def own_case(onnx: str | None = None, weights: str | None = None) -> Case:
    spec = dataclasses.replace(own_spec("net", "here", "mine", Geometry(3, 3, 1)), onnx=onnx)
    return Case(spec, "64x48", 64, 48, "null", "cpu", "fp32", None, weights or onnx, "w.pt" if weights else "x", 1)


def test_weights_of_a_network_of_one_s_own_are_not_ours_to_judge(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"weights")

    def told(case: Case) -> tuple[object, ...]:
        found = record.new_run(case, {})["case"]
        return found["weights"], found["trained"], found["weights_known"]

    assert told(own_case()) == ("its own", True, False)
    assert told(own_case(onnx=str(path))) == ("its own", True, False)
    assert told(own_case(weights=str(path))) == ("w.pt", True, True)
    ours = Case(get("can24"), "64x48", 64, 48, "null", "cpu", "fp32", "image", None, "untrained", 1)
    assert told(ours) == ("untrained", False, True)


def test_a_run_names_its_network_by_content_wherever_its_file_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"graph")
    first, second = (record.new_run(own_case(onnx=str(tmp_path / name)), {})["case"] for name in ("a", "b"))
    assert first == second
    assert first["network_sha256"] != record.new_run(own_case(), {})["case"]["network_sha256"]
    assert len(first["network_sha256"]) == 64


def test_shapes_of_a_run_are_those_of_the_tensors_and_of_what_is_kept() -> None:
    spec = dataclasses.replace(get("can24"), input_planes=1, output_planes=2, upscale=3, size_multiple=8)
    case = Case(spec, "64x48", 64, 48, "null", "cpu", "fp32", "image", None, "untrained", 1)
    run = record.new_run(case, {})
    assert run["case"]["input_shape"] == [1, 1, 16, 24]  # 22x16 pixels, padded to eights
    assert run["case"]["output_shape"] == [1, 2, 48, 64]


# Quantised precisions


def quantised_case() -> Case:
    recipe = Recipe("int8", "integer", True, kept=("last",))
    return Case(
        get("can24"), "64x48", 64, 48, "onnxruntime", "cpu", "int8", "image", None, "untrained", 1, recipe=recipe
    )


def test_a_run_says_by_which_recipe_its_graph_was_made_as_the_file_will_have_it() -> None:
    run = record.new_run(quantised_case(), {})
    assert run["case"]["recipe"] == {
        "precision": "int8", "placement": "integer", "shifted": True, "clipping": "minmax", "recovery": "fast",
        "kept": ["last"], "floor_db": None,
    }  # fmt: skip
    assert json.loads(json.dumps(run)) == run
    plain = dataclasses.replace(quantised_case(), recipe=None, precision="fp32")
    assert record.new_run(plain, {})["case"]["recipe"] is None


def test_a_run_has_how_its_graph_came_to_be_and_which_types_the_engine_proved(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in ("x", "y")]
    path = tmp_path / "main.onnx"
    save(helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])), path)
    told = {"layers": {"last": "int8"}}
    network = Network("can24", "image", Graph(str(path), "ab", "", "", {}, "onnx"), None, (), 20, lowering=told)
    run = record.new_run(quantised_case(), {})
    record.describe_network(run, quantised_case(), network)
    assert run["lowering"] == told
    series = {"samples": [1.0, 1.0], "warmup": [1.0], "first": 2.0, "steady": True}
    result = {
        "series": series, "load_s": 0.1, "contract": {}, "host_peak_mib": 1.0, "host_baseline_mib": 0.5,
        "device_peak_mib": None, "load": {"steal_share": None, "foreign_share": None},
    }  # fmt: skip
    tiling = {"count": 2, "memory": {"host_predicted_mib": 9.0}}
    results = [result | {"layer_types": {"last": "int8"}, "tiling": tiling}, result]  # the first process alone asks
    for _ in results:  # after every process, over all of them again
        record.update(run, quantised_case(), results, [1.0, 1.0], PEAKS)
    assert (run["tiling"], run["memory"]["host_predicted_mib"]) == ({"count": 2}, 9.0)
    assert run["layer_types"] == {"last": "int8"}
    assert (run["latency_ms"]["enqueue"], run["latency_ms"]["device"]) == (None, None)
    assert (run["work"]["limit"], run["work"]["limit_share"]) == (None, None)  # no peak of int8 is measured


def test_what_the_device_s_clock_says_stands_beside_the_host_s() -> None:
    series = [{"enqueue": [0.1, 0.3, 0.2], "compute": [4.0, 5.0, 6.0]}, {"enqueue": [0.4] * 3, "compute": [7.0] * 3}]
    results = [{"series": s, "transfers": {"h2d": n, "d2h": 2 * n}} for n, s in enumerate(series, 1)]
    found = record._device_figures(results)
    assert found["enqueue"] == pytest.approx(0.3)
    assert (found["device"]["compute"]["p50"], found["device"]["h2d"], found["device"]["d2h"]) == (6.0, 1.5, 3.0)
    assert found["device"]["compute"]["samples"] == [[4.0, 5.0, 6.0], [7.0] * 3]
    cpu = [{"series": {"enqueue": [], "compute": []}, "transfers": None}]
    assert record._device_figures(cpu) == {"enqueue": None, "device": None}


def test_several_inferences_in_flight_count_each_for_throughput_and_limit() -> None:
    run = run_of(50, 1e9, 4000) | {"contract": {"in_flight": 4}}
    record.place_under_roof(run, PEAKS)
    assert run["work"]["limit_share"] == pytest.approx(1.0)

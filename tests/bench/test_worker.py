"""The worker's jobs, in processes of their own as the product runs them, at 64x48."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import worker
from bench.spawn import Event, JobFailed, run_job
from reference_models import get

SHAPE = (1, 3, 48, 64)
CAN24 = get("can24").to_json()
MIB = 1 << 20


@pytest.fixture(scope="module")
def prepared(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Inputs, networks and references of can24 with published and frozen statistics, made by a worker."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    paths = [str(folder / f"{number}.npy") for number in range(2)]
    for path in paths:
        np.save(path, random.random(SHAPE, dtype=np.float32))
    job = {
        "job": "prepare", "spec": CAN24, "weights": None, "statistics": ["image"], "calibration": None,
        "threads": 1, "inputs": {path: path for path in paths},
    }  # fmt: skip
    return {"inputs": paths, **run_job(job)}


def case_job(prepared: dict[str, Any], engine: str, **more: Any) -> dict[str, Any]:
    paths = prepared["inputs"]
    case = {
        "spec": CAN24, "engine": engine, "device": "cpu", "precision": "fp32", "threads": 1, "settings": {},
    }  # fmt: skip
    return {
        "job": "case",
        "case": case,
        "network": prepared["networks"]["image"],
        "inputs": paths,
        "output_shape": SHAPE,
        "rule": {"budget_s": 0.2, "max_samples": 20},
        "judge": True,
        "references": [prepared["references"]["image"][path] for path in paths],
        "parities": [prepared["references"]["image"][path] for path in paths],
        "pictures": {},
        **more,
    }


# A case


def test_a_case_gives_its_series_memory_contract_and_quality(prepared: dict[str, Any]) -> None:
    events: list[Event] = []
    found = run_job(case_job(prepared, "onnxruntime"), on_event=events.append)
    series = found["series"]
    assert series["first"] > 0
    assert series["warmup"]
    assert 3 <= len(series["samples"]) <= 20
    assert isinstance(series["steady"], bool)
    assert 0 < found["host_baseline_mib"] < found["host_peak_mib"] < 4096
    assert found["device_peak_mib"] is None
    assert found["load_s"] > 0
    assert found["contract"]["threads"] == 1
    assert set(found["load"]) == {"steal_share", "foreign_share", "wall_s"}
    assert [e["name"] for e in events if e["event"] == "phase"] == ["load", "measure", "energy", "judge"]
    for kind in ("vs_reference", "vs_same_statistics"):
        quality = found["quality"][kind]
        assert quality["finite"] is True
        assert quality["identical"] or quality["psnr_db"] > 80
        assert len(quality["pictures"]) == 2


def test_quality_is_judged_once_and_only_where_asked(prepared: dict[str, Any]) -> None:
    assert "quality" not in run_job(case_job(prepared, "onnxruntime", judge=False))


def test_null_computes_nothing_that_could_be_judged(prepared: dict[str, Any]) -> None:
    assert "quality" not in run_job(case_job(prepared, "null"))


def test_a_wrong_output_looks_wrong(prepared: dict[str, Any], tmp_path: Path) -> None:
    """References of another picture: the judge compares with what it was given, picture by picture."""
    job = case_job(prepared, "onnxruntime")
    job["references"] = job["references"][::-1]
    quality = run_job(job)["quality"]
    assert quality["vs_reference"]["psnr_db"] < 60
    assert quality["vs_same_statistics"]["identical"] or quality["vs_same_statistics"]["psnr_db"] > 80


def test_the_pictures_that_go_in_and_come_out_are_written(prepared: dict[str, Any], tmp_path: Path) -> None:
    from reference_models.colour import picture_from_tensor
    from reference_models.pictures import read_picture

    pictures = {kind: str(tmp_path / f"{kind}.png") for kind in ("input", "reference", "output")}
    source = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    np.save(tmp_path / "source.npy", source)
    run_job(case_job(prepared, "onnxruntime", pictures=pictures, sources=[str(tmp_path / "source.npy")]))
    expected = picture_from_tensor(np.load(case_job(prepared, "null")["references"][0]), get("can24"), source)
    assert np.array_equal(read_picture(pictures["input"]), source)
    assert np.array_equal(read_picture(pictures["reference"]), expected)
    assert np.abs(read_picture(pictures["output"]).astype(int) - expected.astype(int)).max() <= 1


def test_a_case_of_an_onnx_engine_never_loads_torch(prepared: dict[str, Any]) -> None:
    """Its peak memory would be torch's."""
    code = (
        "import json, sys; from bench import worker; job = json.load(sys.stdin);"
        "worker.job_case(job, lambda event, **fields: None); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(case_job(prepared, "onnxruntime")), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-1] == "False"


def test_an_engine_that_does_not_exist_is_wrong_use(prepared: dict[str, Any]) -> None:
    with pytest.raises(JobFailed) as caught:
        run_job(case_job(prepared, "onnxruntme"))
    assert caught.value.user_error is not None
    assert caught.value.user_error.todo == "Did you mean onnxruntime?"


def test_a_rule_that_does_not_exist_is_a_failure_with_its_name(prepared: dict[str, Any]) -> None:
    with pytest.raises(JobFailed, match=r"^TypeError: .*fastest"):
        run_job(case_job(prepared, "null", rule={"fastest": 1}))


# The worst of several pictures


def judged(psnr: float | None, ssim: float | None, largest: float | None, finite: bool = True) -> dict[str, Any]:
    identical = finite and psnr is None
    return {"psnr_db": psnr, "ssim": ssim, "max_abs": largest, "identical": identical, "finite": finite}


def test_the_worst_of_each_figure_counts() -> None:
    assert worker._worst([judged(50.0, 0.9, 0.1), judged(40.0, 0.99, 0.2)]) == judged(40.0, 0.9, 0.2)


def test_identical_only_where_every_picture_is() -> None:
    assert worker._worst([judged(None, 1.0, 0.0), judged(None, 1.0, 0.0)]) == judged(None, 1.0, 0.0)
    assert worker._worst([judged(None, 1.0, 0.0), judged(90.0, 0.99, 0.01)]) == judged(90.0, 0.99, 0.01)


def test_one_broken_picture_breaks_all() -> None:
    broken = judged(None, None, None, finite=False)
    assert worker._worst([judged(50.0, 0.9, 0.1), broken]) == broken


def test_pictures_too_small_for_ssim_have_none() -> None:
    assert worker._worst([judged(50.0, None, 0.1)])["ssim"] is None


# Memory


def test_peak_memory_remembers_what_was_freed() -> None:
    code = (
        "from bench.worker import peak_host_mib, resident_host_mib as now;"
        "before = now(); x = b'x' * (200 << 20); full = now(); del x; print(before, full, now(), peak_host_mib())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, full, after, peak = map(float, done.stdout.split())
    assert full - before == pytest.approx(200, abs=2)
    assert after - before < 2
    assert peak == pytest.approx(full, abs=2)


# Other jobs


def test_apply_writes_every_picture_and_names_those_that_fail(prepared: dict[str, Any], tmp_path: Path) -> None:
    from reference_models.pictures import read_picture, write_picture

    random = np.random.default_rng(1)
    good, other = tmp_path / "a.png", tmp_path / "b.png"
    write_picture(good, random.integers(0, 256, (20, 30, 3), np.uint8))
    write_picture(other, random.integers(0, 256, (16, 16, 3), np.uint8))
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"not a picture")
    targets = {path: tmp_path / f"out-{path.name}" for path in (good, bad, other)}
    events: list[Event] = []
    job = {
        "job": "apply", "spec": CAN24, "network": prepared["networks"]["image"], "engine": "onnxruntime",
        "device": "cpu", "precision": "fp32", "threads": 1, "settings": {},
        "pictures": [[str(source), str(target)] for source, target in targets.items()],
    }  # fmt: skip
    failed = run_job(job, on_event=events.append)["failed"]
    assert [source for source, _ in failed] == [str(bad)]
    assert "broken.png" in failed[0][1]
    assert [e["name"] for e in events if e["event"] == "picture"] == ["a.png", "broken.png", "b.png"]
    assert read_picture(targets[good]).shape == (20, 30, 3)
    assert read_picture(targets[other]).shape == (16, 16, 3)
    assert not targets[bad].exists()


def test_peaks_are_those_of_bench_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import peaks

    monkeypatch.setattr(peaks, "measure_peaks", lambda *arguments: {"asked": arguments})
    job = {"device": "cpu", "threads": 2, "bf16": True}
    assert worker.job_peaks(job, lambda *_: None) == {"asked": ("cpu", 2, True)}


# What the engine built


def quantised(prepared: dict[str, Any], **layers: str) -> str:
    """The FP32 network, said to have been quantised."""
    import onnx

    network = json.loads(prepared["networks"]["image"])
    nodes: dict[str, str] = {}
    for node in onnx.load(network["main"]["onnx_path"]).graph.node:
        nodes.setdefault(node.op_type, node.name)
    said = {"layers": layers, "nodes": dict.fromkeys(layers, nodes["Conv"])}
    return json.dumps(network | {"precision": "int8", "lowering": said})


def test_a_plan_that_silently_stayed_in_float_fails_and_its_layers_are_named(prepared: dict[str, Any]) -> None:
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(JobFailed, match=rf"{engine} did not quantise 1 of .*: convs\.0 \(fp32\)"):
            run_job(case_job(prepared, engine, network=quantised(prepared, **{"convs.0": "int8"})))


def test_types_of_layers_are_asked_for_once_and_not_of_fp32(prepared: dict[str, Any]) -> None:
    kept = quantised(prepared, **{"convs.0": "fp32"})
    assert run_job(case_job(prepared, "onnxruntime", network=kept))["layer_types"] == {"convs.0": "fp32"}
    assert "layer_types" not in run_job(case_job(prepared, "onnxruntime", network=kept, judge=False))
    assert run_job(case_job(prepared, "onnxruntime"))["layer_types"] is None


# Ways of use, and what stands beside the samples


def test_a_case_tells_of_waiting_of_the_machine_and_of_energy(prepared: dict[str, Any]) -> None:
    found = run_job(case_job(prepared, "null", rule={"budget_s": 0.2, "max_samples": 20}))
    assert found["use"] == {}
    assert (found["own"]["own_ms"] is None) == bool(found["own"]["why"])
    assert set(found["telemetry"].get("load", {"least": 0, "median": 0, "most": 0})) == {"least", "median", "most"}
    assert (found["energy"]["joules"] is None) == bool(found["energy"]["reason"])


@pytest.mark.parametrize(
    ("way", "told", "in_flight"),
    [("50 fps", "due", 1), ("2 in flight", "throughput_fps", 2), ("picture to picture", "ends_ms", 1)],
)
def test_every_way_of_use_comes_with_its_contract(
    prepared: dict[str, Any], tmp_path: Path, way: str, told: str, in_flight: int
) -> None:
    height, width = SHAPE[2:]
    np.save(tmp_path / "source.npy", np.zeros((height, width, 3), np.uint8))
    job = case_job(prepared, "null", sources=[str(tmp_path / "source.npy")])
    found = run_job({**job, "case": {**job["case"], "way": way}})
    assert told in found["use"]
    assert found["contract"]["way"] == way
    assert found["contract"]["in_flight"] == in_flight
    included = str(found["contract"].get("pre_post_processing", "")).startswith("included")
    assert included == (way == "picture to picture")

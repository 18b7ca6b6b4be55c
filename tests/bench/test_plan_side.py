"""A plan as a side of `bench ab`: what its sidecar says becomes a case; what it was not built for is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bench.plan_side
import engines
from bench.plan_side import PlanTurn, PlanWords, case_of_plan, new_run
from bench.record import facts
from bench.spawn import JobFailed
from bench.ways import Way
from engines.sidecar import sidecar_path
from reference_models.errors import UserError

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `bench build` writes for a small network and ONNX Runtime."""
    from bench.cli import main

    path = tmp_path_factory.mktemp("plan") / "net.onnx"
    words = ("build", "--model", "can:depth=3:width=8", "--engine", "onnxruntime", "--precision", "fp32")
    assert main([*words, "--output", str(path)]) == 0
    return path


def test_its_sidecar_says_what_is_measured(plan: Path) -> None:
    case = case_of_plan(plan, PlanWords("64x48", "cpu", 1, Way(pace_fps=30.0)))
    assert (case.engine, case.precision, case.device, case.threads) == ("onnxruntime", "fp32", "cpu", 1)
    assert (case.model, case.input_shape, case.way) == ("can depth=3 width=8", (1, 3, 48, 64), "30 fps")
    run = new_run(plan, case, facts([], []))
    told = json.loads(sidecar_path(plan).read_text())
    assert run["case"]["plan_sha256"] == told["plan"]["sha256"]
    assert run["memory"]["plan_mib"] == pytest.approx(plan.stat().st_size / 2**20)


def test_what_is_no_plan_or_not_for_this_size_is_refused(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        case_of_plan(tmp_path / "none.plan", PlanWords("64x48"))
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(plan.read_bytes())
    with pytest.raises(UserError, match="Copy it too"):
        case_of_plan(alone, PlanWords("64x48"))
    told = json.loads(sidecar_path(plan).read_text())
    told["sizes"] = [{"resolution": "720p", "least": [100, 100], "tuned": [720, 1280], "most": [720, 1280]}]
    sidecar_path(alone).write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"was not built for 64x48.*720p"):
        case_of_plan(alone, PlanWords("64x48"))
    assert case_of_plan(alone, PlanWords("720p")).width == 1280


def test_a_plan_on_pictures_is_asked_for_pictures_and_one_with_code_is_refused(plan: Path, tmp_path: Path) -> None:
    """Its sizes are those of the picture: srcnn_915 enlarges it threefold before the network, inside of the plan."""
    from bench.cli import main

    path = tmp_path / "pictures.onnx"
    words = ("build", "--model", "srcnn_915", "--engine", "onnxruntime", "--set", "onnxruntime.ends=picture")
    assert main([*words, "--output", str(path)]) == 0
    told = json.loads(sidecar_path(path).read_text())
    told["sizes"] = [{"resolution": "100x61", "least": [21, 34], "tuned": [21, 34], "most": [21, 34]}]
    sidecar_path(path).write_text(json.dumps(told))
    assert case_of_plan(path, PlanWords("100x61", "cpu")).settings["ends"] == "picture"
    with pytest.raises(UserError, match="was not built for 20x20"):
        case_of_plan(path, PlanWords("60x60", "cpu"))
    told["engine"] |= {"name": "tensorrt", "settings": {"version_compatible": "on"}}
    sidecar_path(path).write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"holds a runtime, which is code.*Build it with version_compatible=excluded"):
        case_of_plan(path, PlanWords("100x61", "cpu"))


def test_a_machine_with_the_lean_runtime_alone_can_run_what_it_can_load(monkeypatch: pytest.MonkeyPatch) -> None:
    api = type(engines.get("tensorrt").api)
    monkeypatch.setattr(api, "missing", lambda self: "not installed")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "tensorrt_lean" else None)
    settings = engines.get("tensorrt").complete_settings({})
    assert engines.get("tensorrt").plan_missing(settings) == "not installed"
    assert engines.get("tensorrt").plan_missing({**settings, "version_compatible": "excluded"}) is None
    monkeypatch.undo()
    assert engines.get("onnxruntime").plan_missing({}) is None


def test_a_turn_is_a_real_process_of_the_plan(plan: Path, tmp_path: Path) -> None:
    import numpy as np

    case = case_of_plan(plan, PlanWords("64x48", "cpu", 1))
    turn = PlanTurn(plan, case, new_run(plan, case, facts([], [])), 0.1, tmp_path, [np.zeros((48, 64, 3), np.uint8)])
    turn()
    run = turn()
    assert run["status"] == "ok", run["reason"]
    assert len(run["latency_ms"]["samples"]) == 2
    assert run["work"]["gmac"] is None


def test_a_process_that_fails_is_the_end_of_its_side(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    calls = []

    def fails(*_: object) -> Any:
        calls.append(1)
        raise JobFailed("killed")

    monkeypatch.setattr(bench.plan_side, "run_job", fails)
    case = case_of_plan(plan, PlanWords("64x48", "cpu", 1))
    run = new_run(plan, case, facts([], []))
    turn = PlanTurn(plan, case, run, 0.1, tmp_path, [np.zeros((48, 64, 3), np.uint8)])
    assert [turn()["status"], turn()["status"]] == ["failed", "failed"]
    assert len(calls) == 1


def test_two_plans_are_compared_without_a_model(
    command: Command, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are made up; the plans, their sizes and the verdict are real."""
    larger = tmp_path / "larger.onnx"
    larger.write_bytes(plan.read_bytes() + b"\0" * 100_000)
    told = json.loads(sidecar_path(plan).read_text())
    import hashlib

    told["plan"] |= {"sha256": hashlib.sha256(larger.read_bytes()).hexdigest(), "bytes": larger.stat().st_size}
    sidecar_path(larger).write_text(json.dumps(told))
    ms = iter(10 + 0.001 * k for k in range(1000))

    def run_job(job: Any, *_: Any) -> dict[str, Any]:
        took = next(ms)
        return {"series": {"first": took, "warmup": [took], "samples": [took] * 9, "steady": True}, "load_s": 0.1,
                "load": {"steal_share": 0.0, "foreign_share": 0.0, "wall_s": 1.0}, "contract": {"threads": 1},
                "host_peak_mib": 100.0, "host_baseline_mib": 50.0, "device_peak_mib": None}  # fmt: skip

    monkeypatch.setattr(bench.plan_side, "run_job", run_job)
    monkeypatch.setattr(bench.plan_side, "_rate", lambda: 100.0)
    words = ("ab", "--res", "64x48", "--threads", "1", "--a", f"plan:{plan}", "--b", f"plan:{larger}")
    done = command(*words, "--json", tmp_path / "r.json", "--max", "latency:5%", "--max", "plan_size:5%")
    assert done.code == 3, done
    assert "plan_size" in done.out
    for wrong, named in (
        (("--a", "null", "--b", f"plan:{plan}"), "--model"),
        (("--a", f"plan:{plan},null", "--b", f"plan:{plan}"), "plan:FILE alone"),
        (("--a", f"plan:{tmp_path}/none", "--b", f"plan:{plan}"), "no such file"),
        ((*words[5:], "--precision", "int8"), "`--precision`: both sides are plans"),
        ((*words[5:], "--model", "can24"), "`--model`: both sides are plans"),
        ((*words[5:], "--tile=256"), "`--tile`: both sides are plans"),
        ((*words[5:], "--precision", "fp32"), "`--precision`: both sides are plans"),
    ):
        command("ab", "--res", "64x48", *wrong).assert_refused(named)

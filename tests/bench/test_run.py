"""Cases → runs at 64x48, with real workers; only the machine's peaks, which take seconds, are made up."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import record, store
from bench import run as run_module
from bench.case import Case, Request, expand
from bench.layers import Layers
from bench.run import Plan, execute
from bench.spawn import JobFailed, run_job
from reference_models import get
from reference_models.errors import UserError

PEAKS = {
    "fp32_gflop_s": 100.0, "fp32_by": "numpy", "fp32_all_gflop_s": {"numpy": 100.0}, "bf16_gflop_s": None,
    "copy_gb_s": 10.0, "threads": 1, "method": "made up",
}  # fmt: skip
NUMBER = (int, float)

Jobs = list[dict[str, Any]]
MakePlan = Callable[..., Plan]


class Silent:
    """A reporter that remembers the titles of its stages."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.shown: list[tuple[float, str]] = []

    @contextmanager
    def stage(self, title: str, total: float | None = None) -> Iterator[Callable[[float, str], None]]:
        self.titles.append(title)
        yield lambda done, doing: self.shown.append((done, doing))


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Every job that is started; the machine's peaks and rate are made up, all else is run."""
    started: Jobs = []

    def call(job: Mapping[str, Any], environment: Mapping[str, str] | None = None, *more: Any) -> dict[str, Any]:
        started.append({**job, "environment": dict(environment or {})})
        return dict(PEAKS) if job["job"] == "peaks" else run_job(job, environment, *more)

    monkeypatch.setattr(run_module, "run_job", call)
    monkeypatch.setattr(run_module, "_machine_rate", lambda: 100.0)
    return started


@pytest.fixture
def plan(cache: Path, tmp_path: Path) -> MakePlan:
    """`plan(engines, …)`: a plan for can24 at 64x48 with one picture, two processes and half a second a case."""

    def make(engines: tuple[str, ...] = ("null", "onnxruntime"), precisions: tuple[str, ...] = ("fp32",), **more: Any):
        request = Request(["can24"], ["64x48"], engines, precisions, device="cpu", threads=1)
        cases, left_out = expand(request)
        random = np.random.default_rng(3)
        standard: dict[str, Any] = {
            "cases": cases,
            "left_out": left_out,
            "pictures": [("noise.png", random.integers(0, 256, (48, 64, 3), np.uint8))],
            "store_path": tmp_path / "runs.json",
            "picture_folder": None,
            "calibration": None,
            "calibration_sha256": [],
            "budget_s": 0.4,
            "processes": 2,
            "argv": ["run", "--model", "can24"],
        }
        return Plan(**{**standard, **more})

    return make


def fail_at(monkeypatch: pytest.MonkeyPatch, when: Callable[[Mapping[str, Any], int], BaseException | None]) -> None:
    """Lets `when(job, number of cases started before it)` give what the job raises instead of being run."""
    run_before, started = run_module.run_job, 0

    def call(job: Mapping[str, Any], *more: Any) -> dict[str, Any]:
        nonlocal started
        error = when(job, started)
        started += job["job"] == "case"
        if error:
            raise error
        return run_before(job, *more)

    monkeypatch.setattr(run_module, "run_job", call)


def check_fixed_keys(run: dict[str, Any]) -> None:
    """The keys of the runs file that other programs rely on, and the types of their values, in every status."""
    types: dict[str, Any] = {
        "id": str, "case": dict, "status": str, "reason": (str, type(None)), "contract": dict,
        "latency_ms": (dict, type(None)), "throughput_fps": (float, type(None)), "cold_start": dict, "memory": dict,
        "quality": dict, "work": (dict, type(None)), "energy": (dict, type(None)), "machine": dict, "versions": dict,
        "commit": (str, type(None)), "argv": list, "unstable": list,
    }  # fmt: skip
    missing = [key for key in types if key not in run]
    assert missing == []
    assert {key: type(run[key]) for key, kind in types.items() if not isinstance(run[key], kind)} == {}
    assert run["status"] in ("ok", "failed", "skipped")
    assert (run["reason"] is None) == (run["status"] == "ok")
    case_types: dict[str, Any] = {
        "model": str, "weights": str, "trained": bool, "resolution": str, "input_shape": list, "output_shape": list,
        "engine": str, "device": str, "precision": str, "statistics": (str, type(None)), "tile": str,
    }  # fmt: skip
    assert {key for key, kind in case_types.items() if not isinstance(run["case"].get(key), kind)} == set()
    assert {"build_s", "load_s", "first_ms"} <= set(run["cold_start"])
    assert {"host_peak_mib", "device_peak_mib", "plan_mib", "weights_mib"} <= set(run["memory"])
    assert {"vs_reference", "vs_original", "convention"} <= set(run["quality"])
    assert {"channels", "range", "border"} <= set(run["quality"]["convention"])
    assert json.loads(json.dumps(run, allow_nan=False)) == run


def check_measured(run: dict[str, Any]) -> None:
    latency = run["latency_ms"]
    assert {"samples", "warmup", "p50", "p90", "p95", "p99", "ci95", "enqueue"} <= set(latency)
    assert all(isinstance(sample, float) and sample > 0 for samples in latency["samples"] for sample in samples)
    assert latency["p50"] > 0
    assert latency["ci95"] is None or latency["ci95"][0] <= latency["p50"] <= latency["ci95"][1]
    assert run["throughput_fps"] == pytest.approx(1e3 / latency["p50"])
    assert run["work"]["mpixel_per_s"] == pytest.approx(64 * 48 / 1e6 / (latency["p50"] / 1e3))
    assert {"gmac", "min_bytes", "peaks", "limit_share"} <= set(run["work"])
    for key in ("build_s", "load_s", "first_ms"):
        assert isinstance(run["cold_start"][key], NUMBER)
    assert isinstance(run["memory"]["host_peak_mib"], NUMBER)
    assert max(run["memory"]["host_peak_mib_all"]) == run["memory"]["host_peak_mib"]
    assert len(run["memory"]["host_peak_mib_all"]) == len(latency["samples"])
    for words in ("transfers", "pre_post_processing", "graph_capture", "synchronisation", "streams", "l2_state"):
        assert words in run["contract"]


# Everything measured


@pytest.fixture(scope="module")
def measured(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Jobs, Silent, Path]:
    """null and onnxruntime in two processes each, bf16 left out, two pictures, outputs written."""
    folder = tmp_path_factory.mktemp("measured")
    request = Request(["can24"], ["64x48"], ["null", "onnxruntime"], ("fp32", "bf16"), device="cpu", threads=1)
    cases, left_out = expand(request)
    random = np.random.default_rng(4)
    pictures = [(f"{i}.png", random.integers(0, 256, (48, 64, 3), np.uint8)) for i in range(2)]
    plan = Plan(cases, left_out, pictures, folder / "runs.json", folder, None, [], 0.4, 2, ["run"])
    started: Jobs = []

    def call(job: Mapping[str, Any], environment: Mapping[str, str] | None = None, *more: Any) -> dict[str, Any]:
        started.append({**job, "environment": dict(environment or {})})
        return dict(PEAKS) if job["job"] == "peaks" else run_job(job, environment, *more)

    reporter = Silent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "run_job", call)
        patch.setattr(run_module, "_machine_rate", lambda: 100.0)
        return execute(plan, reporter), started, reporter, folder


Measured = tuple[list[dict[str, Any]], Jobs, Silent, Path]


def test_runs_are_those_of_the_plan_and_in_its_order(measured: Measured) -> None:
    runs = measured[0]
    rows = [(run["case"]["engine"], run["case"]["precision"], run["status"]) for run in runs]
    assert rows == [
        ("null", "fp32", "ok"), ("onnxruntime", "fp32", "ok"), ("null", "bf16", "skipped"),
        ("onnxruntime", "bf16", "skipped"),
    ]  # fmt: skip
    assert len({run["id"] for run in runs}) == 4


@pytest.mark.parametrize("index", [0, 1])
def test_a_measured_run_has_every_fixed_key(index: int, measured: Measured) -> None:
    check_fixed_keys(measured[0][index])
    check_measured(measured[0][index])


@pytest.mark.parametrize("index", [2, 3])
def test_a_run_left_out_has_every_fixed_key_and_its_reason(index: int, measured: Measured) -> None:
    check_fixed_keys(measured[0][index])
    assert "no bf16 on cpu" in measured[0][index]["reason"]


def test_what_is_returned_is_what_is_stored(measured: Measured) -> None:
    runs, _, _, folder = measured
    by_id = {run["id"]: run for run in store.load(folder / "runs.json")}
    assert by_id == {run["id"]: run for run in runs}


def test_two_processes_give_two_lists_of_samples_in_turn(measured: Measured) -> None:
    runs, jobs, reporter, _ = measured
    for run in runs[:2]:
        assert len(run["latency_ms"]["samples"]) == len(run["latency_ms"]["warmup"]) == 2
        assert all(len(samples) >= 3 for samples in run["latency_ms"]["samples"])
        assert run["latency_ms"]["ci95_of"] == "median over processes"
        assert len(run["machine_gflop_s"]) == 4
    order = [job["case"]["engine"] for job in jobs if job["job"] == "case"]
    assert order == ["null", "onnxruntime", "null", "onnxruntime"]
    assert [re.sub(r", about \d+ (s|min) left", ", S left", title) for title in reporter.titles] == [
        "prepare can24", "machine's peaks", "case 1 of 2 · can24 64x48 null fp32 image · process 1",
        "case 2 of 2 · can24 64x48 onnxruntime fp32 image · process 1",
        "case 1 of 2, S left · can24 64x48 null fp32 image · process 2",
        "case 2 of 2, S left · can24 64x48 onnxruntime fp32 image · process 2", "machine's peaks",
    ]  # fmt: skip


def test_peaks_are_measured_before_and_after(measured: Measured) -> None:
    assert [job["job"] for job in measured[1]] == ["prepare", "peaks", "case", "case", "case", "case", "peaks"]


def test_workers_get_as_many_threads_as_the_case(measured: Measured) -> None:
    for job in measured[1]:
        if job["job"] in ("case", "peaks"):
            assert job["environment"]["OMP_NUM_THREADS"] == "1"


def test_each_process_gets_its_share_of_the_budget(measured: Measured) -> None:
    assert [job["rule"] for job in measured[1] if job["job"] == "case"] == [{"budget_s": 0.2}] * 4


def test_null_has_no_quality_and_no_limit(measured: Measured) -> None:
    null, real = measured[0][:2]
    assert null["quality"]["vs_reference"] is None
    assert null["work"]["limit_share"] is None
    assert real["quality"]["vs_reference"]["finite"] is True
    assert real["work"]["limit_share"] > 0


def test_quality_is_judged_in_the_first_process_over_all_pictures(measured: Measured) -> None:
    runs, jobs = measured[:2]
    quality = runs[1]["quality"]["vs_reference"]
    figures = [each["max_abs"] for each in quality["pictures"]]
    assert len(figures) == 2
    assert quality["max_abs"] == max(figures)
    assert [job["judge"] for job in jobs if job["job"] == "case"] == [True, True, False, False]
    assert runs[1]["pictures"] == ["0.png", "1.png"]
    assert len(set(runs[1]["pictures_sha256"])) == 2


def test_outputs_are_written_for_engines_that_compute(measured: Measured) -> None:
    from reference_models.pictures import read_picture

    runs, folder = measured[0], measured[3]
    kinds = ("input", "onnxruntime-fp32-image", "reference")
    expected = [f"can24-l0_smoothing-64x48-{kind}.png" for kind in kinds]
    assert sorted(path.name for path in folder.glob("*.png")) == expected
    assert all(read_picture(folder / name).shape == (48, 64, 3) for name in expected)
    assert sorted(next(r for r in runs if r["case"]["engine"] == "onnxruntime")["picture_files"].values()) == expected


def test_weights_are_marked(measured: Measured) -> None:
    assert all(run["case"]["trained"] is True and run["case"]["weights"] == "l0_smoothing" for run in measured[0])


# Several pictures: the worst counts


@pytest.mark.usefixtures("jobs")
def test_the_worst_picture_counts(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that is off by 0.1 for the second picture alone."""
    random = np.random.default_rng(6)
    pictures = [(name, random.integers(0, 256, (48, 64, 3), np.uint8)) for name in ("a", "b")]
    run_before = run_module.run_job

    def spoilt(job: Mapping[str, Any], *more: Any) -> dict[str, Any]:
        if job["job"] == "case":
            wrong = Path(job["inputs"][1]).with_name("wrong.npy")
            np.save(wrong, np.load(job["references"][1]) + np.float32(0.1))
            job = {**job, "references": [job["references"][0], str(wrong)]}
        return run_before(job, *more)

    monkeypatch.setattr(run_module, "run_job", spoilt)
    quality = execute(plan(("onnxruntime",), pictures=pictures, processes=1), Silent())[0]["quality"]
    assert quality["vs_reference"]["psnr_db"] == pytest.approx(20, abs=0.01)
    assert quality["vs_same_statistics"]["max_abs"] < 1e-3


# Failures


@pytest.mark.usefixtures("jobs")
def test_a_case_that_fails_is_a_row_and_the_others_are_measured(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Mapping[str, Any], _: int) -> BaseException | None:
        broken = job["job"] == "case" and job["case"]["engine"] == "onnxruntime"
        return JobFailed("the worker died of SIGSEGV", "what it said") if broken else None

    fail_at(monkeypatch, fail)
    wanted = plan(("onnxruntime", "null"))
    failed, ok = execute(wanted, Silent())
    assert (failed["status"], failed["reason"], failed["log"]) == (
        "failed", "the worker died of SIGSEGV", "what it said",
    )  # fmt: skip
    check_fixed_keys(failed)
    assert ok["status"] == "ok"
    assert len(ok["latency_ms"]["samples"]) == 2
    assert {run["status"] for run in store.load(wanted.store_path)} == {"failed", "ok"}


@pytest.mark.usefixtures("jobs")
def test_a_case_that_fails_in_its_second_process_is_no_result(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, lambda job, started: JobFailed("crash") if job["job"] == "case" and started == 1 else None)
    (run,) = execute(plan(("null",), processes=3), Silent())
    assert (run["status"], run["reason"]) == ("failed", "crash")
    assert len(run["latency_ms"]["samples"]) == 1
    check_fixed_keys(run)


@pytest.mark.usefixtures("jobs")
def test_a_network_that_cannot_be_exported_fails_its_cases_alone(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, lambda job, _: JobFailed("out of memory", "log") if job["job"] == "prepare" else None)
    runs = execute(plan(), Silent())
    assert [run["reason"] for run in runs] == ["could not be exported: out of memory"] * 2
    for run in runs:
        check_fixed_keys(run)


@pytest.mark.usefixtures("jobs")
def test_weights_that_are_refused_end_the_run_before_anything_is_measured(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = UserError("weights: of another network", "those of can24", "Give others")
    fail_at(monkeypatch, lambda job, _: JobFailed(str(error), "", error) if job["job"] == "prepare" else None)
    with pytest.raises(UserError, match="of another network"):
        execute(plan(), Silent())


@pytest.mark.usefixtures("jobs")
def test_peaks_that_fail_cost_the_limit_only(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, lambda job, _: JobFailed("out of memory") if job["job"] == "peaks" else None)
    (run,) = execute(plan(("onnxruntime",), processes=1), Silent())
    assert run["status"] == "ok"
    assert run["work"]["limit_share"] is None
    assert run["work"]["peaks"] == {"failed": "out of memory"}


# Interrupts


@pytest.mark.usefixtures("jobs")
def test_ctrl_c_keeps_what_was_measured_and_marks_the_rest(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the third of four workers: null has one process, onnxruntime one."""
    fail_at(monkeypatch, lambda job, started: KeyboardInterrupt() if job["job"] == "case" and started == 2 else None)
    wanted = plan()
    runs = execute(wanted, Silent())
    for run in runs:
        assert run["status"] == "ok"
        assert len(run["latency_ms"]["samples"]) == 1
        assert run["unstable"][-1] == "interrupted after 1 processes"
        check_fixed_keys(run)
    assert store.load(wanted.store_path) == runs


@pytest.mark.usefixtures("jobs")
def test_ctrl_c_before_a_case_leaves_it_skipped(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, lambda job, started: KeyboardInterrupt() if job["job"] == "case" and started == 1 else None)
    wanted = plan(precisions=("fp32", "bf16"))
    runs = execute(wanted, Silent())
    assert [run["status"] for run in runs] == ["ok", "skipped", "skipped", "skipped"]
    assert runs[1]["reason"] == "interrupted before it was measured"
    assert "no bf16" in runs[2]["reason"]
    for run in runs:
        check_fixed_keys(run)
    assert store.load(wanted.store_path) == runs


@pytest.mark.parametrize("kind", ["prepare", "peaks"])
@pytest.mark.usefixtures("jobs")
def test_ctrl_c_before_the_first_case_is_no_crash(kind: str, plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, lambda job, _: KeyboardInterrupt() if job["job"] == kind else None)
    runs = execute(plan(), Silent())
    assert [run["reason"] for run in runs] == ["interrupted before it was measured"] * 2


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.usefixtures("jobs")
def test_ctrl_c_between_a_worker_and_its_numbers_loses_none(
    processes: int, plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's rate takes a third of a second after every worker: time enough to press a key."""
    rates = iter([100.0] * (2 * processes - 1))

    def rate() -> float:
        value = next(rates, None)
        if value is None:
            raise KeyboardInterrupt
        return value

    monkeypatch.setattr(run_module, "_machine_rate", rate)
    (run,) = execute(plan(("null",), processes=3), Silent())
    assert run["status"] == "ok"
    assert len(run["latency_ms"]["samples"]) == processes
    assert run["unstable"][-1] == f"interrupted after {processes} processes"
    check_fixed_keys(run)


@pytest.mark.usefixtures("jobs")
def test_ctrl_c_after_the_last_case_keeps_all(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, lambda job, n: KeyboardInterrupt() if job["job"] == "peaks" and n == 2 else None)
    runs = execute(plan(processes=1), Silent())
    assert [run["status"] for run in runs] == ["ok", "ok"]
    assert not any("interrupted" in reason for run in runs for reason in run["unstable"])


def test_every_process_is_stored_before_the_next_one_starts(
    plan: MakePlan, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = plan(("null",), processes=3)
    stored: list[int] = []

    def look(job: Mapping[str, Any], _: int) -> None:
        if job["job"] == "case" and wanted.store_path.exists():
            stored.append(len(store.load(wanted.store_path)[0]["latency_ms"]["samples"]))

    fail_at(monkeypatch, look)
    execute(wanted, Silent())
    assert stored == [1, 2]


# How many processes


def finished(medians: list[float], processes: int | None, budget_s: float = 1e9) -> int:
    """Processes after which a case is done, when each of them gives ten equal samples."""
    case = Case(get("can24"), "64x48", 64, 48, "null", "cpu", "fp32", "image", None, "untrained", 1)
    run = record.new_run(case, {"machine": {}}) | {"work": {"gmac": 1.0, "min_bytes": 1}}
    progress = run_module.Progress(case, run, rates=[100.0, 100.0])
    plan = Plan([case], [], [], Path("x"), None, None, [], budget_s, processes, [])
    for number, value in enumerate(medians, start=1):
        series = {"first": value, "warmup": [value], "samples": [value] * 10, "steady": True}
        load = {"steal_share": 0.0, "foreign_share": 0.0}
        progress.results.append(
            {
                "series": series, "load_s": 1.0, "load": load, "contract": {}, "host_peak_mib": 1.0,
                "host_baseline_mib": 1.0, "device_peak_mib": None,
            }
        )  # fmt: skip
        run_module._finish(progress, plan, PEAKS)
        if progress.done:
            return number
    return 0


def test_three_processes_that_agree_are_enough() -> None:
    assert finished([100, 100.1, 99.9, 100, 100], None) == 3


def under_way(*done: tuple[float, ...], finished: Sequence[int] = ()) -> list[run_module.Progress]:
    """Cases whose processes so far took these seconds, half of which they used of the budget."""
    found = []
    for number, seconds in enumerate(done):
        results = [{"series": {"samples": [s * 250.0], "warmup": [s * 250.0]}} for s in seconds]
        case: Any = None
        found.append(run_module.Progress(case, {}, results, [], list(seconds), number in finished))
    return found


def test_the_forecast_begins_when_every_case_has_run_once(plan: MakePlan) -> None:
    fixed, open_end = plan(processes=5), plan(processes=None, budget_s=60)
    assert run_module._place(1, under_way((), ()), fixed, 4) == "case 1 of 2"
    assert run_module._place(2, under_way((10,), ()), fixed, 4) == "case 2 of 2"
    # 4 more of 10 s and 4 more of 20 s and the peaks: 124 s
    assert run_module._place(1, under_way((10,), (20,)), fixed, 4) == "case 1 of 2, about 2 min left"
    # at least 2 more of each, 60 s; at most 9 of the first (5 s each of 60) and 5 of the second: 190 s
    assert run_module._place(2, under_way((10,), (20,)), open_end, 0) == "case 2 of 2, 1 to 3 min left"
    # what is done, or failed before it had a number, needs nothing more
    assert run_module._place(1, under_way((10,), (20,), finished=[1]), fixed, 0) == "case 1 of 2, about 40 s left"
    assert run_module._place(1, under_way((10,), (), finished=[1]), fixed, 0) == "case 1 of 2, about 40 s left"
    assert run_module._place(1, under_way((10,)), fixed, 0) == "about 40 s left"
    assert run_module._place(1, under_way(()), fixed, 0) == ""


def test_processes_are_added_until_the_interval_is_narrow() -> None:
    assert finished([100, 104, 100, 100, 100, 100, 100, 100], None) == 5


def test_no_more_than_ten_processes() -> None:
    assert finished([100.0, 200.0] * 8, None) == 10


def test_the_budget_ends_the_adding_but_not_before_three() -> None:
    assert finished([100.0, 200.0] * 8, None, budget_s=0.001) == 3
    assert finished([1000.0, 2000.0] * 8, None, budget_s=60) == 4  # 11, 22, 11 and 22 seconds


def test_a_number_of_processes_given_is_kept_whatever_comes_out() -> None:
    assert finished([100.0, 200.0] * 8, 7) == 7
    assert finished([100.0] * 8, 1) == 1


# Small parts


def test_the_rate_of_the_machine_is_of_this_world() -> None:
    assert 1e-2 < run_module._machine_rate() < 1e6


def test_picture_names_of_different_cases_differ() -> None:
    def output(case: Case) -> str:
        return run_module.picture_files(case)["output"]

    case = Case(get("can24"), "64x48", 64, 48, "onnxruntime", "cpu", "fp32", "image", None, "untrained", 1)
    others = [
        dataclasses.replace(case, **change)
        for change in ({"spec": get("can32")}, {"resolution": "1x1"}, {"precision": "bf16"}, {"statistics": "frozen"})
    ]
    names = {output(each) for each in [case, *others]}
    names |= {output(dataclasses.replace(case, spec=get("can", {"depth": d}))) for d in (4, 5)}
    assert len(names) == 7
    own = dataclasses.replace(get("can24"), name="my/net:Own")
    names.add(output(dataclasses.replace(case, spec=own)))
    assert len(names) == 8
    assert all(not set(name) & set("/: \\") for name in names)


def test_cases_of_one_network_share_the_names_of_input_and_reference() -> None:
    cases = expand(Request(["can:depth=7"], ["64x48"], ["null", "onnxruntime:spin=off"], device="cpu", threads=1))[0]
    first, second = map(run_module.picture_files, cases)
    assert first == {
        "input": "can-depth=7-64x48-input.png",
        "reference": "can-depth=7-64x48-reference.png",
        "output": "can-depth=7-64x48-null-fp32-image.png",
    }
    assert second == {**first, "output": "can-depth=7-64x48-onnxruntime-spin=off-fp32-image.png"}


def test_trained_and_untrained_pictures_do_not_overwrite_each_other(can24_weights: Path) -> None:
    choices: dict[str, Any] = {"device": "cpu", "threads": 1}
    (plain,) = expand(Request(["can24"], ["64x48"], ["null"], **choices))[0]
    (trained,) = expand(Request(["can24"], ["64x48"], ["null"], weights=str(can24_weights), **choices))[0]
    found = [run_module.picture_files(case) for case in (plain, trained)]
    assert not set(found[0].values()) & set(found[1].values())
    assert found[1]["input"] == "can24-random-64x48-input.png"


def test_pictures_of_two_recipes_do_not_overwrite_each_other() -> None:
    def output(precision: str, **asked: Any) -> str:
        request = Request(["can24"], ["64x48"], ["onnxruntime"], (precision,), device="cpu", threads=1, lowering=asked)
        (case,) = expand(request)[0]
        return run_module.picture_files(case)["output"]

    plain = "can24-l0_smoothing-64x48-onnxruntime-int8-image"
    assert output("int8") == output("int8", clipping="minmax") == f"{plain}.png"
    assert output("int8", recovery="none") == f"{plain}-none.png"
    assert output("auto", floor_db=42.0) == "can24-l0_smoothing-64x48-onnxruntime-auto-image-42dB.png"
    names = {output("int8", layers=Layers("", kept, None)) for kept in ((), ("last",), ("convs.0",))}
    assert len(names) == 3


def test_a_precision_that_cannot_be_made_is_a_failed_row_and_the_others_are_measured(
    plan: MakePlan, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"layers": Layers("", ("nowhere",), None), "recovery": "none"}
    request = Request(["can24"], ["64x48"], ["onnxruntime"], ("fp32", "int8"), device="cpu", threads=1, lowering=asked)
    fine, failed = execute(plan(cases=expand(request)[0], processes=1), Silent())
    assert (fine["status"], failed["status"]) == ("ok", "failed")
    assert failed["reason"].startswith("`--layers`: the network has no layer `nowhere`. Expected convs.0, ")
    assert [job["case"]["precision"] for job in jobs if job["job"] == "case"] == ["fp32"]
    check_fixed_keys(failed)

"""Cases → runs: prepares networks and references, measures every case in fresh processes, stores after each of them."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import engines
from bench import machine, metrics, stats, store
from bench.case import Case
from bench.spawn import Event, JobFailed, run_job
from export.network import Network

Run = dict[str, Any]
MARGIN = 0.03
"""Processes are added until half the interval of the median is below this share of it, or the budget ends."""
LIMIT_MIN, LIMIT_MAX = 3, 10


class Reporter(Protocol):
    """Where progress is shown; the command line passes one, tests pass a silent one."""

    def stage(self, title: str, total: float | None = None) -> AbstractContextManager[Callable[[float, str], None]]:
        """Opens a line of progress; the function it gives takes how much is done and what is being done."""


@dataclass(frozen=True)
class Plan:
    """What `bench run` does, checked and complete."""

    cases: Sequence[Case]
    left_out: Sequence[tuple[Case, str]]
    pictures: Sequence[tuple[str, Any]]
    """Name and (H, W, 3) uint8 RGB picture; the first one is timed, all are judged."""
    store_path: Path
    picture_folder: Path | None
    calibration: str | None
    budget_s: float
    """Of one case, over all its processes: warm-up and samples."""
    processes: int | None
    """None: 3 to 10, until the interval is narrow or the budget ends."""
    argv: Sequence[str]


@dataclass
class _Progress:
    """One case under way."""

    case: Case
    run: Run
    results: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    spent_s: float = 0.0
    done: bool = False


def execute(plan: Plan, reporter: Reporter) -> list[Run]:
    """Measures every case; each run is in the store as soon as it has a number, and updated with every process.

    KeyboardInterrupt ends the measuring, not the function: what has been measured is returned, the rest is `skipped`.

    A store that cannot be written does not end the measuring either; it is tried again after every process.

    Raises:
        UserError: weights that a network refuses.
        NotStored: the store could not be written at the end; the runs are in the error.
    """
    skeleton = _facts(plan)
    under_way = [_Progress(case, _new_run(case, skeleton)) for case in plan.cases]
    left = [_new_run(case, skeleton) | {"status": "skipped", "reason": reason} for case, reason in plan.left_out]
    with tempfile.TemporaryDirectory(prefix="fullres-") as scratch:
        try:
            _Execution(plan, reporter, Path(scratch)).run(under_way)
        except KeyboardInterrupt:
            for progress in under_way:
                if not progress.done:
                    _interrupted(progress, plan)
    runs = [progress.run for progress in under_way] + left
    try:
        store.put(plan.store_path, runs)
    except store.StoreError as error:
        raise NotStored(error, runs) from error
    return runs


class NotStored(Exception):  # noqa: N818  carries a result
    """Everything was measured, and the runs file could not be written."""

    def __init__(self, error: store.StoreError, runs: list[Run]) -> None:
        super().__init__(str(error))
        self.error, self.runs = error, runs


@dataclass
class _Execution:
    plan: Plan
    reporter: Reporter
    scratch: Path

    def run(self, under_way: list[_Progress]) -> None:
        inputs = self._write_inputs()
        prepared = self._prepare(under_way, inputs)
        before = self._peaks()
        for round_number in range(self.plan.processes or LIMIT_MAX):
            for progress in under_way:
                if not progress.done:
                    self._process(progress, prepared[progress.case.model], inputs, round_number)
                    _finish(progress, self.plan, before)
                    with contextlib.suppress(store.StoreError):  # execute() tries again, and says it
                        store.put(self.plan.store_path, [progress.run])
            if all(progress.done for progress in under_way):
                break
        after = self._peaks()
        for progress in under_way:
            _place_under_roof(progress.run, _better(before, after))

    def _write_inputs(self) -> dict[str, list[str]]:
        """`MODEL WIDTHxHEIGHT` → .npy files of the pictures, brought to that input size."""
        import numpy as np

        from reference_models.pictures import fit_picture, tensor_from_picture

        found: dict[str, list[str]] = {}
        for case in self.plan.cases:
            if _input_key(case) in found:
                continue
            paths: list[str] = []
            for _, picture in self.plan.pictures:
                path = self.scratch / f"{len(found)}-{len(paths)}.npy"
                np.save(path, tensor_from_picture(fit_picture(picture, *case.input_size), case.spec))
                paths.append(str(path))
            found[_input_key(case)] = paths
        return found

    def _prepare(self, under_way: list[_Progress], inputs: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
        """Per model its networks and references. Weights that are refused end the run: nothing is measured yet."""
        prepared = {}
        for model in dict.fromkeys(p.case.model for p in under_way):
            cases = [p.case for p in under_way if p.case.model == model]
            job = {
                "job": "prepare",
                "model": model,
                "weights": cases[0].weights,
                "statistics": list(dict.fromkeys(c.statistics for c in cases)),
                "calibration": self.plan.calibration,
                "threads": cases[0].threads,
                "inputs": {path: path for key in {_input_key(c) for c in cases} for path in inputs[key]},
            }
            environment = engines.get("torch_eager").environment(engines.get("torch_eager").complete_settings({}))
            try:
                with self.reporter.stage(f"prepare {model}") as show:
                    prepared[model] = run_job(job, environment, _phases(show))
            except JobFailed as failure:
                if failure.user_error:
                    raise failure.user_error from None
                for progress in under_way:
                    if progress.case.model == model:
                        _fail(progress, f"could not be exported: {failure.reason}", failure.log)
                prepared[model] = {}
        return prepared

    def _peaks(self) -> dict[str, Any]:
        cases = self.plan.cases
        job = {
            "job": "peaks",
            "device": cases[0].device,
            "threads": cases[0].threads,
            "bf16": any(c.precision == "bf16" for c in cases),
        }
        with self.reporter.stage("machine's peaks"):
            try:
                return run_job(job, _thread_environment(cases[0].threads))
            except JobFailed as failure:
                return {"failed": failure.reason}

    def _process(
        self, progress: _Progress, prepared: dict[str, Any], inputs: dict[str, list[str]], number: int
    ) -> None:
        case = progress.case
        paths = inputs[_input_key(case)]
        published = str(case.spec.statistics[0] if case.spec.statistics else None)
        folder = self.plan.picture_folder
        slice_s = self.plan.budget_s / (self.plan.processes or LIMIT_MIN)
        job: dict[str, Any] = {
            "job": "case",
            "case": case.to_dict(),
            "network": prepared["networks"][str(case.statistics)],
            "inputs": paths,
            "output_shape": case.output_shape,
            "rule": {"budget_s": slice_s},
            "judge": number == 0,
            "references": [prepared["references"][published][p] for p in paths],
            "parities": [prepared["references"][str(case.statistics)][p] for p in paths],
            "picture": str(folder / f"{_file_name(case)}.png") if folder else None,
        }
        if progress.run["work"] is None:
            network = Network.from_json(job["network"])
            progress.run["cold_start"]["build_s"] = network.export_s
            progress.run["memory"]["weights_mib"] = Path(network.main.state_path).stat().st_size / 2**20
            try:
                progress.run["work"] = _work(case, network)
            except ValueError as error:
                return _fail(progress, f"its work could not be counted: {error}", "")
        environment = {**_thread_environment(case.threads), **engines.get(case.engine).environment(case.settings)}
        progress.rates.append(_machine_rate())
        start = time.perf_counter()
        try:
            with self.reporter.stage(f"{case.title} · process {number + 1}", total=slice_s) as show:
                progress.results.append(run_job(job, environment, lambda e: _show(e, show, start)))
        except JobFailed as failure:
            return _fail(progress, failure.reason, failure.log)
        progress.rates.append(_machine_rate())
        return None


def _phases(show: Callable[[float, str], None]) -> Callable[[Event], None]:
    return lambda event: show(0, event.get("name", ""))


def _show(event: Event, show: Callable[[float, str], None], start: float) -> None:
    if event["event"] == "progress":
        show(time.perf_counter() - start, f"{event['samples']} samples after {event['warmup'] + 1} warm-ups")
    else:
        show(time.perf_counter() - start, event.get("name", ""))


def _finish(progress: _Progress, plan: Plan, peaks: Mapping[str, Any]) -> None:
    """Brings the run up to date with all processes so far, and decides whether another is needed."""
    if progress.done:
        return
    run, results = progress.run, progress.results
    series = [r["series"] for r in results]
    samples = [s["samples"] for s in series]
    progress.spent_s += (sum(samples[-1]) + sum(series[-1]["warmup"])) / 1e3
    width, height = progress.case.width, progress.case.height
    run["status"], run["reason"] = "ok", None
    run["contract"] = {**run["contract"], **results[0]["contract"]}
    run["latency_ms"] = {
        "samples": samples,
        "warmup": [[s["first"], *s["warmup"]] for s in series],
        "steady": [s["steady"] for s in series],
        **stats.summarise(samples),
        "enqueue": None,
    }
    p50 = run["latency_ms"]["p50"]
    run["throughput_fps"] = 1e3 / p50
    run["work"]["mpixel_per_s"] = width * height / 1e6 / (p50 / 1e3)
    run["cold_start"] |= {
        "load_s": median(r["load_s"] for r in results),
        "first_ms": median(s["first"] for s in series),
        "load_s_all": [r["load_s"] for r in results],
        "first_ms_all": [s["first"] for s in series],
    }
    run["memory"] |= {
        "host_peak_mib": max(r["host_peak_mib"] for r in results),
        "host_baseline_mib": median(r["host_baseline_mib"] for r in results),
        "device_peak_mib": max(
            (r["device_peak_mib"] for r in results if r["device_peak_mib"] is not None), default=None
        ),
    }
    if "quality" in results[0]:
        run["quality"] |= results[0]["quality"]
    run["machine_gflop_s"] = list(progress.rates)
    run["unstable"] = stats.instability(samples, _disturbance(progress))
    _place_under_roof(run, peaks)
    share = stats.half_width_share(stats.median_interval(samples), p50)
    enough = len(results) >= LIMIT_MIN and (share < MARGIN or progress.spent_s >= plan.budget_s)
    progress.done = len(results) >= plan.processes if plan.processes else enough or len(results) >= LIMIT_MAX


def _disturbance(progress: _Progress) -> stats.Disturbance:
    loads = [r["load"] for r in progress.results]

    def worst(key: str) -> float | None:
        return max((load[key] for load in loads if load[key] is not None), default=None)

    slowest, fastest = min(progress.rates), max(progress.rates)
    return stats.Disturbance(worst("steal_share"), worst("foreign_share"), slowest / fastest - 1)


def _machine_rate() -> float:
    """10^9 FLOP/s of a 1024³ product in this process, best of 25 (a third of a second): is the machine the same one?

    Best of many: a thread that wakes up on a busy core halves the first few.
    """
    import numpy as np

    from bench.peaks import best_s

    a = np.ones((1024, 1024), np.float32)
    return 2 * 1024**3 / best_s(lambda: a @ a, 25) / 1e9


def _work(case: Case, network: Network) -> dict[str, Any]:
    from export.work import count_work

    work = count_work(network.main.onnx_path, case.input_shape)
    if network.thumbnail:
        work += count_work(network.thumbnail.onnx_path, case.input_shape)
    return {"gmac": work.macs / 1e9, "min_bytes": work.min_bytes, "onnx_sha256": network.main.sha256}


def _place_under_roof(run: Run, peaks: Mapping[str, Any]) -> None:
    """Adds the roofline: the least time this machine's peaks allow, and the share of that limit the case reaches.

    Source: Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009.
    """
    if run["status"] != "ok":
        return
    work, seconds = run["work"], run["latency_ms"]["p50"] / 1e3
    peak = peaks.get(f"{run['case']['precision']}_gflop_s")
    work["peaks"] = dict(peaks)
    work["gflop_per_s"] = 2 * work["gmac"] / seconds
    if not peak or not engines.get(run["case"]["engine"]).computes:
        work["limit_share"] = work["limit"] = None
        return
    compute_s, copy_s = 2 * work["gmac"] / peak, work["min_bytes"] / 1e9 / peaks["copy_gb_s"]
    work["limit"] = "matrix product" if compute_s >= copy_s else "copy"
    work["limit_share"] = max(compute_s, copy_s) / seconds


def _better(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The higher of each peak: a limit that the machine has shown once is a limit it has."""
    merged = dict(before if "failed" in after else after)
    if "failed" in before or "failed" in after:
        return merged
    for key in ("fp32_gflop_s", "bf16_gflop_s", "tf32_gflop_s", "copy_gb_s"):
        if merged.get(key):
            merged[key] = max(before[key], after[key])
    if before["fp32_gflop_s"] > after["fp32_gflop_s"]:
        merged["fp32_by"] = before["fp32_by"]
    return merged


def _facts(plan: Plan) -> Run:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "argv": [Path(sys.argv[0]).name, *plan.argv],
        "pictures": [name for name, _ in plan.pictures],
    }


def _new_run(case: Case, facts: Run) -> Run:
    return {
        "id": uuid.uuid4().hex,
        **facts,
        "case": {
            "model": case.model,
            "weights": Path(case.weights_name).name,
            "trained": case.weights is not None,
            "resolution": case.resolution,
            "input_shape": list(case.input_shape),
            "output_shape": list(case.output_shape),
            "engine": case.engine,
            "variant": case.variant,
            "engine_version": engines.get(case.engine).version(),
            "device": case.device,
            "precision": case.precision,
            "statistics": case.statistics,
            "tile": "off",
            "settings": dict(case.settings),
        },
        "status": "skipped",
        "reason": "not measured yet",
        "contract": {"pre_post_processing": "excluded", "threads": case.threads, "in_flight": 1, "batch": 1},
        "latency_ms": None,
        "throughput_fps": None,
        "cold_start": {"build_s": None, "load_s": None, "first_ms": None},
        "memory": {"host_peak_mib": None, "device_peak_mib": None, "plan_mib": None, "weights_mib": None},
        "quality": {"vs_reference": None, "vs_original": None, "convention": metrics.CONVENTION},
        "work": None,
        "energy": None,
        "unstable": [],
    }


def _fail(progress: _Progress, reason: str, log: str) -> None:
    """Marks a case as failed; what earlier processes measured stays in the run, but is not a result."""
    progress.run |= {"status": "failed", "reason": reason, "log": log}
    progress.done = True


def _interrupted(progress: _Progress, plan: Plan) -> None:
    if progress.results:
        _finish(progress, plan, (progress.run["work"] or {}).get("peaks", {}))  # the last process may be unaccounted
        progress.run["unstable"].append(f"interrupted after {len(progress.results)} processes")
    else:
        progress.run |= {"status": "skipped", "reason": "interrupted before it was measured"}
    progress.done = True


def _thread_environment(threads: int) -> dict[str, str]:
    """BLAS and OpenMP read these before they are imported."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def _input_key(case: Case) -> str:
    return "{} {}x{}".format(case.model, *case.input_size)


def _file_name(case: Case) -> str:
    parts = [case.model, case.resolution, case.variant, case.precision, case.statistics or ""]
    return "-".join(p for p in parts if p).replace(":", "-")

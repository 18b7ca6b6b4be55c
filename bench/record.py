"""What a run holds: the fixed keys of the runs file, filled from what worker processes bring back. Starts none."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import engines
from bench import machine, metrics, own_time, stats, telemetry
from bench.case import Case
from bench.ways import summary, way_from_word
from export.cache import code_sha256
from export.network import Network, file_sha256
from reference_models.spec import ModelSpec

Run = dict[str, Any]
Result = dict[str, Any]
"""What bench/worker.py's job_case returns."""


def facts(argv: Sequence[str], pictures: Sequence[tuple[str, str]], calibration: Sequence[str] = ()) -> Run:
    """What all runs of one command share: time, machine, versions, commit, words of the command, pictures.

    Args:
        pictures: name, and SHA-256 of size and pixels.
        calibration: SHA-256 of the pixels of every calibration picture; empty: those that ship.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "argv": [Path(sys.argv[0]).name, *argv],
        "pictures": [name for name, _ in pictures],
        "pictures_sha256": [digest for _, digest in pictures],
        "calibration_sha256": list(calibration),
    }


def new_run(case: Case, shared: Run) -> Run:
    """A run with every fixed key, not measured yet.

    Whether a network of one's own is trained is not ours to say: without `--weights` it comes with "its own" ones,
    counts as trained, and `weights_known` is False.
    """
    known = not case.spec.is_own or (case.weights is not None and case.spec.onnx is None)
    originals: Mapping[str, str] = shared.get("originals", {})
    return {
        "id": uuid.uuid4().hex,
        **{key: value for key, value in shared.items() if key != "originals"},
        "case": {
            "original": originals.get(case.model),
            "model": case.spec.name,
            "options": dict(case.spec.chosen),
            "network_sha256": _network_sha256(case.spec),
            "weights": Path(case.weights_name).name if known else "its own",
            "weights_sha256": file_sha256(case.weights) if case.weights else None,
            "weights_known": known,
            "trained": case.trained,
            "resolution": case.resolution,
            "input_picture": list(case.input_size),
            "input_shape": list(case.input_shape),
            "output_shape": list(case.output_shape),
            "engine": case.engine,
            "variant": case.variant,
            "engine_version": engines.get(case.engine).version(),
            "device": case.device,
            "precision": case.precision,
            "statistics": case.statistics,
            "tile": case.tile,
            "memory_mib": case.memory_mib,
            "way": case.way,
            "threads": case.threads,
            "settings": dict(case.settings),
            "recipe": case.recipe.to_dict() if case.recipe else None,
        },
        "status": "skipped",
        "reason": "not measured yet",
        "contract": {
            "clock": "host, until the inference is done; latency_ms.device is by the device's own events",
            "pre_post_processing": "excluded",
            "threads": case.threads,
            "in_flight": 1,
            "batch": 1,
        }
        | way_from_word(case.way).contract,
        "latency_ms": None,
        "throughput_fps": None,
        "cold_start": {"build_s": None, "load_s": None, "first_ms": None},
        "memory": {"host_peak_mib": None, "device_peak_mib": None, "plan_mib": None, "weights_mib": None},
        "original": None,
        "quality": {
            "vs_reference": None,
            "vs_original": None,
            "reference": "the file's own FP32 run in ONNX Runtime" if case.spec.onnx else "FP32 torch",
            "convention": metrics.CONVENTION,
        },
        "work": None,
        "energy": None,
        "unstable": [],
        "interrupted": False,
    }


def _network_sha256(spec: ModelSpec) -> str:
    """Of the network's definition, wherever its file lies: the spec, whose source holds digests of a network of one's
    own, and of networks that ship our code."""
    text = dataclasses.replace(spec, onnx=spec.onnx and "onnx").to_json()
    return hashlib.sha256((text + ("" if spec.is_own else code_sha256())).encode()).hexdigest()


def original(task: str, case: Case, series: Mapping[str, Any] | None) -> Run:
    """What a run says of what its network replaces.

    Args:
        series: times of the operator, ms; None for tasks whose target is the picture itself.
    """
    from reference_models import tasks

    samples = series["samples"] if series else []
    return {
        "task": task,
        "operator": tasks.get(task).operator,
        "threads": case.threads,
        "samples_ms": samples,
        "p50_ms": median(samples) if samples else None,
    }


def describe_network(run: Run, case: Case, network: Network) -> None:
    """Adds what follows from the network's files: work, weights, build time.

    `build_s` stays None where the engine runs the torch module: what is exported for others is no part of its start.

    Raises:
        ValueError: the graph's work cannot be counted.
    """
    from export.work import count_work

    work = count_work(network.main.onnx_path, case.input_shape)
    if network.thumbnail:
        work += count_work(network.thumbnail.onnx_path, case.input_shape)
    run["lowering"] = network.lowering
    run["work"] = {"gmac": work.macs / 1e9, "min_bytes": work.min_bytes, "onnx_sha256": network.main.sha256}
    weights = network.main.state_path or network.main.onnx_path
    run["work"]["state_sha256"] = file_sha256(weights)
    run["memory"]["weights_mib"] = Path(weights).stat().st_size / 2**20
    if not engines.get(case.engine).runs_modules:
        run["cold_start"]["build_s"] = network.export_s


def update(run: Run, case: Case, results: Sequence[Result], rates: Sequence[float], peaks: Mapping[str, Any]) -> None:
    """Brings a run up to date with the results of all its processes so far.

    Args:
        rates: the machine's matrix-product rate before and after each process, 10^9 FLOP/s.
        peaks: as from bench/peaks.py.
    """
    series = [r["series"] for r in results]
    samples = [s["samples"] for s in series]
    width, height = case.width, case.height
    run["status"], run["reason"] = "ok", None
    run["contract"] = {**run["contract"], **results[0]["contract"]}
    run["latency_ms"] = {
        "samples": samples,
        "warmup": [[s["first"], *s["warmup"]] for s in series],
        "steady": [s["steady"] for s in series],
        **stats.summarise(samples),
        **_device_figures(results),
        **own_time.of_processes(results),
    }
    p50 = run["latency_ms"]["p50"]
    in_flight = run["contract"]["in_flight"]
    run["use"] = summary(way_from_word(case.way), [r.get("use") or {} for r in results])
    run["throughput_fps"] = run["use"].get("throughput_fps") or in_flight * 1e3 / p50
    run["telemetry"] = [r.get("telemetry") or {} for r in results]
    run["energy"] = results[0].get("energy")
    run["work"]["mpixel_per_s"] = in_flight * width * height / 1e6 / (p50 / 1e3)
    run["cold_start"] |= {
        "load_s": median(r["load_s"] for r in results),
        "first_ms": median(s["first"] for s in series),
        "load_s_all": [r["load_s"] for r in results],
        "first_ms_all": [s["first"] for s in series],
    }
    run["memory"] |= {
        "host_peak_mib": max(r["host_peak_mib"] for r in results),
        "host_peak_mib_all": [r["host_peak_mib"] for r in results],
        "host_baseline_mib": median(r["host_baseline_mib"] for r in results),
        "device_peak_mib": max(
            (r["device_peak_mib"] for r in results if r["device_peak_mib"] is not None), default=None
        ),
    }
    run["memory"]["device"] = results[0].get("device_memory")
    if "tiling" in results[0]:
        told = dict(results[0]["tiling"])
        run["memory"] |= told.pop("memory")
        run["tiling"] = told
    run["layer_types"] = results[0].get("layer_types")
    if "quality" in results[0]:
        run["quality"] |= results[0]["quality"]
        run["picture_failed"] = results[0]["picture_failed"]
    run["machine_gflop_s"] = list(rates)
    run["unstable"] = stats.instability(samples, _disturbance(results, rates))
    run["unstable"] += telemetry.throttling(run["telemetry"])
    place_under_roof(run, peaks)


def _device_figures(results: Sequence[Result]) -> dict[str, Any]:
    """`enqueue`: median ms of the host to submit an inference; `device`: what the device's events say, `compute` of the
    samples and `h2d` and `d2h`, which are no part of them. Each None where nobody told it."""
    enqueue = [r["series"].get("enqueue", []) for r in results]
    compute = [r["series"].get("compute", []) for r in results]
    copies = [r["transfers"] for r in results if r.get("transfers")]
    device = None
    if all(compute):
        device = {
            "compute": {"samples": compute, **stats.summarise(compute)},
            **{part: median(c[part] for c in copies if part in c) for part in (copies[0] if copies else ())},
        }
    return {"enqueue": median(map(median, enqueue)) if all(enqueue) else None, "device": device}


def _disturbance(results: Sequence[Result], rates: Sequence[float]) -> stats.Disturbance:
    loads = [r["load"] for r in results]

    def worst(key: str) -> float | None:
        return max((load[key] for load in loads if load[key] is not None), default=None)

    slowest, fastest = min(rates), max(rates)
    series = [r["series"] for r in results]
    unsettled = sum(not s["steady"] and len(s["samples"]) < stats.DRIFT_SAMPLES for s in series)
    return stats.Disturbance(worst("steal_share"), worst("foreign_share"), slowest / fastest - 1, unsettled)


def place_under_roof(run: Run, peaks: Mapping[str, Any]) -> None:
    """Adds the roofline: the least time this machine's peaks allow, and the share of that limit the case reaches.

    Source: Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009.
    """
    if run["status"] != "ok" or run["work"]["gmac"] is None:  # of a plan nobody knows
        return
    work, seconds = run["work"], run["latency_ms"]["p50"] / 1e3
    peak = matrix_peak(peaks, run["case"]["precision"])
    work["peaks"] = dict(peaks)
    seconds /= run.get("contract", {}).get("in_flight", 1)
    work["gflop_per_s"] = 2 * work["gmac"] / seconds
    if not peak or not engines.get(run["case"]["engine"]).computes:
        work["limit_share"] = work["limit"] = None
        return
    compute_s, copy_s = 2 * work["gmac"] / peak, work["min_bytes"] / 1e9 / peaks["copy_gb_s"]
    work["limit"] = "matrix product" if compute_s >= copy_s else "copy"
    work["limit_share"] = max(compute_s, copy_s) / seconds


def matrix_peak(peaks: Mapping[str, Any], precision: str) -> float | None:
    """10^9 operations per second of a matrix product in the narrowest type of this precision; None where unknown."""
    return peaks.get(f"{precision.removesuffix('+fp16')}_gflop_s")


def better_peaks(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The higher of each peak: a limit that the machine has shown once is a limit it has."""
    merged = dict(before if "failed" in after else after)
    if "failed" in before or "failed" in after:
        return merged
    for key in (*(f"{word}_gflop_s" for word in ("fp32", "bf16", "tf32", "fp16", "int8", "fp8")), "copy_gb_s"):
        if rates := [side[key] for side in (before, after) if side.get(key)]:
            merged[key] = max(rates)
    for word in ("fp32", "int8", "fp8"):
        if (before.get(f"{word}_gflop_s") or 0) > (after.get(f"{word}_gflop_s") or 0):
            merged[f"{word}_by"] = before.get(f"{word}_by")
    return merged

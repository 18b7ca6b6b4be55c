"""The worker process: one job as JSON on standard input → events as JSON lines on standard output.

What libraries print goes to standard error, where it cannot be mistaken for an event. The jobs import what they need
themselves: a case of ONNX Runtime never loads torch, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reference_models.errors import UserError

Emit = Callable[..., None]
PROGRESS_S = 0.5


def peak_host_mib() -> float:
    """Highest resident memory of this process so far (VmHWM), MiB. Source: proc(5)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def resident_host_mib() -> float:
    """Resident memory of this process now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def own_cpu_s() -> float:
    """Processor seconds of this process and its finished children: torch.compile runs a C++ compiler."""
    return sum(os.times()[:4])


def job_peaks(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    from bench.peaks import measure_peaks

    return measure_peaks(job["device"], job["threads"], job["bf16"])


def job_prepare(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Exports a network once per kind of statistics and computes what torch makes of the pictures."""
    from bench.reference import prepare

    return prepare(job, emit)


def job_case(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Loads one case, measures it, and judges its output against the references."""
    import numpy as np

    import engines
    from bench import picture_plan
    from bench.device import memory_of, transfers_of, used_mib
    from bench.in_use import Use
    from bench.tile_plan import limit_this_process, measured_tiling, tiling_of
    from bench.ways import BACK_TO_BACK, way_from_word
    from engines.deployed import load_plan
    from engines.engine import Options
    from engines.thumbnail import load_network
    from export.network import Network

    case = job["case"]
    engine = engines.get(case["engine"])
    way = way_from_word(case.get("way", BACK_TO_BACK))
    options = Options(case["device"], case["precision"], way.threads(case["threads"]), case["settings"])
    limit_this_process(case.get("memory_mib"))
    x = np.load(job["sources" if picture_plan.asked(case["settings"]) else "inputs"][0])
    baseline = resident_host_mib()
    emit("phase", name="load")
    device_before = used_mib(case["device"])
    start = time.perf_counter()
    tiling = tiling_of(job)

    def loaded() -> Any:
        if job.get("plan"):
            session = load_plan(job["plan"], options)
        else:
            session = load_network(engine, picture_plan.network_of(job, engine), options, tiling)
        session.bind(x)
        return session

    session = loaded()
    if tiling:
        emit("phase", name=session.contract["tile"])
    load_s = time.perf_counter() - start
    use = Use(way, session, loaded, job)
    emit("phase", name="measure")
    measured = _measured(use, emit)
    result: dict[str, Any] = {
        **measured,
        "load_s": load_s,
        "contract": {**session.contract, **way.contract, "in_flight": way.in_flight * session.in_flight},
        "host_peak_mib": peak_host_mib(),
        "host_baseline_mib": baseline,
        **memory_of(session, case["device"], device_before),
        "transfers": transfers_of(session, x),
    }
    if tiling:
        result["tiling"] = measured_tiling(session, case.get("memory_mib"))
    if job["judge"]:
        result |= _judged(use, x, options, emit)
        if "plan_picture" in result:
            result["use"]["plan_picture"] = result.pop("plan_picture")
    session.close()
    if job["judge"]:
        from bench.proof import prove_types

        result["layer_types"] = prove_types(engine, Network.from_json(job["network"]), options)
    return result


def _judged(use: Any, x: Any, options: Any, emit: Emit) -> dict[str, Any]:
    """Energy and quality of a case whose time has been taken."""
    import engines
    from bench.energy import measure_energy
    from bench.tile_plan import seam_of

    job, session = use.job, use.session
    emit("phase", name="energy")
    found: dict[str, Any] = {"energy": measure_energy(use.step(), job["case"]["device"])}
    if engines.get(job["case"]["engine"]).computes:
        emit("phase", name="judge")
        if session.graph.takes_pictures:
            return found | _judged_on_tensors(job, session, options)
        found["quality"], found["picture_failed"] = _judge(job, session, x)
        if job.get("tiling"):
            found["quality"]["seam"] = seam_of(job, session)
    return found


def _judged_on_tensors(job: Mapping[str, Any], pictures: Any, options: Any) -> dict[str, Any]:
    """Quality of a plan on pictures: that of the plan on tensors, and how far what they show is apart."""
    import numpy as np

    import engines
    from bench.picture_plan import difference, limits_of
    from engines.thumbnail import load_network
    from export.network import Network
    from reference_models.colour import picture_from_tensor
    from reference_models.spec import ModelSpec

    shown = pictures.read()
    pictures.close()
    x, source = np.load(job["inputs"][0]), np.load(job["sources"][0])
    with load_network(engines.get(job["case"]["engine"]), Network.from_json(job["network"]), options) as session:
        session.bind(x)
        session.enqueue()
        session.synchronize()
        wanted = picture_from_tensor(session.read(), ModelSpec.from_json(job["case"]["spec"]), source)
        height, width = job["output_shape"][2:]
        quality, failed = _judge(job, session, x)
    quality["vs_reference"]["of"] = quality["vs_same_statistics"]["of"] = "a plan on tensors, made beside the timed one"
    spec, precision = ModelSpec.from_json(job["case"]["spec"]), job["case"]["precision"]
    apart = difference(shown[:height, :width], wanted[:height, :width], limits_of(spec, precision))
    return {"quality": quality, "picture_failed": failed, "plan_picture": apart}


def _measured(use: Any, emit: Emit) -> dict[str, Any]:
    """The samples of a case that is ready, and what was seen beside them."""
    from bench.in_use import Between, measure_use
    from bench.machine import load_between, sample_load
    from bench.measure import Rule, Series
    from bench.telemetry import Telemetry, summary
    from bench.waiting import Waiting

    last = 0.0

    def progress(series: Series) -> None:
        nonlocal last
        if time.perf_counter() - last > PROGRESS_S:
            last = time.perf_counter()
            emit("progress", samples=len(series.samples), warmup=len(series.warmup))

    waiting, telemetry = Waiting(), Telemetry(use.job["case"]["device"])
    before, own = sample_load(), own_cpu_s()
    between = Between(waiting.before, waiting.after, (progress, telemetry))
    series, told = measure_use(use, Rule(**use.job["rule"]), between)
    return {
        "series": {**vars(series)},
        "load": load_between(before, sample_load(), own_cpu_s() - own),
        "own": waiting.told(series),
        "use": told,
        "telemetry": summary(telemetry.readings),
    }


def _judge(job: Mapping[str, Any], session: Any, first: Any) -> tuple[dict[str, Any], str | None]:
    """Quality of every picture against both references, the worst of each figure over the pictures; and why the first
    output could not be written as a picture, None where it was or was not asked for."""
    import numpy as np

    from bench.metrics import compare
    from bench.originals import convention, judge_original
    from bench.reference import made_on
    from reference_models.colour import picture_from_tensor, unit_range
    from reference_models.pictures import write_picture
    from reference_models.spec import ModelSpec

    spec = ModelSpec.from_json(job["case"]["spec"])
    found: dict[str, list[dict[str, Any]]] = {"vs_reference": [], "vs_same_statistics": []}
    beside: list[tuple[str, dict[str, Any]]] = []
    failed = None
    height, width = job["output_shape"][2:]

    def cropped(y: Any) -> Any:
        return y[:, :, :height, :width]

    for number, path in enumerate(job["inputs"]):
        x = first if number == 0 else np.load(path)
        if number:
            session.bind(x)
            session.enqueue()
            session.synchronize()
        output = cropped(session.read())
        y = unit_range(output, spec)
        for name, paths in (("vs_reference", "references"), ("vs_same_statistics", "parities")):
            expected = cropped(np.load(job[paths][number], mmap_mode="r"))
            found[name].append(compare(y, unit_range(expected, spec)))
        if job.get("original"):
            judged, plain = judge_original(job, spec, output, number)
            found.setdefault("vs_original", []).append(judged)
            beside.append(plain)
        if number == 0 and job["pictures"] and found["vs_reference"][0]["finite"]:
            reference = cropped(np.load(job["references"][0], mmap_mode="r"))
            source = np.load(job["sources"][0])
            try:
                write_picture(job["pictures"]["input"], source)
                for kind, made in (("reference", reference), ("output", output)):
                    write_picture(job["pictures"][kind], picture_from_tensor(made, spec, source, (height, width)))
            except UserError as error:  # a number that was measured is worth more than its picture
                failed = str(error)
    quality = {name: {**_worst(each), "pictures": each} for name, each in found.items()}
    quality["vs_reference"]["made_on"] = made_on(job["references"])
    quality["vs_same_statistics"]["made_on"] = made_on(job["parities"])
    if beside:
        quality["vs_original"] |= {"baseline": {"name": beside[0][0], **_worst([figures for _, figures in beside])}}
        quality["vs_original"] |= {"task": job.get("original"), "convention": convention(spec.evaluation)}
    return quality, failed


def _worst(each: list[dict[str, Any]]) -> dict[str, Any]:
    if not all(e["finite"] for e in each):
        return {"psnr_db": None, "ssim": None, "max_abs": None, "identical": False, "finite": False}
    psnr = [e["psnr_db"] for e in each if e["psnr_db"] is not None]
    ssim = [e["ssim"] for e in each if e["ssim"] is not None]
    return {
        "psnr_db": min(psnr, default=None),
        "ssim": min(ssim, default=None),
        "max_abs": max(e["max_abs"] for e in each),
        "identical": all(e["identical"] for e in each),
        "finite": True,
    }


def job_apply(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Pictures or a video through a network."""
    from bench.applying import job_apply

    return job_apply(job, emit)


def job_tiles(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """What a network's tiles need."""
    from bench.tile_plan import plan_tiles

    return plan_tiles(job)


def job_build(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Builds the plan that an engine deploys; a library that crashes takes only this process with it."""
    from bench.building import job_build

    return job_build(job, emit)


def job_operator(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """What an operator makes of the pictures of a run, and how long it takes."""
    from bench.operator_run import run_operator

    return run_operator(job, emit)


def job_bundle(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """A network's graph on pictures, checked."""
    from bench.bundling import job_bundle

    return job_bundle(job, emit)


def job_check(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """A plan that was built against its own graph."""
    from bench.checking import job_check

    return job_check(job, emit)


def job_evaluate(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """How far a network in other precisions is from FP32, without any engine's kernels."""
    from bench.evaluate import evaluate

    return evaluate(job, emit)


def job_generalise(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Networks against what they were made to replace, over folders of pictures."""
    from bench.generalisation import generalise

    return generalise(job, emit)


def job_worth(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Where the time of a quantised network goes on one engine, and whether it is worth it."""
    from bench.worth import worth

    return worth(job, emit)


def job_profile(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """What each layer of a case takes, apart from the processes that are timed."""
    from bench.profile import profile

    return profile(job, emit)


def job_kernels(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Our own kernels on a CUDA device, each beside what it replaces."""
    from bench.kernels import time_kernels

    return time_kernels(job, emit)


def job_kernel_check(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Our own kernels through Triton's interpreter, without a device."""
    from bench.kernels import check_kernels

    return check_kernels(job, emit)


def job_kernel_code(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """What the assembler makes of our own kernels."""
    from bench.kernel_code import examine_code

    return examine_code(job, emit)


JOBS: dict[str, Callable[[Mapping[str, Any], Emit], dict[str, Any]]] = {
    "peaks": job_peaks,
    "prepare": job_prepare,
    "case": job_case,
    "operator": job_operator,
    "apply": job_apply,
    "tiles": job_tiles,
    "build": job_build,
    "bundle": job_bundle,
    "check": job_check,
    "evaluate": job_evaluate,
    "generalise": job_generalise,
    "worth": job_worth,
    "profile": job_profile,
    "kernels": job_kernels,
    "kernel_check": job_kernel_check,
    "kernel_code": job_kernel_code,
}


def main() -> None:
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def emit(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}) + "\n")

    job = json.loads(sys.stdin.buffer.read())
    try:
        emit("result", value=JOBS[job["job"]](job, emit))
    except UserError as error:
        emit("user_error", parts=[error.what, error.expected, error.todo])
    except MemoryError as error:
        emit("failed", reason=f"out of memory ({error})" if str(error) else "out of memory")
    except Exception as error:  # a failed row must say why, whatever a vendor's library raised
        traceback.print_exc()
        text = " ".join(str(error).split()) or "no message"
        emit("failed", reason=f"{type(error).__name__}: {text[:400]}")
    events.flush()
    # Vendor libraries are known to crash while Python tears them down; everything that counts has been said.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

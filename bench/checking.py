"""The worker's job of `bench build --check`: a plan against its own graph in ONNX Runtime, by Polygraphy's Comparator.

What is checked is the engine and not the precision: both sides are the same graph, ONNX Runtime's without any of its
optimisations. Polygraphy chooses between TensorRT and TensorRT-RTX by an environment variable of the whole process;
therefore this is a worker of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engines.installed import package_missing
from reference_models.errors import UserError

RUNS_PLANS = ("tensorrt", "tensorrt_rtx", "onnxruntime")


def environment(engine: str) -> dict[str, str]:
    """Of the worker that checks plans of this engine."""
    return {"POLYGRAPHY_USE_TENSORRT_RTX": "1" if engine == "tensorrt_rtx" else "0", "POLYGRAPHY_AUTOINSTALL_DEPS": "0"}


def check_can_check(engine: str, precision: str) -> None:
    """
    Raises:
        UserError: Polygraphy is missing, has no runner for this engine, or one side cannot run here.
    """
    import engines

    if reason := package_missing("polygraphy", ("polygraphy",)):
        raise UserError(f"`--check`: {reason}", "Polygraphy 0.53 or newer", "pip install polygraphy")
    if engine not in RUNS_PLANS:
        raise UserError(f"`--check` with {engine}: Polygraphy does not run its plans", ", ".join(RUNS_PLANS), "Drop it")
    if precision == "bf16":
        raise UserError(
            "`--check` with bf16: ONNX Runtime's CPU has no bf16 convolutions", "another precision", "Drop --check"
        )
    if engine != "onnxruntime" and (reason := engines.get(engine).device_missing("cuda:0")):
        raise UserError(f"`--check` with {engine}: {reason}", "a device that runs the plan", "Check it there")


def job_check(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """
    Args:
        job: engine, plan (path), onnx (path of the graph that the plan was built from), input (.npy), floor_db.

    Returns:
        psnr_db (None: equal bit by bit) of the plan's output against the graph's, by Polygraphy's own measure, whose
        peak is the largest value there; max_abs; passed; polygraphy, its version.
    """
    import numpy as np
    import onnxruntime
    import polygraphy
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.comparator import Comparator, PsnrCompareFunc
    from polygraphy.logger import G_LOGGER

    from export.network import INPUT, OUTPUT

    G_LOGGER.module_severity = G_LOGGER.ERROR
    nothing = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = SessionFromOnnx(job["onnx"], providers=["cpu"], graph_optimization_level=nothing)
    runners = [OnnxrtRunner(plain, name="graph"), _runner(job["engine"], job["plan"])]
    emit("phase", name="run the graph and the plan")
    ran = Comparator.run(runners, data_loader=[{INPUT: np.load(job["input"])}])
    compared = Comparator.compare_accuracy(ran, compare_func=PsnrCompareFunc(psnr_threshold=job["floor_db"]))
    (_, (one,)), (_, (other,)) = ran.items()
    ((_, (result,)),) = compared[0].items()
    psnr = float(result[OUTPUT].psnr)
    finite = bool(np.isfinite(one[OUTPUT]).all() and np.isfinite(other[OUTPUT]).all())
    return {
        "psnr_db": psnr if np.isfinite(psnr) else None,
        "max_abs": float(np.abs(one[OUTPUT].astype(np.float64) - other[OUTPUT]).max()) if finite else None,
        "passed": finite and bool(compared),
        "polygraphy": polygraphy.__version__,
    }


def _runner(engine: str, plan: str) -> Any:
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

    if engine == "onnxruntime":
        return OnnxrtRunner(SessionFromOnnx(plan, providers=["cpu"]), name="plan")
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    return TrtRunner(EngineFromBytes(BytesFromPath(plan)), name="plan")


def in_words(found: Mapping[str, Any], floor_db: float) -> str:
    """One line for the terminal."""
    if found["max_abs"] is None:
        return "check failed: an output holds what is no number"
    psnr = "∞" if found["psnr_db"] is None else f"{found['psnr_db']:.1f}"
    verdict = "passed" if found["passed"] else "failed"
    return (
        f"check {verdict}: {psnr} dB against its own graph in ONNX Runtime (floor {floor_db:g} dB), largest difference "
        f"{found['max_abs']:.2g}; Polygraphy {found['polygraphy']}"
    )

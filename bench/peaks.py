"""What this machine can do at most: rate of a large matrix product and of a large copy. Runs in a process of its own.

The product is timed with NumPy's BLAS and with ONNX Runtime's own; the better one counts, so that the limit is the
machine's and not one library's. In bf16 it is OpenVINO's, where that is installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.measure import Clock

SIDE, CUDA_SIDE = 2048, 8192
COPY_MIB = 256
REPEATS = 7
FAST_FP8 = "_scaled_mm with use_fast_accum"
FP8_FROM = (8, 9)
"""Compute capability from which on tensor cores multiply fp8. Source: PTX ISA, mma, target ISA notes."""


def best_s(step: Callable[[], object], repeats: int = REPEATS, clock: Clock = time.perf_counter) -> float:
    """Seconds of the fastest of `repeats` calls after one untimed call."""
    step()
    times = []
    for _ in range(repeats):
        start = clock()
        step()
        times.append(clock() - start)
    return min(times)


def matmul_gflop_s(threads: int) -> dict[str, float]:
    """10^9 floating-point operations per second of a 2048³ float32 product, per library."""
    a, b = (np.random.default_rng(i).random((SIDE, SIDE), dtype=np.float32) for i in (0, 1))
    flop = 2 * SIDE**3
    session = _onnxruntime_matmul(threads)
    steps = {"numpy": lambda: a @ b, "onnxruntime": lambda: session.run(None, {"a": a, "b": b})}
    return {name: flop / best_s(step) / 1e9 for name, step in steps.items()}


def matmul_bf16_gflop_s(threads: int) -> float | None:
    """The same product in bf16 by OpenVINO; None where it is not installed or the processor has no bf16."""
    from bench.machine import has_bf16
    from engines import get

    if get("openvino").missing() or not has_bf16():
        return None
    import openvino
    from openvino import opset13 as op

    a = op.parameter([SIDE, SIDE], np.float32)
    weights = op.constant(np.random.default_rng(1).random((SIDE, SIDE), dtype=np.float32))
    model = openvino.Model([op.matmul(a, weights, False, False)], [a])
    config = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    x = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return 2 * SIDE**3 / best_s(request.infer) / 1e9


def copy_gb_s(threads: int) -> float:
    """10^9 bytes per second, read and written, of copying 256 MiB with all threads."""
    source = np.ones(COPY_MIB << 18, np.float32)
    target = np.zeros_like(source)
    bounds = [source.size * i // threads for i in range(threads + 1)]
    ranges = [slice(low, high) for low, high in pairwise(bounds)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda r: np.copyto(target[r], source[r]), ranges))

        return 2 * source.nbytes / best_s(copy) / 1e9


def _onnxruntime_matmul(threads: int) -> Any:
    import onnxruntime as ort
    from onnx import TensorProto, helper

    square = [SIDE, SIDE]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, square) for name in ("a", "b", "c")]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "peak", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure_peaks(device: str, threads: int, bf16: bool) -> dict[str, Any]:
    """All limits of this device, as stored with each run."""
    if device.startswith("cuda"):
        return _cuda_peaks(device)
    products = matmul_gflop_s(threads)
    return {
        "fp32_gflop_s": max(products.values()),
        "fp32_by": max(products, key=lambda name: products[name]),
        "fp32_all_gflop_s": products,
        "bf16_gflop_s": matmul_bf16_gflop_s(threads) if bf16 else None,
        "copy_gb_s": copy_gb_s(threads),
        "threads": threads,
        "method": f"best of {REPEATS}: {SIDE}³ matrix product, copy of {COPY_MIB} MiB (bytes read and written)",
    }


def eight_bit_products(torch: Any, device: str, side: int) -> dict[str, dict[str, Callable[[], object]]]:
    """Ways to multiply two (side, side) matrices, by the operator of torch that does it: `int8` to int32, `fp8` (e4m3)
    to bf16. Without those that this device, or this torch, refuses or lacks.

    Args:
        torch: the module.
        side: a multiple of 16.
    """

    # The second factor lies by columns: the one order that every generation's cores take without a copy.
    def int8() -> Callable[[], object]:
        a = torch.randint(-127, 128, (side, side), device=device, dtype=torch.int8)
        return lambda: torch._int_mm(a, a.t())

    def fp8(**fast: bool) -> Callable[[], object]:
        a, one = torch.rand(side, side, device=device).to(torch.float8_e4m3fn), torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, a.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, **fast)

    # By default sums of fp8 leave Hopper's cores for full FP32 on the way, which takes time; fast ones stay inside.
    ways: dict[str, dict[str, Callable[[], Callable[[], object]]]]
    ways = {"int8": {"_int_mm": int8}, "fp8": {"_scaled_mm": fp8, FAST_FP8: partial(fp8, use_fast_accum=True)}}
    if str(device).startswith("cuda") and torch.cuda.get_device_capability(device) < FP8_FROM:
        ways["fp8"] = {}
    found: dict[str, dict[str, Callable[[], object]]] = {name: {} for name in ways}
    for name, makers in ways.items():
        for way, make in makers.items():
            with suppress(RuntimeError, ValueError, AttributeError, TypeError):  # one of these, by operator and version
                step = make()
                step()
                found[name][way] = step
    return found


def _cuda_peaks(device: str) -> dict[str, Any]:
    """The same by torch on a CUDA device, with an 8192³ product: smaller ones do not fill a large GPU. `int8` and `fp8`
    count multiplications and additions of integers or eight bits as the others do; None where there are no such cores.
    Of several ways to multiply a type the fastest counts; `int8_by` and `fp8_by` name it.
    """
    import torch

    side = CUDA_SIDE
    found: dict[str, float | str | None] = {}

    def synchronized(step: Callable[[], object]) -> float:
        def whole() -> None:
            step()
            torch.cuda.synchronize(device)

        return best_s(whole)

    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
        ("fp16", torch.float16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a = torch.rand(side, side, device=device, dtype=dtype)
        found[f"{name}_gflop_s"] = 2 * side**3 / synchronized(lambda a=a: a @ a) / 1e9  # type: ignore[misc]
    tried = []
    for name, ways in eight_bit_products(torch, device, side).items():
        rates = {way: 2 * side**3 / synchronized(step) / 1e9 for way, step in ways.items()}
        found[f"{name}_gflop_s"] = max(rates.values(), default=None)
        found[f"{name}_by"] = max(rates, key=lambda way: rates[way], default=None)
        tried += [f"{name} by {' or '.join(rates)}"] if rates else []
    source = torch.ones(COPY_MIB << 18, device=device)
    target = torch.zeros_like(source)
    copy = 2 * source.numel() * 4 / synchronized(lambda: target.copy_(source)) / 1e9
    how = f" ({', '.join(tried)})" if tried else ""
    method = f"best of {REPEATS} by torch: {side}³ matrix product{how}, copy of {COPY_MIB} MiB on the device"
    return {**found, "fp32_by": "torch", "copy_gb_s": copy, "threads": None, "method": method}

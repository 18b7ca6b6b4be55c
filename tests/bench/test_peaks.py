"""The machine's limits at toy size: what is timed, what is copied, and that the numbers are of this world."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from bench import peaks

FAST = "_scaled_mm with use_fast_accum"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "SIDE", 64)
    monkeypatch.setattr(peaks, "COPY_MIB", 1)


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps run once and take a second, as best_s would say; the list counts them."""
    calls: list[int] = []

    def best_s(step: Any, *_: object) -> float:
        step()
        calls.append(1)
        return 1.0

    monkeypatch.setattr(peaks, "best_s", best_s)
    return calls


# best_s


def test_best_is_the_fastest_call_after_an_untimed_first() -> None:
    now, durations, calls = 0.0, iter([0.001, 5.0, 3.0, 4.0]), []

    def step() -> None:
        nonlocal now
        calls.append(now)
        now += next(durations)

    assert peaks.best_s(step, repeats=3, clock=lambda: now) == pytest.approx(3.0)
    assert len(calls) == 4


def test_time_between_calls_is_not_timed() -> None:
    """A clock that moves by itself between the steps: one tick per look, and the step takes two more."""
    ticks = 0

    def clock() -> float:
        nonlocal ticks
        ticks += 1
        return float(ticks)

    def step() -> None:
        nonlocal ticks
        ticks += 2

    assert peaks.best_s(step, repeats=5, clock=clock) == 3.0


# The copy


@pytest.mark.parametrize("threads", range(1, 6))
@pytest.mark.usefixtures("small", "instant")
def test_copy_touches_every_element_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 18
    counts = np.zeros(size, np.int64)
    pieces: list[int] = []

    def copyto(target: np.ndarray, source: np.ndarray) -> None:
        assert target.size == source.size
        first = (target.__array_interface__["data"][0] - target.base.__array_interface__["data"][0]) // 4
        counts[first : first + target.size] += 1
        pieces.append(target.size)
        assert (source == 1).all()

    monkeypatch.setattr(np, "copyto", copyto)
    assert peaks.copy_gb_s(threads) == pytest.approx(2 * size * 4 / 1e9)  # read and written, in the second it takes
    assert (counts == 1).all()
    assert len(pieces) == threads
    assert max(pieces) - min(pieces) <= 1


@pytest.mark.usefixtures("instant")
def test_copy_needs_no_memory_beyond_what_it_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 MiB here and there; a machine at its limit must not fail over the bookkeeping."""
    monkeypatch.setattr(peaks, "COPY_MIB", 8)
    tracemalloc.start()
    try:
        peaks.copy_gb_s(2)
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < 2.2 * 8


# The product


@pytest.mark.usefixtures("small", "instant")
def test_product_is_2_n3_floating_point_operations_by_each_library() -> None:
    assert peaks.matmul_gflop_s(1) == pytest.approx({"numpy": 2 * 64**3 / 1e9, "onnxruntime": 2 * 64**3 / 1e9})


@pytest.mark.usefixtures("small")
def test_onnxruntime_really_multiplies() -> None:
    a, b = (np.random.default_rng(i).random((64, 64), dtype=np.float32) for i in (0, 1))
    c = peaks._onnxruntime_matmul(1).run(None, {"a": a, "b": b})[0]
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)


def test_bf16_is_none_where_the_processor_or_the_library_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import engines
    from bench import machine

    monkeypatch.setattr(machine, "has_bf16", lambda: False)
    assert peaks.matmul_bf16_gflop_s(1) is None
    monkeypatch.setattr(machine, "has_bf16", lambda: True)
    monkeypatch.setattr(type(engines.get("openvino")), "missing", lambda _: "not installed")
    assert peaks.matmul_bf16_gflop_s(1) is None


@pytest.mark.usefixtures("small")
def test_bf16_is_measured_where_openvino_is() -> None:
    from bench import machine

    pytest.importorskip("openvino")
    if not machine.has_bf16():
        pytest.skip("this processor has no bf16")
    rate = peaks.matmul_bf16_gflop_s(1)
    assert rate is not None
    assert 1e-3 < rate < 1e6


# All of them


@pytest.mark.usefixtures("small")
def test_limits_of_a_processor() -> None:
    found = peaks.measure_peaks("cpu", 2, bf16=False)
    assert set(found) == {
        "fp32_gflop_s", "fp32_by", "fp32_all_gflop_s", "bf16_gflop_s", "copy_gb_s", "threads", "method",
    }  # fmt: skip
    rates = found["fp32_all_gflop_s"]
    assert set(rates) == {"numpy", "onnxruntime"}
    assert all(math.isfinite(rate) and 1e-3 < rate < 1e6 for rate in rates.values())
    assert found["fp32_gflop_s"] == max(rates.values()) == rates[found["fp32_by"]]
    assert found["bf16_gflop_s"] is None
    assert 1e-2 < found["copy_gb_s"] < 1e4
    assert found["threads"] == 2
    assert found["method"] == "best of 7: 64³ matrix product, copy of 1 MiB (bytes read and written)"


@pytest.mark.usefixtures("small")
def test_bf16_is_asked_only_where_a_case_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "matmul_bf16_gflop_s", lambda threads: 100.0 + threads)
    assert peaks.measure_peaks("cpu", 2, bf16=True)["bf16_gflop_s"] == 102
    assert peaks.measure_peaks("cpu", 2, bf16=False)["bf16_gflop_s"] is None


def test_a_cuda_device_is_asked_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "_cuda_peaks", lambda device: {"device": device})
    assert peaks.measure_peaks("cuda:1", 2, bf16=True) == {"device": "cuda:1"}


# A CUDA device's, by torch on this processor


@pytest.fixture
def as_cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torch without a device to wait for, and a capability to be set."""
    import torch

    monkeypatch.setattr(peaks, "CUDA_SIDE", 64)
    monkeypatch.setattr(peaks, "COPY_MIB", 1)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    yield torch
    torch.backends.cuda.matmul.allow_tf32 = tf32


@pytest.mark.usefixtures("instant")
def test_every_type_that_tensor_cores_multiply_has_a_rate(as_cuda: Any) -> None:
    found = peaks._cuda_peaks("cpu")
    for word in ("fp32", "tf32", "bf16", "fp16", "int8", "fp8"):
        assert found[f"{word}_gflop_s"] == pytest.approx(2 * 64**3 / 1e9), word
    assert found["copy_gb_s"] == pytest.approx(2 * 2**20 / 1e9)


def test_products_of_eight_bits_are_in_the_type_that_is_named(as_cuda: Any) -> None:
    steps = peaks.eight_bit_products(as_cuda, "cpu", 32)
    kinds = {
        (name, way): step().dtype  # type: ignore[attr-defined]
        for name, ways in steps.items()
        for way, step in ways.items()
    }
    assert kinds == {
        ("int8", "_int_mm"): as_cuda.int32,
        ("fp8", "_scaled_mm"): as_cuda.bfloat16,
        ("fp8", FAST): as_cuda.bfloat16,
    }


@pytest.mark.parametrize(("slow", "fast", "by"), [(2.0, 1.0, FAST), (1.0, 2.0, "_scaled_mm")])
def test_the_faster_way_of_fp8_counts_and_is_named(
    slow: float, fast: float, by: str, as_cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    scaled = as_cuda._scaled_mm

    def scaled_mm(*factors: Any, use_fast_accum: bool = False, **words: Any) -> Any:
        asked.append(use_fast_accum)
        return scaled(*factors, use_fast_accum=use_fast_accum, **words)

    def best_s(step: Any) -> float:
        asked.clear()
        step()
        return {(): 4.0, (False,): slow, (True,): fast}[tuple(asked)]

    monkeypatch.setattr(as_cuda, "_scaled_mm", scaled_mm)
    monkeypatch.setattr(peaks, "best_s", best_s)
    found = peaks._cuda_peaks("cpu")
    assert found["fp8_gflop_s"] == pytest.approx(2 * 64**3 / 1e9)  # in a second
    assert (found["int8_by"], found["fp8_by"]) == ("_int_mm", by)
    assert found["method"] == (
        f"best of 7 by torch: 64³ matrix product (int8 by _int_mm, fp8 by _scaled_mm or {FAST}), "
        "copy of 1 MiB on the device"
    )


def test_without_such_operators_there_are_the_other_peaks(as_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(as_cuda, "_int_mm")
    monkeypatch.delattr(as_cuda, "_scaled_mm")
    found = peaks._cuda_peaks("cpu")
    assert found["int8_gflop_s"] is found["fp8_gflop_s"] is found["int8_by"] is found["fp8_by"] is None
    assert found["fp16_gflop_s"] > 0
    assert found["method"] == "best of 7 by torch: 64³ matrix product, copy of 1 MiB on the device"


class Torch:
    """torch with another device's capability, and operators that it may lack or that may refuse."""

    def __init__(self, real: Any, capability: tuple[int, int], **changed: Any) -> None:
        self._real, self._changed = real, changed
        self.cuda = type("Cuda", (), {"get_device_capability": staticmethod(lambda device: capability)})

    def __getattr__(self, name: str) -> Any:
        if name in self._changed:
            return self._changed[name]
        found = getattr(self._real, name)
        if name in {"ones", "rand", "randint"}:  # there is no CUDA here to make them on

            def anywhere(*sizes: int, device: str, **words: Any) -> Any:
                return found(*sizes, **words)

            return anywhere
        return found


def refusing(*arguments: object, **words: object) -> None:
    raise RuntimeError("this device has no such cores")


def of_old(a: Any, b: Any, **words: Any) -> Any:
    """As an operator that does not know the newest of its words."""
    if words.pop("use_fast_accum", None) is not None:
        raise TypeError("_scaled_mm() got an unexpected keyword argument 'use_fast_accum'")
    import torch

    return torch._scaled_mm(a, b, **words)


@pytest.mark.parametrize(
    ("capability", "changed", "known"),
    [
        ((9, 0), {}, {"_int_mm", "_scaled_mm", FAST}),
        ((8, 9), {}, {"_int_mm", "_scaled_mm", FAST}),
        ((8, 6), {}, {"_int_mm"}),
        ((9, 0), {"_int_mm": refusing}, {"_scaled_mm", FAST}),
        ((9, 0), {"_scaled_mm": refusing}, {"_int_mm"}),
        ((9, 0), {"_scaled_mm": of_old}, {"_int_mm", "_scaled_mm"}),
        ((9, 0), {"float8_e4m3fn": None}, {"_int_mm"}),
        ((7, 5), {"_int_mm": refusing}, set()),
    ],
)
def test_what_a_device_does_not_multiply_has_no_rate(
    capability: tuple[int, int], changed: dict[str, Any], known: set[str]
) -> None:
    import torch

    found = peaks.eight_bit_products(Torch(torch, capability, **changed), "cuda:0", 32)
    assert set(found) == {"int8", "fp8"}
    assert {way for ways in found.values() for way in ways} == known


@pytest.mark.gpu
def test_a_device_s_peaks(cuda: str) -> None:
    found = peaks._cuda_peaks(cuda)
    assert found["fp16_gflop_s"] > found["fp32_gflop_s"] > 0
    assert found["int8_gflop_s"] is None or found["int8_gflop_s"] > found["fp32_gflop_s"]

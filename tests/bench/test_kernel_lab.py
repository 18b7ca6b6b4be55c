"""The CUDA side over a torch.cuda that writes down what is done, on tensors of this processor."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import kernel_lab
from bench.kernel_cases import KernelCase, Made, cases
from bench.kernel_lab import MOST_FLUSHES, CudaLab
from bench.kernels import row_of


class Log:
    """torch, as far as it is used. `busy`: for how many timings the first event is reached before the step is there."""

    def __init__(self, capability: tuple[int, int] = (9, 0)) -> None:
        self.did: list[str] = []
        self.late = 0
        self.refusal: Exception | None = None
        did, log = self.did, self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                did.append("event")

            def query(self) -> bool:
                log.late -= 1
                return log.late >= 0

            def elapsed_time(self, end: Any) -> float:
                assert end is not self
                return 2.5

        class Cache:
            def zero_(self) -> None:
                did.append("flush")

        self.cuda = SimpleNamespace(
            Event=Event, get_device_capability=lambda device: capability, get_device_name=lambda device: "Made up",
            get_device_properties=lambda device: SimpleNamespace(L2_cache_size=64),
            set_device=lambda device: did.append(f"set {device}"),
            synchronize=lambda device: did.append("synchronize"), empty_cache=lambda: did.append("empty"),
        )  # fmt: skip
        self.backends = SimpleNamespace(
            cudnn=SimpleNamespace(benchmark=False, allow_tf32=False),
            cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False)),
        )
        self._dynamo = SimpleNamespace(reset=lambda: did.append("reset"))
        self.cache_sizes: list[int] = []
        self._cache = Cache

    def empty(self, size: int, dtype: Any, device: Any) -> Any:
        self.cache_sizes.append(size)
        return self._cache()

    def compile(self, function: Any, dynamic: bool, fullgraph: bool) -> Any:
        assert (dynamic, fullgraph) == (False, True)

        def run(*inputs: Any) -> Any:
            if self.refusal:
                raise self.refusal
            self.did.append("compiled")
            return function(*inputs)

        return run

    def __getattr__(self, name: str) -> Any:
        found = getattr(torch, name)
        if name in {"ones", "rand"}:
            return lambda *size, device, dtype=None: found(*size, dtype=dtype)
        return found


CASE = cases(["pixel_shuffle"], [("small", 30, 12)], ["fp32"])[0]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_lab, "COPY_MIB", 1)
    monkeypatch.setattr(kernel_lab, "CUDA_SIDE", 8)


@pytest.fixture
def lab(small: None, monkeypatch: pytest.MonkeyPatch) -> tuple[CudaLab, Log]:
    """A lab whose kernels are their references."""

    def made(case: KernelCase, device: str, seed: int) -> Made:
        log.did.append(f"made {seed}")
        x = torch.arange(360.0).view(1, 9, 4, 10)

        def kernel(x: Any, planned: bool = False) -> Any:
            log.did.append("planned" if planned else "kernel")
            return torch.nn.functional.pixel_shuffle(x, 3)

        def native(x: Any) -> Any:
            log.did.append("native")
            return torch.nn.functional.pixel_shuffle(x, 3)

        return Made((x,), kernel, native, lambda x: torch.nn.functional.pixel_shuffle(x, 3))

    log = Log()
    monkeypatch.setattr(kernel_lab, "made", made)
    made_lab = CudaLab(log, "cuda:0", compiled=True)
    assert log.did == ["set cuda:0"]  # before the first event
    log.did.clear()
    return made_lab, log


def test_a_step_stands_between_two_events_behind_a_flush(lab: tuple[CudaLab, Log]) -> None:
    device, log = lab
    assert device.time_ms(lambda: log.did.append("step")) == 2.5
    assert log.did == ["flush", "event", "step", "event", "synchronize"]
    assert log.cache_sizes == [128]
    assert device.late == 0


def test_work_is_added_until_the_device_does_not_wait_for_the_host(lab: tuple[CudaLab, Log]) -> None:
    device, log = lab
    log.late = 2
    device.time_ms(lambda: log.did.append("step"))
    assert [log.did.count(word) for word in ("step", "flush")] == [3, 1 + 2 + 4]
    log.did.clear()
    device.time_ms(lambda: log.did.append("step"))
    assert [log.did.count(word) for word in ("step", "flush")] == [1, 4]
    assert device.late == 0


def test_a_timing_that_stays_late_is_counted(lab: tuple[CudaLab, Log]) -> None:
    device, log = lab
    log.late = 10**6
    assert device.time_ms(lambda: None) == 2.5
    assert device.late == 1
    log.did.clear()
    device.time_ms(lambda: None)
    assert log.did.count("flush") == MOST_FLUSHES
    assert device.late == 2


def test_contenders_are_run_once_before_they_are_timed(lab: tuple[CudaLab, Log]) -> None:
    device, log = lab
    ready = device.prepared(CASE)
    assert log.did == ["empty", "made 1", "kernel", "planned", "empty", "native", "reset", "compiled", "native"]
    assert set(ready.steps) == {"kernel", "planned", "native", "copy", "copy_alike", "compiled"}
    assert ready.fault is ready.skipped is None
    for name, step in ready.steps.items():
        log.did.clear()
        step()
        expected = {"copy": [], "copy_alike": [], "compiled": ["compiled", "native"]}.get(name, [name])
        assert log.did == expected


def test_every_row_has_inputs_of_its_own(lab: tuple[CudaLab, Log]) -> None:
    device, log = lab
    device.prepared(CASE)
    device.prepared(CASE)
    assert [word for word in log.did if word.startswith("made")] == ["made 1", "made 2"]


def test_a_wrong_kernel_has_no_contenders(lab: tuple[CudaLab, Log], monkeypatch: pytest.MonkeyPatch) -> None:
    device, log = lab
    monkeypatch.setattr(kernel_lab, "fault", lambda case, ready: "5 elements differ")
    ready = device.prepared(CASE)
    assert (dict(ready.steps), ready.fault) == ({}, "5 elements differ")
    assert "native" not in log.did


def test_what_a_device_does_not_run_is_not_made(small: None) -> None:
    log = Log((7, 5))
    case = cases(["pixel_dcl"], [("small", 30, 12)], ["fp16"])[0]
    ready = CudaLab(log, "cuda:0", compiled=True).prepared(case)
    assert "capability 8.0" in str(ready.skipped)


def test_a_case_that_does_not_fit_is_skipped(lab: tuple[CudaLab, Log], monkeypatch: pytest.MonkeyPatch) -> None:
    device, log = lab
    log.refusal = torch.OutOfMemoryError("CUDA out of memory")
    assert device.prepared(CASE).skipped == "does not fit into the device's memory"

    def fault(case: Any, ready: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(kernel_lab, "fault", fault)
    assert device.prepared(CASE).skipped == "does not fit into the device's memory"


def test_a_compiler_that_fails_is_left_out_with_its_reason(lab: tuple[CudaLab, Log]) -> None:
    device, log = lab
    log.refusal = RuntimeError("Failed to find\n C compiler")
    ready = device.prepared(CASE)
    assert "compiled" not in ready.steps
    assert ready.left_out == {"compiled": "Failed to find C compiler"}


@pytest.mark.parametrize(
    "error", [NotImplementedError("not implemented for 'Char'"), AttributeError("no such operator")], ids=repr
)
def test_operators_that_are_missing_are_left_out_with_their_reason(
    error: Exception, lab: tuple[CudaLab, Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, _ = lab
    make = kernel_lab.made

    def native(x: Any) -> Any:
        raise error

    monkeypatch.setattr(kernel_lab, "made", lambda *words, **more: replace(make(*words, **more), native=native))
    ready = device.prepared(CASE)
    assert set(ready.steps) == {"kernel", "planned", "copy", "copy_alike"}
    assert ready.left_out == dict.fromkeys(("native", "compiled"), str(error))
    samples = {name: [1.0] for name in ready.steps}
    assert row_of(CASE, ready, samples, device.copy_bytes, {})["native"] is None


def test_a_torch_that_compiles_nothing_is_left_out(lab: tuple[CudaLab, Log], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*words: Any, **more: Any) -> None:
        raise RuntimeError("torch.compile is not supported on this Python")

    device, log = lab
    monkeypatch.setattr(log, "compile", refused, raising=False)
    assert device.prepared(CASE).left_out == {"compiled": "torch.compile is not supported on this Python"}


def test_torch_compile_can_be_left_out(small: None, lab: tuple[CudaLab, Log]) -> None:
    _, log = lab
    ready = CudaLab(log, "cuda:0", compiled=False).prepared(CASE)
    assert "compiled" not in ready.steps
    assert "reset" not in log.did


def test_copies_move_as_many_bytes_as_they_say(lab: tuple[CudaLab, Log]) -> None:
    device, _ = lab
    assert device.copy_bytes == 2 << 20
    device._source.fill_(7)
    device.prepared(CASE).steps["copy_alike"]()
    moved = int((device._target == 7).sum()) * 4
    assert moved == CASE.min_bytes // 2 == 360 * 4
    device.copy()
    assert bool((device._target == 7).all())


def test_a_large_row_is_compared_with_the_large_copy_alone(lab: tuple[CudaLab, Log]) -> None:
    large = cases(["pixel_shuffle"], [("small", 600, 600)], ["fp32"])[0]
    assert large.min_bytes > 2 << 20
    assert "copy_alike" not in lab[0].prepared(large).steps


def test_products_are_in_the_type_that_is_named(lab: tuple[CudaLab, Log]) -> None:
    device, log = lab
    assert device.product("tf32")().dtype == torch.float32  # type: ignore[attr-defined]
    assert device.product("fp16")().dtype == torch.float16  # type: ignore[attr-defined]
    assert CudaLab.product_flop == 2 * 8192**3
    assert log.backends.cuda.matmul.allow_tf32
    assert log.backends.cudnn.allow_tf32
    assert log.backends.cudnn.benchmark
    assert device.name == "Made up"


def test_the_names_that_are_used_of_torch_exist() -> None:
    event = torch.cuda.Event
    assert all(hasattr(event, name) for name in ("record", "query", "elapsed_time"))
    assert all(
        hasattr(torch.cuda, n) for n in ("empty_cache", "set_device", "get_device_name", "get_device_properties")
    )
    assert issubclass(torch.OutOfMemoryError, RuntimeError)
    assert issubclass(torch._dynamo.exc.BackendCompilerFailed, RuntimeError)
    assert callable(torch._dynamo.reset)

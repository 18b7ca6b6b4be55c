"""A CUDA device as bench/kernels.py asks for it: a case's steps, checked, and times by the device's events.

Takes `torch` as an argument. Written from documentation; docs/gpu-verification.md says what was run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench.kernel_cases import KernelCase, fault, made
from bench.kernels import Prepared
from bench.peaks import COPY_MIB, CUDA_SIDE

Step = Callable[[], object]
MOST_FLUSHES = 64
"""Before one timed step: a ms or two of work, which hides what the host needs to submit even two dozen operators."""


class CudaLab:
    """One device. TF32 is allowed from here on, as `tf32` rows and their operators want it, and convolutions are
    chosen by timing them; the process is expected to do nothing else."""

    def __init__(self, torch: Any, device: str, compiled: bool) -> None:
        """
        Args:
            compiled: whether torch.compile of the operators is a contender.
        """
        self._torch, self._device, self._compiled = torch, device, compiled
        torch.cuda.set_device(device)  # events and Triton's launches belong to the current one
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        major, minor = torch.cuda.get_device_capability(device)
        self.capability = 10 * major + minor
        size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
        self._cache = torch.empty(size, dtype=torch.int8, device=device)
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self._flushes = 1
        self._source = torch.ones(COPY_MIB << 18, device=device)
        self._target = torch.zeros_like(self._source)
        self.copy_bytes = 2 * 4 * self._source.numel()
        self.late = 0
        """Timings that may hold time of the host: the device had nothing left to do before the step was submitted."""
        self._rows = 0

    @property
    def name(self) -> str:
        return str(self._torch.cuda.get_device_name(self._device))

    def time_ms(self, step: Step) -> float:
        """Device time of a step, from an emptied second-level cache.

        Both events and the step stand in the queue behind work that empties the cache, so much of it that the host has
        submitted all before the first event is reached: nothing between the events waits for the host.
        """
        start, end = self._events
        while True:
            for _ in range(self._flushes):
                self._cache.zero_()
            start.record()
            step()
            end.record()
            late = start.query()
            self._torch.cuda.synchronize(self._device)
            if not late or self._flushes >= MOST_FLUSHES:
                self.late += late
                return float(start.elapsed_time(end))
            self._flushes *= 2

    def copy(self) -> object:
        """The large copy whose rate is the device's."""
        return self._target.copy_(self._source)

    def _copy_of(self, count: int) -> Step:
        """A copy of so many bytes."""
        source, target = (whole.view(self._torch.int8)[:count] for whole in (self._source, self._target))
        return lambda: target.copy_(source)

    def product(self, precision: str) -> Step:
        """A product of square matrices, 2 * side³ operations (`product_flop`), in tf32 or fp16."""
        dtype = self._torch.float32 if precision == "tf32" else self._torch.float16
        a = self._torch.rand(CUDA_SIDE, CUDA_SIDE, device=self._device, dtype=dtype)
        return lambda: a @ a

    product_flop = 2 * CUDA_SIDE**3

    def prepared(self, case: KernelCase) -> Prepared:
        """The case's contenders, or why it has none: a wrong kernel, a device that is too small or too old for it."""
        torch = self._torch
        if reason := case.why_not(self.capability):
            return Prepared(skipped=reason)
        self._rows += 1
        torch.cuda.empty_cache()

        def compiled() -> Any:
            torch._dynamo.reset()  # it would count cases of one function, and give up compiling at the eighth
            return torch.compile(ready.native, dynamic=False, fullgraph=True)

        try:
            ready = made(case, self._device, seed=self._rows)
            if reason := fault(case, ready):
                return Prepared(fault=reason)
            torch.cuda.empty_cache()  # of the reference
            steps: dict[str, Step] = {
                "kernel": lambda: ready.kernel(*ready.inputs),
                "planned": lambda: ready.kernel(*ready.inputs, planned=True),
                "copy": self.copy,
            }
            if case.min_bytes < self.copy_bytes:
                steps["copy_alike"] = self._copy_of(case.min_bytes // 2)
            left_out = {}
            rivals = {"native": lambda: ready.native, **({"compiled": compiled} if self._compiled else {})}
            for name, make in rivals.items():
                try:
                    rival = make()
                    rival(*ready.inputs)
                    steps[name] = partial(rival, *ready.inputs)
                except torch.OutOfMemoryError:
                    raise
                except (RuntimeError, AttributeError, TypeError, ImportError) as error:  # by what is missing
                    left_out[name] = " ".join(str(error).split())[:200]
            return Prepared(steps=steps, left_out=left_out)
        except torch.OutOfMemoryError:
            return Prepared(skipped="does not fit into the device's memory")

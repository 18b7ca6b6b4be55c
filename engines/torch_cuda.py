"""The CUDA side of a PyTorch session: events around copies and inferences, a CUDA graph, an emptied cache.

Takes the `torch` module as an argument and imports nothing. Written from documentation; docs/gpu-verification.md says
what was run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WARM_UPS = 3
"""Runs before a capture: kernels are chosen and workspaces taken in them. Source: PyTorch, CUDA semantics, graphs."""


class CudaRuns:
    """Inferences of one session on one device."""

    def __init__(self, torch: Any, device: Any, graph: bool, flush: bool) -> None:
        """
        Args:
            graph: whether inferences are captured once per shape and then replayed.
            flush: whether `flush` writes twice as many bytes as the second-level cache holds.
        """
        self._torch, self._device, self._replays = torch, device, graph
        self._events = {
            part: [torch.cuda.Event(enable_timing=True) for _ in range(2)] for part in ("h2d", "compute", "d2h")
        }
        self._timed: set[str] = set()
        self._graph: Any = None
        self._y: Any = None
        size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
        self._cache = torch.empty(size, dtype=torch.int8, device=device) if flush else None
        self.contract = {"graph_capture": graph, "host_memory": "pageable"}
        if flush:
            self.contract["l2_state"] = "emptied before every inference"

    @contextmanager
    def _timing(self, part: str) -> Iterator[None]:
        start, end = self._events[part]
        start.record()
        yield
        end.record()
        self._timed.add(part)

    def upload(self, host: Any, old: Any, memory_format: Any) -> Any:
        """The input on the device: in the memory of the old one, which a graph reads, where the shape is the same."""
        with self._timing("h2d"):
            if old is not None and old.shape == host.shape:
                old.copy_(host)
                return old
            self._graph = self._y = None
            return host.to(self._device, memory_format=memory_format)

    def run(self, call: Callable[[Any], Any], x: Any) -> Any:
        """The output, which the next inference of the same graph writes again."""
        if self._replays and self._graph is None:
            self._capture(call, x)
        with self._timing("compute"):
            if not self._replays:
                return call(x)
            self._graph.replay()
        return self._y

    def _capture(self, call: Callable[[Any], Any], x: Any) -> None:
        cuda = self._torch.cuda
        side = cuda.Stream(self._device)
        side.wait_stream(cuda.current_stream(self._device))
        with cuda.stream(side):
            for _ in range(WARM_UPS):
                call(x)
        cuda.current_stream(self._device).wait_stream(side)
        self._graph = cuda.CUDAGraph()
        with cuda.graph(self._graph):
            self._y = call(x)

    def download(self, y: Any) -> Any:
        with self._timing("d2h"):
            return y.cpu()

    def flush(self) -> None:
        """Empties the cache where that was asked for, and waits for it."""
        if self._cache is not None:
            self._cache.zero_()
            self._torch.cuda.synchronize(self._device)

    def ms(self) -> dict[str, float]:
        """Device times of what has been timed and waited for."""
        self._torch.cuda.synchronize(self._device)
        return {part: start.elapsed_time(end) for part, (start, end) in self._events.items() if part in self._timed}

"""The CUDA side of a PyTorch session, over a torch.cuda that writes down what is done; `-m gpu` has a real one."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from engines.engine import Options
from engines.torch_cuda import WARM_UPS, CudaRuns
from engines.torch_eager import ENGINE


class Log:
    """torch, as far as it is used, on the CPU: `did` is what happened on the device."""

    int8 = torch.int8

    def __init__(self) -> None:
        self.did: list[str] = []
        log = self.did

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                log.append("event")

            def elapsed_time(self, end: Any) -> float:
                return 2.5

        class Stream:
            def __init__(self, device: Any) -> None: ...
            def wait_stream(self, other: Any) -> None: ...

        class Graph:
            def replay(self) -> None:
                log.append("replay")

        @contextmanager
        def noted(word: str) -> Any:
            log.append(f"begin {word}")
            yield
            log.append(f"end {word}")

        self.cuda = SimpleNamespace(
            Event=Event, Stream=Stream, CUDAGraph=Graph, current_stream=Stream,
            stream=lambda stream: noted("side"), graph=lambda graph: noted("capture"),
            get_device_properties=lambda device: SimpleNamespace(L2_cache_size=64),
            synchronize=lambda device: log.append("synchronize"),
        )  # fmt: skip

    def empty(self, size: int, dtype: Any, device: Any) -> torch.Tensor:
        self.did.append(f"empty {size}")
        return torch.empty(size, dtype=dtype)


def runs(graph: bool = False, flush: bool = False) -> tuple[CudaRuns, list[str]]:
    log = Log()
    return CudaRuns(log, torch.device("cpu"), graph, flush), log.did


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_an_input_of_the_same_shape_is_copied_to_where_the_old_one_lies() -> None:
    cuda, did = runs()
    first = cuda.upload(torch.ones(1, 3, 4, 4), None, torch.channels_last)
    assert first.is_contiguous(memory_format=torch.channels_last)
    again = cuda.upload(torch.full((1, 3, 4, 4), 7.0), first, torch.channels_last)
    assert again is first
    assert first.unique().tolist() == [7]
    assert cuda.upload(torch.ones(1, 3, 5, 4), first, torch.contiguous_format) is not first
    assert did == ["event"] * 6


def test_without_a_graph_every_inference_is_a_call_between_two_events() -> None:
    cuda, did = runs()
    x = torch.ones(2)
    assert cuda.run(doubled, x).tolist() == [2, 2]
    assert did == ["event", "event"]
    assert cuda.ms() == {"compute": 2.5}
    assert did[-1] == "synchronize"


def test_a_graph_is_captured_once_per_shape_after_warm_ups_and_then_replayed() -> None:
    cuda, did = runs(graph=True)
    calls = []

    def call(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape)
        return 2 * x

    x = cuda.upload(torch.ones(1, 1, 2, 2), None, torch.contiguous_format)
    did.clear()
    for _ in range(3):
        y = cuda.run(call, x)
    assert len(calls) == WARM_UPS + 1
    assert did == [*(f"{when} {what}" for what in ("side", "capture") for when in ("begin", "end")),
                   *["event", "replay", "event"] * 3]  # fmt: skip
    assert cuda.run(call, x) is y  # one output, written again and again
    x = cuda.upload(torch.ones(1, 1, 2, 3), x, torch.contiguous_format)
    cuda.run(call, x)
    assert len(calls) == 2 * (WARM_UPS + 1)
    assert cuda.contract["graph_capture"] is True


def test_the_cache_is_emptied_only_where_that_was_asked_for() -> None:
    cuda, did = runs(flush=True)
    assert did == ["empty 128"]  # twice the cache
    cuda.flush()
    assert did[-1] == "synchronize"
    assert cuda.contract["l2_state"] == "emptied before every inference"
    cuda, did = runs()
    cuda.flush()
    assert did == []


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"graph": "on"}, {"l2": "flushed"}])
@pytest.mark.parametrize("kind", ["fp32", "tf32", "bf16", "fp16"])
def test_a_device_replays_what_it_computes(request, settings, kind):
    words = ("cuda", "networks", "expected", "picture")
    cuda, networks, expected, picture = map(request.getfixturevalue, words)
    if reason := ENGINE.device_missing(cuda):
        pytest.skip(reason)
    allowed = {"fp32": 1e-4, "tf32": 2e-2, "bf16": 4e-2, "fp16": 1e-2}[kind]
    options = Options(cuda, kind, settings=ENGINE.complete_settings(settings))
    with ENGINE.load(networks["image"].main, options) as session:
        for size, seed in (((48, 64), 1), ((48, 64), 2), ((37, 51), 3)):
            x = picture(*size, seed)
            session.bind(x)
            for _ in range(3):
                session.prepare()
                session.enqueue()
                session.synchronize()
            wanted = expected("image", x)
            assert np.abs(session.read() - wanted).max() < allowed * max(1, np.abs(wanted).max())
            told = session.device_ms()
            assert set(told) == {"h2d", "compute", "d2h"}
            assert all(0 < value < 1000 for value in told.values())
        assert session.memory_bytes()["allocated"] > 0

"""A CUDA runtime in host memory and a TensorRT that doubles its input: what a session does to them can be seen."""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engines.trt.api import TensorRtApi


class Error(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815  the vendor's names
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorLaunchFailure = 719  # noqa: N815


class FakeCuda(types.ModuleType):
    """cuda.bindings.runtime with memory in this process. `live` holds what was not freed, `calls` what happened."""

    cudaError_t = Error  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaHostAllocDefault = 0  # noqa: N815
    cudaMemcpyKind = types.SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice="h2d", cudaMemcpyDeviceToHost="d2h", cudaMemcpyDeviceToDevice="d2d"
    )
    cudaMemoryType = types.SimpleNamespace(  # noqa: N815
        cudaMemoryTypeHost=1, cudaMemoryTypeDevice=2, cudaMemoryTypeManaged=3
    )
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal="local")  # noqa: N815
    cudaDeviceAttr = types.SimpleNamespace(  # noqa: N815
        cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76, cudaDevAttrL2CacheSize=38
    )

    def __init__(self) -> None:
        super().__init__("runtime")
        self.live: dict[int, Any] = {}
        self.calls: list[str] = []
        self.made = 0
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.total = 8 << 30
        self.full = False
        self.current = 0
        self.elsewhere: dict[int, tuple[int, int]] = {}
        """Address → kind and device of memory that is not this device's."""
        self.clock = 0.0

    def _memory(self, kind: str, size: int) -> tuple[Any, ...]:
        if self.full:
            return Error.cudaErrorMemoryAllocation, None
        buffer = (ctypes.c_uint8 * (size + 256))()
        address = -(-ctypes.addressof(buffer) // 256) * 256  # as CUDA's are
        self.live[address] = (kind, (buffer, size))
        return Error.cudaSuccess, address

    def _release(self, kind: str, address: int) -> tuple[Any, ...]:
        assert self.live.pop(address)[0] == kind
        return (Error.cudaSuccess,)

    def _made(self, kind: str) -> tuple[Any, ...]:
        self.made += 1
        handle = 1000 + self.made
        self.calls.append(kind)
        self.live[handle] = (kind, None)
        return Error.cudaSuccess, handle

    def _done(self, *what: str) -> tuple[Any, ...]:
        self.calls += what
        return (Error.cudaSuccess,)

    def cudaSetDevice(self, index: int) -> Any:  # noqa: N802
        self.current = index
        return self._done(f"device {index}")

    def cudaGetDevice(self) -> Any:  # noqa: N802
        return Error.cudaSuccess, self.current

    def cudaPointerGetAttributes(self, address: int) -> Any:  # noqa: N802
        kind, device = self.elsewhere.get(address, (2, 0))
        return Error.cudaSuccess, types.SimpleNamespace(type=kind, device=device)

    def cudaDriverGetVersion(self) -> Any:  # noqa: N802
        return Error.cudaSuccess, 13000

    def cudaGetDeviceProperties(self, index: int) -> Any:  # noqa: N802
        return Error.cudaSuccess, types.SimpleNamespace(name=b"Fake GPU\0\0")

    def cudaDeviceGetAttribute(self, name: int, index: int) -> Any:  # noqa: N802
        return Error.cudaSuccess, {75: 8, 76: 9, 38: 4096}[name]

    def cudaDeviceGetPCIBusId(self, length: int, index: int) -> Any:  # noqa: N802
        assert length >= 13
        return Error.cudaSuccess, f"0000:{0x65 + index:02X}:00.0".encode() + b"\0"

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:  # noqa: N802
        return self._made("stream")

    def cudaStreamDestroy(self, stream: int) -> Any:  # noqa: N802
        return self._release("stream", stream)

    def cudaEventCreate(self) -> Any:  # noqa: N802
        return self._made("event")

    def cudaEventDestroy(self, event: int) -> Any:  # noqa: N802
        return self._release("event", event)

    def cudaEventRecord(self, event: int, stream: int) -> Any:  # noqa: N802
        assert self.recording is None
        self.clock += 1.5
        return self._done("event")

    def cudaEventSynchronize(self, event: int) -> Any:  # noqa: N802
        return self._done()

    def cudaEventElapsedTime(self, start: int, end: int) -> Any:  # noqa: N802
        return Error.cudaSuccess, 1.5

    def cudaMalloc(self, size: int) -> Any:  # noqa: N802
        return self._memory("device", size)

    def cudaFree(self, address: int) -> Any:  # noqa: N802
        return self._release("device", address)

    def cudaHostAlloc(self, size: int, flags: int) -> Any:  # noqa: N802
        return self._memory("pinned", size)

    def cudaFreeHost(self, address: int) -> Any:  # noqa: N802
        return self._release("pinned", address)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> Any:  # noqa: N802
        ctypes.memmove(target, source, size)
        return self._done(kind)

    def cudaMemsetAsync(self, target: int, value: int, size: int, stream: int) -> Any:  # noqa: N802
        ctypes.memset(target, value, size)
        return self._done("memset")

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:  # noqa: N802
        assert {self.live[stream][0], self.live[event][0]} == {"stream", "event"}
        return self._done("wait")

    def cudaStreamSynchronize(self, stream: int) -> Any:  # noqa: N802
        return self._done("synchronize" if self.live.get(stream) else f"synchronize {stream}")

    def cudaDeviceSynchronize(self) -> Any:  # noqa: N802
        return self._done("synchronize device")

    def cudaMemGetInfo(self) -> Any:  # noqa: N802
        return Error.cudaSuccess, self.total - 100, self.total

    def cudaStreamBeginCapture(self, stream: int, mode: str) -> Any:  # noqa: N802
        self.recording = []
        return self._done("begin")

    def cudaStreamEndCapture(self, stream: int) -> Any:  # noqa: N802
        _, handle = self._made("graph")
        self.graphs[handle], self.recording = self.recording or [], None
        return Error.cudaSuccess, handle

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:  # noqa: N802
        _, handle = self._made("executable")
        self.graphs[handle] = self.graphs[graph]
        return Error.cudaSuccess, handle

    def cudaGraphDestroy(self, graph: int) -> Any:  # noqa: N802
        return self._release("graph", graph)

    def cudaGraphExecDestroy(self, graph: int) -> Any:  # noqa: N802
        return self._release("executable", graph)

    def cudaGraphLaunch(self, graph: int, stream: int) -> Any:  # noqa: N802
        for call in self.graphs[graph]:
            call()
        return self._done("replay")


TYPES = {"FLOAT": np.float32, "UINT8": np.uint8}


class FakeContext:
    """y = weight * x, every pixel repeated to twice the side; of float planes (1, C, H, W) or a picture (H, W, 3)."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.addresses, self.shape = engine, {}, ()
        self.profiler: Any = None
        self.enqueue_emits_profile = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == ("x" if len(shape) == 4 else "picture")
        self.shape = tuple(shape)
        least, most = self.engine.profile
        size = shape[2:] if len(shape) == 4 else shape[:2]
        return all(low <= side <= high for low, side, high in zip(least, size, most, strict=True))

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.engine.profile = self.engine.profiles[number]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in {"x", "picture"}:
            return self.shape
        n, c, h, w = (1, 3, *self.shape[:2]) if len(self.shape) == 3 else self.shape
        return (2 * h, 2 * w, 3) if len(self.shape) == 3 else (n, c, 2 * h, 2 * w)

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address % 256:
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        addresses, shape, cuda = dict(self.addresses), self.shape, self.engine.cuda

        def run() -> None:
            planes = len(shape) == 4
            given, result = ("x", "y") if planes else ("picture", "result")
            kind = ctypes.c_float if planes else ctypes.c_uint8
            x = np.ctypeslib.as_array((kind * int(np.prod(shape))).from_address(addresses[given]))
            first = 2 if planes else 0
            y = (x.dtype.type(self.engine.weight) * x).reshape(shape).repeat(2, first).repeat(2, first + 1)
            ctypes.memmove(addresses[result], y.ctypes.data, y.nbytes)

        if cuda.recording is not None:
            cuda.recording.append(run)
        else:
            run()
        cuda.calls.append("execute")
        return not self.engine.broken

    def report_to_profiler(self) -> bool:
        for name, ms in (("conv", 0.5), ("shuffle", 0.25), ("conv", 0.125)):
            self.profiler.report_layer_time(name, ms)
        return True


class FakeEngine:
    device_memory_size_v2 = 4096

    def __init__(self, cuda: FakeCuda, plan: bytes) -> None:
        told = json.loads(plan)
        self.cuda, self.profile, self.weight, self.broken = cuda, told["profile"], 2.0, False
        self.profiles = told.get("profiles", [])

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self)

    def get_tensor_dtype(self, name: str) -> str:
        return "FLOAT" if name in {"x", "y"} else "UINT8"

    def get_engine_stat(self, stat: str) -> int:
        return {"weights": 12}[stat]

    def create_engine_inspector(self) -> Any:
        conv = {"Name": "conv", "LayerType": "CaskConvolution", "Outputs": [{"Name": "y", "Format/Datatype": "Half"}]}
        told = {"Layers": [conv, "shuffle"]}
        return types.SimpleNamespace(get_engine_information=lambda form: json.dumps(told))


class FakeRefitter:
    def __init__(self, engine: FakeEngine, logger: Any) -> None:
        self.engine, self.given = engine, {}

    def set_named_weights(self, name: str, weights: Any) -> bool:
        self.given[name] = weights
        return name != "refused"

    def refit_cuda_engine(self) -> bool:
        self.engine.weight = float(self.given["w"].item())
        return True


def fake_tensorrt(cuda: FakeCuda) -> types.SimpleNamespace:
    class Logger:
        Severity = types.SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            assert "stream" in cuda.calls, "without a driver, a Runtime ends the process"

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            return FakeEngine(cuda, plan) if plan != b"{}" else None

    return types.SimpleNamespace(
        ILogger=Logger, Runtime=Runtime, Refitter=FakeRefitter, Weights=lambda array: array,
        IProfiler=type("IProfiler", (), {"__init__": lambda self: None}), nptype=TYPES.__getitem__,
        EngineStat=types.SimpleNamespace(TOTAL_WEIGHTS_SIZE="weights"),
        LayerInformationFormat=types.SimpleNamespace(JSON="json"),
    )  # fmt: skip


class FakeApi(TensorRtApi):
    """TensorRT's own settings and contexts over the fake library."""

    def __init__(self, module: Any) -> None:
        self._module = module

    @property
    def module(self) -> Any:
        return self._module

    def runtime_module(self, settings: Any) -> Any:
        self._module.__name__ = "tensorrt_lean" if settings["runtime"] == "lean" else "tensorrt"
        return self._module

    def version(self) -> str:
        return "fake 1"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """cuda.bindings.runtime in host memory, for this test."""
    return installed_cuda(monkeypatch)


def installed_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Importable as cuda.bindings.runtime for as long as the patch lasts."""
    fake = FakeCuda()
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    bindings.runtime = fake  # type: ignore[attr-defined]
    for name, module in (("cuda", package), ("cuda.bindings", bindings), ("cuda.bindings.runtime", fake)):
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.fixture
def fake_api(cuda: FakeCuda) -> FakeApi:
    return FakeApi(fake_tensorrt(cuda))


@pytest.fixture(scope="session")
def rtx() -> Any:
    """The engine tensorrt_rtx; skips where the library is not installed."""
    import engines

    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    return engine

"""A CUDA device through cuda-python: memory, one stream, events and graph capture. No torch, no TensorRT in here.

Written from documentation; see docs/gpu-verification.md for what was run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference_models.errors import UserError

ALIGNMENT = 256
"""Of addresses that TensorRT takes. Source: NvInferRuntime.h, IExecutionContext::setTensorAddress."""
PARTS = ("h2d", "compute", "d2h")
"""What a device's events time: the copy in, an inference, the copy out."""


def current_device() -> int:
    """Number of the device that this thread uses: that of its latest Device, 0 before."""
    from cuda.bindings import runtime as cudart

    return int(_checked(cudart, cudart.cudaGetDevice()))


def capability(index: int) -> tuple[int, int]:
    """Compute capability of a device, major and minor. Makes no context."""
    from cuda.bindings import runtime as cudart

    names = cudart.cudaDeviceAttr
    wanted = (names.cudaDevAttrComputeCapabilityMajor, names.cudaDevAttrComputeCapabilityMinor)
    major, minor = (int(_checked(cudart, cudart.cudaDeviceGetAttribute(name, index))) for name in wanted)
    return major, minor


def device_words(index: int) -> str:
    """Name of the device, and the driver's version: what kernels were timed on."""
    from cuda.bindings import runtime as cudart

    properties = _checked(cudart, cudart.cudaGetDeviceProperties(index))
    driver = _checked(cudart, cudart.cudaDriverGetVersion())
    name = properties.name.decode() if isinstance(properties.name, bytes) else properties.name
    return f"{name.strip(chr(0))}, driver {driver}"


def bus_address(index: int) -> str:
    """Where a device stands on the PCI bus, as `0000:65:00.0`, in lower case: its name outside of CUDA."""
    from cuda.bindings import runtime as cudart

    told = _checked(cudart, cudart.cudaDeviceGetPCIBusId(32, index))
    text = told.decode() if isinstance(told, bytes) else str(told)
    return text.strip(chr(0)).lower()


def device_memory(index: int) -> int:
    """Bytes of the whole device. Makes its primary context."""
    device = Device(index)
    try:
        return device.total_memory()
    finally:
        device.close()


def _checked(cudart: Any, answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA call.

    Raises:
        MemoryError: the device has no memory left.
        RuntimeError: another error; its name is in it.
    """
    error, *values = answer
    if error == cudart.cudaError_t.cudaErrorMemoryAllocation:
        raise MemoryError("the CUDA device has no memory left")
    if error != cudart.cudaError_t.cudaSuccess:
        raise RuntimeError(f"CUDA: {error.name}")
    return values[0] if values else None


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array in device memory that others may read: torch.as_tensor, cupy.asarray and pycuda take it."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int
    owner: Device
    ticket: int
    """Of the memory; the owner knows it for as long as the memory is that of this array."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Source: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, version 3.

        Raises:
            UserError: the memory is gone: its session was closed, or has run with another size.
        """
        if self.owner.ticket(self.address) != self.ticket:
            raise UserError(
                "device array: its session was closed or has run with another size, which freed it",
                "an output of the last run",
                "Copy outputs that have to stay",
            )
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.stream,
            "version": 3,
        }


def device_shape(array: Any, name: str, planes: int | None) -> tuple[int, ...]:
    """Shape of somebody's device array that is to be the input `name`.

    Args:
        planes: of the network's tensor (1, planes, H, W); None: a picture (H, W, 3).

    Raises:
        UserError: another shape, or no array of a device.
    """
    shape = tuple(getattr(array, "__cuda_array_interface__", {"shape": ()})["shape"])
    fits = (len(shape), *shape[2:]) == (3, 3) if planes is None else (len(shape), *shape[:2]) == (4, 1, planes)
    if fits and 0 not in shape:
        return shape
    wanted = f"{'(H, W, 3)' if planes is None else f'(1, {planes}, H, W)'} in device memory"
    raise UserError(f"input `{name}`: got {shape or type(array).__name__}", wanted, "Convert the array")


def address_of(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Address of somebody's device array (torch, CuPy, pycuda, ours).

    Raises:
        UserError: not on a device, or not of this shape and type, or not C-contiguous.
    """
    told = getattr(array, "__cuda_array_interface__", None)
    expected = f"a C-contiguous {dtype} array {shape} on the device"
    if told is None:
        raise UserError(
            f"device array: {type(array).__name__} has no __cuda_array_interface__", expected, "Copy it there"
        )
    got = f"{np.dtype(told['typestr'])} {tuple(told['shape'])}"
    if tuple(told["shape"]) != shape or np.dtype(told["typestr"]) != dtype:
        raise UserError(f"device array: got {got}", expected, "Convert it")
    strides = told.get("strides")
    dense = tuple(dtype.itemsize * int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))
    if strides is not None and tuple(strides) != dense:
        raise UserError(f"device array: strides {tuple(strides)}", expected, "Make it contiguous")
    return int(told["data"][0])


def host_array(address: int, like: np.ndarray) -> np.ndarray:
    """Page-locked memory as an array of this shape and type."""
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * like.nbytes).from_address(address))
    return memory.view(like.dtype).reshape(like.shape)


class Device:
    """One device's primary context with one stream that is not the default one, and all memory taken here.

    TensorRT synchronises the device around every inference on the default stream.
    """

    def __init__(self, index: int) -> None:
        from cuda.bindings import runtime as cudart

        self._cuda = cudart
        self._memory: dict[int, Callable[[int], Any]] = {}
        self._tickets: dict[int, int] = {}
        self._issued = 0
        self._call(cudart.cudaSetDevice(index))
        self.stream = int(self._call(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)))
        self._events = {part: [self._call(cudart.cudaEventCreate()) for _ in range(2)] for part in PARTS}
        self._recorded: set[str] = set()
        self._graph: Any = None
        self._index = index
        self._scratch = 0

    def _call(self, answer: tuple[Any, ...]) -> Any:
        return _checked(self._cuda, answer)

    def allocate(self, size: int) -> int:
        """Address of `size` bytes of device memory, at least one."""
        address = int(self._call(self._cuda.cudaMalloc(max(size, 1))))
        self._memory[address] = self._cuda.cudaFree
        self._issued += 1
        self._tickets[address] = self._issued
        return address

    def ticket(self, address: int) -> int:
        """A number that only this allocation of device memory has; 0 where it is not ours, or not any more."""
        return self._tickets.get(address, 0)

    def allocate_pinned(self, size: int) -> int:
        """Address of page-locked host memory, from which copies run at the bus's rate."""
        address = int(self._call(self._cuda.cudaHostAlloc(max(size, 1), self._cuda.cudaHostAllocDefault)))
        self._memory[address] = self._cuda.cudaFreeHost
        return address

    def free(self, address: int) -> None:
        self._tickets.pop(address, None)
        self._call(self._memory.pop(address)(address))

    def upload(self, target: int, source: int, size: int) -> None:
        """Enqueues a copy from host to device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._cuda.cudaMemcpyAsync(target, source, size, kind, self.stream))

    def download(self, target: int, source: int, size: int) -> None:
        """Enqueues a copy from device to host."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._cuda.cudaMemcpyAsync(target, source, size, kind, self.stream))

    def copy(self, target: int, source: int, size: int) -> None:
        """Enqueues a copy within the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call(self._cuda.cudaMemcpyAsync(target, source, size, kind, self.stream))

    def check_own(self, address: int) -> None:
        """
        Raises:
            UserError: memory of another device, or of the host.
        """
        told, kinds = self._call(self._cuda.cudaPointerGetAttributes(address)), self._cuda.cudaMemoryType
        if told.type not in {kinds.cudaMemoryTypeDevice, kinds.cudaMemoryTypeManaged} or told.device != self._index:
            where = "the host" if told.type == kinds.cudaMemoryTypeHost else f"cuda:{told.device}"
            raise UserError(f"device array: it lies on {where}", f"memory of cuda:{self._index}", "Copy it there")

    def synchronize(self) -> None:
        self._call(self._cuda.cudaStreamSynchronize(self.stream))

    def wait_for_writer(self, array: Any) -> None:
        """Waits until somebody's device array is written: for the stream that it names, or for the whole device where
        it names none that means anything here (torch speaks version 2 of the interface; 2 is the default stream of the
        writer's own thread).

        Source: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, synchronization; there, no stream
        in version 3 means that nothing is to be waited for.
        """
        told = array.__cuda_array_interface__
        if told.get("version", 2) < 3 or told.get("stream") == 2:
            self._call(self._cuda.cudaDeviceSynchronize())
        elif told.get("stream") is not None:
            self._call(self._cuda.cudaStreamSynchronize(told["stream"]))

    def total_memory(self) -> int:
        """Bytes of the whole device."""
        _, total = self._memory_info()
        return total

    def used_memory(self) -> int:
        """Bytes in use by everybody."""
        free, total = self._memory_info()
        return total - free

    def _memory_info(self) -> tuple[int, int]:
        error, *values = self._cuda.cudaMemGetInfo()
        self._call((error,))
        return int(values[0]), int(values[1])

    def start(self, part: str) -> None:
        """Marks the beginning of what `elapsed_ms` of this part times, one of PARTS."""
        self._call(self._cuda.cudaEventRecord(self._events[part][0], self.stream))

    def stop(self, part: str) -> None:
        self._call(self._cuda.cudaEventRecord(self._events[part][1], self.stream))
        self._recorded.add(part)

    def elapsed_ms(self) -> dict[str, float]:
        """Device time of every part that was timed, between its last start and stop; waits for them."""
        found = {}
        for part in [part for part in PARTS if part in self._recorded]:
            start, end = self._events[part]
            self._call(self._cuda.cudaEventSynchronize(end))
            found[part] = float(self._call(self._cuda.cudaEventElapsedTime(start, end)))
        return found

    def wait_for(self, other: Device, moment: int) -> None:
        """Holds what is submitted here from now on until the other's stream has passed its last start (0) or stop (1)
        of `compute`."""
        self._call(self._cuda.cudaStreamWaitEvent(self.stream, other._events["compute"][moment], 0))

    def flush_cache(self) -> None:
        """Writes twice as many bytes as the second-level cache holds, so that what was in it is gone; waits for it."""
        size = 2 * int(
            self._call(self._cuda.cudaDeviceGetAttribute(self._cuda.cudaDeviceAttr.cudaDevAttrL2CacheSize, self._index))
        )
        self._scratch = self._scratch or self.allocate(size)
        self._call(self._cuda.cudaMemsetAsync(self._scratch, 0, size, self.stream))
        self.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> None:
        """Records what `enqueue` submits to the stream, in place of what was recorded before; `replay` submits it."""
        self.forget_graph()
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._cuda.cudaStreamBeginCapture(self.stream, mode))
        try:
            enqueue()
        finally:  # a capture that is not ended leaves the stream unusable
            error, graph = self._cuda.cudaStreamEndCapture(self.stream)
        self._call((error,))
        self._graph = self._call(self._cuda.cudaGraphInstantiate(graph, 0))
        self._call(self._cuda.cudaGraphDestroy(graph))

    def replay(self) -> None:
        self._call(self._cuda.cudaGraphLaunch(self._graph, self.stream))

    def forget_graph(self) -> None:
        if self._graph is not None:
            self._call(self._cuda.cudaGraphExecDestroy(self._graph))
            self._graph = None

    def close(self) -> None:
        """Frees all that was taken; a second call does nothing."""
        if not self.stream:
            return
        self.synchronize()
        self.forget_graph()
        for address in list(self._memory):
            self.free(address)
        for event in [event for pair in self._events.values() for event in pair]:
            self._call(self._cuda.cudaEventDestroy(event))
        self._call(self._cuda.cudaStreamDestroy(self.stream))
        self.stream = 0

"""A plan on a device: built for the size that is bound, its buffers in device memory, replayed from a CUDA graph.

Serves TensorRT 10, 11 and RTX alike; needs cuda-python and no torch. Written from documentation; see
docs/gpu-verification.md for what was run. No clock in here: `device_ms` reads events of the device.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.engine import CUDA_CONTRACT, PICTURE_ENDS, LayerTime, Options, Session
from engines.trt.api import Api
from engines.trt.builder import BuildRequest, Profile
from engines.trt.device import ALIGNMENT, Device, DeviceArray, address_of, device_shape, device_words, host_array
from engines.trt.layers import kinds_of, layer_facts, layer_times_ms
from engines.trt.plans import StoredPlan, plan_folder, stored_plan, write_whole
from engines.trt.preflight import size_in
from engines.trt.reporting import Messages, new_logger
from export.network import Graph
from reference_models.errors import UserError

DYNAMIC_LEAST = (64, 64)
DYNAMIC_MOST = (2160, 3840)
"""A plan of the dynamic profile takes inputs between these, tuned for the first one that is bound."""


@dataclass
class Lane:
    """One more inference in flight: a stream, an execution context and an output of its own; the input is shared."""

    device: Device
    context: Any = None
    y: int = 0


@dataclass(frozen=True)
class GivenPlan:
    """A plan that was built before, by `bench build`."""

    path: Path
    sha256: str
    profiles: tuple[Profile, ...]
    """In the plan's order."""


class TrtSession(Session):
    """Input and output stay on the device between bind and read; every enqueue is timed by two events."""

    asynchronous = True

    def __init__(self, api: Api, graph: Graph, options: Options, given: GivenPlan | None = None) -> None:
        super().__init__(graph, options)
        self._api, self._options, self._given = api, options, given
        self._input, self._output = graph.ends
        index = int(options.device.partition(":")[2] or 0)
        self.in_flight = int(options.settings["streams"])
        self._messages = Messages()
        self._lanes: list[Lane] = []
        # Before the library's Runtime: without a driver, that one does not fail but ends the process.
        self._device = Device(index)
        try:
            self._device_words = device_words(index)
            self._trt = api.runtime_module(options.settings)
            self._logger = new_logger(self._trt, self._messages)
            self._runtime = api.new_runtime(self._logger, options.settings)
            for _ in range(self.in_flight - 1):
                self._lanes.append(Lane(Device(index)))
        except BaseException:
            for device in (self._device, *(lane.device for lane in self._lanes)):
                device.close()
            raise
        self._engine: Any = None
        self._context: Any = None
        self._kernel_cache: Any = None
        self._plan: StoredPlan | None = None
        self._profile: Profile | None = None
        self._shape: tuple[int, ...] = ()
        self._x = self._y = self._staged_x = self._staged_y = 0
        self._replays = options.settings["graph"] == "on" and not self._refittable
        """New weights would want a new capture before every inference, which costs more than it saves."""
        self._source = 0
        """Where contexts read their input: ours, or somebody else's memory."""
        self._flushes = options.settings["l2"] == "flushed"
        self._weights: dict[str, np.ndarray] = {}
        self.contract = {
            **CUDA_CONTRACT,
            "graph_capture": self._replays,
            "host_memory": options.settings["host_memory"],
            "profile": options.settings["profile"],
            "streams": self.in_flight,
            "threads": options.threads,
        }
        if self._flushes:
            self.contract["l2_state"] = "emptied before every inference"
        if graph.takes_pictures:
            self.contract |= PICTURE_ENDS
        if options.settings.get("runtime") == "lean":
            self.contract["runtime"] = self._trt.__name__

    def _bind(self, x: np.ndarray) -> None:
        if x.shape != self._shape:
            self._prepare(x.shape)
        self._read_from(self._x)
        cast = np.ascontiguousarray(x, self._dtype(self._input))
        if self._staged_x:
            host_array(self._staged_x, cast)[...] = cast
        self._device.start("h2d")
        self._device.upload(self._x, self._staged_x or cast.ctypes.data, cast.nbytes)
        self._device.stop("h2d")
        self._device.synchronize()  # `cast` may be gone after this

    def bind_device(self, array: Any) -> None:
        """Makes a device array (`__cuda_array_interface__`: torch, CuPy, pycuda) the input; what still writes it is
        waited for.

        It is read where it lies, and the caller keeps it alive and unchanged, with `graph=off` and where it begins at a
        multiple of ALIGNMENT. Otherwise it is copied on the device: a CUDA graph keeps the address that it was captured
        with, and a new capture would cost more than the copy.

        Raises:
            UserError: wrong shape, type or strides, or not on this device.
        """
        shape = device_shape(array, self._input, None if self.graph.takes_pictures else self.graph.planes)
        if shape != self._shape:
            self._prepare(shape)
        dtype = self._dtype(self._input)
        address = address_of(array, shape, dtype)
        self._device.check_own(address)
        self._device.wait_for_writer(array)
        where_it_lies = not self._replays and address % ALIGNMENT == 0
        self._read_from(address if where_it_lies else self._x)
        if not where_it_lies:
            self._device.copy(self._x, address, int(np.prod(shape)) * dtype.itemsize)
        self._bound = shape

    def _read_from(self, address: int) -> None:
        if address != self._source:
            for context in [self._context, *(lane.context for lane in self._lanes)]:
                self._place(context, self._input, address)
            self._source = address

    def _place(self, context: Any, name: str, address: int) -> None:
        if not context.set_tensor_address(name, address):
            raise RuntimeError(f"{self._api.title} refuses the memory of `{name}`: {self._messages.reason()}")

    def output_on_device(self) -> DeviceArray:
        """The output's memory, which the next inference writes again and one of another size frees; the stream that
        writes it is named in it."""
        shape = self._output_shape()
        ticket = self._device.ticket(self._y)
        return DeviceArray(self._y, shape, self._dtype(self._output), self._device.stream, self._device, ticket)

    def _enqueue(self) -> None:
        self._device.start("compute")
        for lane in self._lanes:
            lane.device.wait_for(self._device, 0)
        self._submit(self._device, self._context)
        for lane in self._lanes:
            self._submit(lane.device, lane.context)
            lane.device.stop("compute")
            self._device.wait_for(lane.device, 1)
        self._device.stop("compute")

    def _submit(self, device: Device, context: Any) -> None:
        if self._replays:
            device.replay()
        else:
            self._execute(device, context)

    def _synchronize(self) -> None:
        self._device.synchronize()

    def prepare(self) -> None:
        if self._flushes:
            self._device.flush_cache()

    def _read(self) -> np.ndarray:
        y = np.empty(self._output_shape(), self._dtype(self._output))
        self._device.start("d2h")
        self._device.download(self._staged_y or y.ctypes.data, self._y, y.nbytes)
        self._device.stop("d2h")
        self._device.synchronize()
        if self._staged_y:
            y[...] = host_array(self._staged_y, y)
        return y

    def device_ms(self) -> dict[str, float]:
        return self._device.elapsed_ms()

    def memory_bytes(self) -> dict[str, int | None]:
        if self._engine is None:
            return {}
        return {
            "weights": self._api.weights_bytes(self._trt, self._engine),
            "context": self.in_flight * int(self._engine.device_memory_size_v2),
        }

    def layer_times(self) -> list[LayerTime]:
        """Device times of one inference of what is bound. It slows what follows: for a session of its own."""
        times = layer_times_ms(self._trt, self._context, self._device)
        kinds = kinds_of(layer_facts(self._trt, self._engine))
        return [LayerTime(name, kinds.get(name, ""), ms) for name, ms in times.items()]

    # Plan, context and buffers

    def _prepare(self, shape: tuple[int, ...]) -> None:
        self._device.forget_graph()
        self._shape, self._source = (), 0  # until all of what follows has worked
        size = size_in(shape)
        if self._profile is None or not _takes(self._profile, size):
            if self._given:
                self._choose(self._given, size)
            else:
                self._build(self._profile_for(size))
        if not self._context.set_input_shape(self._input, shape):
            raise RuntimeError(f"{self._api.title} refuses inputs {shape}: {self._messages.reason()}")
        for address in filter(None, (self._x, self._y, self._staged_x, self._staged_y)):
            self._device.free(address)
        self._x = self._y = self._staged_x = self._staged_y = 0
        ends = (self._input, shape), (self._output, self._output_shape())
        sizes = [int(np.prod(s)) * self._dtype(name).itemsize for name, s in ends]
        self._x, self._y = (self._device.allocate(size) for size in sizes)
        if self._options.settings["host_memory"] == "pinned":
            self._staged_x, self._staged_y = (self._device.allocate_pinned(size) for size in sizes)
        self._place(self._context, self._output, self._y)
        for lane in self._lanes:
            self._widen(lane, shape, sizes[1])
        self._read_from(self._x)
        self._shape = shape
        self._capture()

    def _widen(self, lane: Lane, shape: tuple[int, ...], size: int) -> None:
        """Brings one more lane to this shape of the input, with an output of `size` bytes."""
        lane.device.forget_graph()
        if lane.y:
            lane.device.free(lane.y)
            lane.y = 0
        lane.y = lane.device.allocate(size)
        if lane.context is None:
            lane.context = self._new_context(b"")[0]
            if self._given:
                self._choose_profile(lane.context, lane.device)
        if not lane.context.set_input_shape(self._input, shape):
            raise RuntimeError(f"{self._api.title} refuses inputs {shape}: {self._messages.reason()}")
        self._place(lane.context, self._output, lane.y)

    def _profile_for(self, size: tuple[int, int]) -> Profile:
        if self._options.settings["profile"] == "static":
            return Profile.of(size)
        (top, left), (bottom, right) = DYNAMIC_LEAST, DYNAMIC_MOST
        height, width = size
        return Profile((min(top, height), min(left, width)), size, (max(bottom, height), max(right, width)))

    def _choose(self, given: GivenPlan, size: tuple[int, int]) -> None:
        """Takes the first profile of the given plan for inputs of this size."""
        numbers = [n for n, sizes in enumerate(given.profiles) if _takes(sizes, size)]
        if not numbers:
            known = [f"{p.least[1]}x{p.least[0]} to {p.most[1]}x{p.most[0]}" for p in given.profiles]
            raise UserError(
                f"plan {given.path}: an input of {size[1]}x{size[0]}", f"one of {', '.join(known)}", "Build one for it"
            )
        if self._engine is None:
            self._open(StoredPlan(given.path, given.sha256, given.sha256, {"timing_cache_sha256": None}, cached=True))
        self._profile = given.profiles[numbers[0]]
        for context, device in [(self._context, self._device), *((lane.context, lane.device) for lane in self._lanes)]:
            if context is not None:
                self._choose_profile(context, device)

    def _choose_profile(self, context: Any, device: Device) -> None:
        assert self._given is not None
        assert self._profile is not None
        number = self._given.profiles.index(self._profile)
        if not context.set_optimization_profile_async(number, device.stream):
            raise RuntimeError(f"{self._api.title} refuses profile {number}: {self._messages.reason()}")
        device.synchronize()

    def _build(self, profile: Profile) -> None:
        request = BuildRequest(
            self.graph.onnx_path,
            self.graph.sha256,
            self._options.precision,
            (profile,),
            self._options.settings,
            refittable=bool(self._refittable),
        )
        timed_on = self._device_words if self._api.needs_device_to_build else ""
        memory = self._device.total_memory()
        self._open(stored_plan(self._api, request, timed_on, lambda phase, share: None, memory))
        self._profile = profile

    def _open(self, plan: StoredPlan) -> None:
        self._context = self._engine = self._kernel_cache = None
        for lane in self._lanes:
            lane.context = None
        self._plan = plan
        self._engine = self._runtime.deserialize_cuda_engine(self._plan.path.read_bytes())
        if self._engine is None:
            raise RuntimeError(f"{self._api.title} cannot load its plan: {self._messages.reason()}")
        stored = self._kernels_path()
        compiled = stored.read_bytes() if stored.exists() else b""
        self._context, self._kernel_cache = self._new_context(compiled)
        self.contract = {
            **self.contract,
            "plan_sha256": self._plan.sha256,
            "timing_cache_sha256": self._plan.facts["timing_cache_sha256"],
        }
        if self._weights:
            self._write_weights(self._weights)

    def _new_context(self, compiled: bytes) -> tuple[Any, Any]:
        settings = self._options.settings
        context, kernels = self._api.create_context(self._trt, self._engine, settings, compiled)
        if context is None:
            raise MemoryError(f"{self._api.title}: no memory for this plan on the device ({self._messages.reason()})")
        return context, kernels

    def _kernels_path(self) -> Path:
        assert self._plan is not None
        device = hashlib.sha256(self._device_words.encode()).hexdigest()[:16]
        # Which kernels there are depends on when they are compiled, too.
        how = self._options.settings.get("specialise", "")
        return plan_folder() / f"{self._plan.key}-{device}{how and '-'}{how}.kernels"

    def _capture(self) -> None:
        """Runs once outside a capture: after a change of shape the library allocates and compiles in that run."""
        for device, context in [(self._device, self._context), *((lane.device, lane.context) for lane in self._lanes)]:
            device.forget_graph()
            self._execute(device, context)
            device.synchronize()
            if self._replays:
                device.capture(functools.partial(self._execute, device, context))
        if compiled := self._api.stored_kernels(self._kernel_cache):
            write_whole(self._kernels_path(), compiled)

    def _execute(self, device: Device, context: Any) -> None:
        if not context.execute_async_v3(device.stream):
            raise RuntimeError(f"{self._api.title} does not run this plan: {self._messages.reason()}")

    def _output_shape(self) -> tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(self._output))

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))

    # Weights

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
        self._check_shapes(arrays)
        self._weights.update(arrays)  # a plan that a later bind builds takes them too
        if self._engine is not None:
            self._write_weights(arrays)

    def _check_shapes(self, arrays: Mapping[str, np.ndarray]) -> None:
        import onnx

        stored = {i.name: tuple(i.dims) for i in onnx.load(self.graph.onnx_path).graph.initializer}
        for name, value in arrays.items():
            if stored.get(name) != value.shape:
                raise ValueError(f"{self.graph.onnx_path} has no initializer {name!r} of shape {value.shape}")

    def _write_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        trt = self._trt
        refitter = trt.Refitter(self._engine, self._logger)
        for name, value in arrays.items():
            if not refitter.set_named_weights(name, trt.Weights(value)):
                raise RuntimeError(f"{self._api.title} refuses new weights {name!r}: {self._messages.reason()}")
        if not refitter.refit_cuda_engine():
            raise RuntimeError(f"{self._api.title} cannot refit its plan: {self._messages.reason()}")

    def _close(self) -> None:
        devices = [self._device, *(lane.device for lane in self._lanes)]
        for device in devices:
            device.forget_graph()
        for lane in self._lanes:
            lane.context = None
        self._context = self._engine = self._kernel_cache = self._runtime = None
        for device in devices:
            device.close()


def _takes(sizes: Profile, size: tuple[int, int]) -> bool:
    return all(low <= side <= high for low, side, high in zip(sizes.least, size, sizes.most, strict=True))

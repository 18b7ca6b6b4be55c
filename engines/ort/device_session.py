"""A session of ONNX Runtime on a CUDA device: our stream, our buffers, our events; needs cuda-python and no torch.

Serves the CUDA provider and the TensorRT-RTX one; each says in a file of its own how a session is opened. Written from
documentation; see docs/gpu-verification.md for what was run. No clock in here: `device_ms` reads events of the device.
"""

from __future__ import annotations

import traceback
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from engines.engine import CUDA_CONTRACT, PICTURE_ENDS, Options, Session
from engines.ort.options import run_options
from engines.ort.placement import check_placement
from engines.ort.weights import replace_weights
from engines.trt.device import Device, host_array
from export.network import Graph

CAPTURING_RUNS = 4
"""Runs that leave a captured graph behind: the CUDA provider captures in its third, older releases in their second,
and the last one replays. Source: min_num_runs_before_cuda_graph_capture_ in cuda_execution_provider.h."""


class DeviceSession(Session):
    """Input and output stay on the device between bind and read; every enqueue is timed by two events.

    ONNX Runtime captures per thread: who enqueues from another thread than the one that bound captures once more.
    Where the library waits in every replay, enqueuing is the whole inference: then nobody times it apart.
    """

    asynchronous = True
    provider: ClassVar[str]
    memory: ClassVar[str] = "cuda"
    """Where the buffers are, in ONNX Runtime's word."""
    per_shape: ClassVar[bool] = False
    """Whether a session is opened for one shape of the input, and so again for every other."""
    least_runs: ClassVar[int] = 0
    """Runs before the first one that counts, where the provider compiles in them."""

    def __init__(self, graph: Graph, options: Options) -> None:
        super().__init__(graph, options)
        self._options, settings = options, options.settings
        self._model: Any = None
        if options.refittable:
            import onnx

            self._model = onnx.load(graph.onnx_path)
        self._index = int(options.device.partition(":")[2] or 0)
        self._run_options: Any = run_options()
        self._device = Device(self._index)
        # New weights would want a new capture before every inference, which costs more than it saves.
        self._captures = settings["capture"] == "on" and not self._refittable
        self.asynchronous = not (self._captures and self._replay_waits())
        self._flushes = settings["l2"] == "flushed"
        self._kind = np.dtype(np.uint8 if graph.takes_pictures else np.float32)
        """Of input and output."""
        self._session: Any = None
        self._binding: Any = None
        self._served: tuple[int, ...] = ()
        """Shape that the session was opened for, or has run with."""
        self._shape: tuple[int, ...] = ()
        self._y_shape: tuple[int, ...] = ()
        self._x = self._y = self._staged_x = self._staged_y = 0
        self.contract = {
            **CUDA_CONTRACT,
            "graph_capture": self._captures,
            "host_memory": settings["host_memory"],
            "threads": options.threads,
        }
        if not self.asynchronous:
            self.contract["synchronisation"] = "the library waits for the device in every replay"
        if self._flushes:
            self.contract["l2_state"] = "emptied before every inference"
        if graph.takes_pictures:
            self.contract |= PICTURE_ENDS

    @contextmanager
    def _freed_on_failure(self) -> Iterator[None]:
        """For what a constructor does once there is a device: nobody gets a session to close if that fails."""
        try:
            yield
        except BaseException as error:
            # A session that was opened and refused runs on our stream: it goes before it, not with the traceback.
            traceback.clear_frames(error.__traceback__)
            self.close()
            raise

    def _replay_waits(self) -> bool:
        """Whether the library waits for the device when it replays a captured graph, though a run only enqueues."""
        return False

    @abstractmethod
    def _new_session(self, shape: tuple[int, ...]) -> Any:
        """An onnxruntime.InferenceSession on `self._device.stream`, with RECORD_PLACEMENT.

        Args:
            shape: of the input; empty where `per_shape` is False and nothing is bound yet.
        """

    def _open(self, shape: tuple[int, ...]) -> None:
        # The old one goes first: both at once would need the activations' memory twice.
        self._binding = self._session = None
        session = self._new_session(shape)
        if session.get_providers()[:1] != [self.provider]:
            # With libraries missing, ONNX Runtime builds a CPU session and only logs why.
            raise RuntimeError(f"ONNX Runtime did not start {self.provider}; it offers {session.get_providers()}")
        check_placement(session, self.provider)
        self._session, self._served = session, shape

    def _source(self) -> str | bytes:
        """What a session is made from."""
        return self._model.SerializeToString() if self._model else self.graph.onnx_path

    def _bind(self, x: np.ndarray) -> None:
        if x.shape != self._shape:
            self._prepare(x.shape)
        if self._staged_x:
            host_array(self._staged_x, x)[...] = x
        self._device.start("h2d")
        self._device.upload(self._x, self._staged_x or x.ctypes.data, x.nbytes)
        self._device.stop("h2d")
        self._device.synchronize()  # `x` may be gone after this

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Brings session and buffers to this shape of the input."""
        self._shape = ()  # until all of what follows has worked
        # A captured graph reads and writes the buffers that it was captured with: others need another session.
        if self._session is None or ((self.per_shape or self._captures) and self._served):
            self._open(shape)
        self._served = shape
        self._binding = None
        for address in filter(None, (self._x, self._y, self._staged_x, self._staged_y)):
            self._device.free(address)
        self._x = self._y = self._staged_x = self._staged_y = 0
        self._x = self._device.allocate(self._bytes(shape))
        self._y_shape = self._output_shape(shape)
        self._y = self._device.allocate(self._bytes(self._y_shape))
        if self._options.settings["host_memory"] == "pinned":
            self._staged_x, self._staged_y = map(self._device.allocate_pinned, map(self._bytes, (shape, self._y_shape)))
        self._bind_buffers(shape)
        self._shape = shape

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As the graph declares it for this shape of the input, or else as one run leaves it behind."""
        declared = self._session.get_outputs()[0].shape
        names = self._session.get_inputs()[0].shape
        sizes = {name: size for name, size in zip(names, shape, strict=True) if isinstance(name, str)}
        known = [sizes.get(side, side) for side in declared]
        if all(isinstance(side, int) for side in known):
            return tuple(known)
        binding = self._session.io_binding()
        given, result = self.graph.ends
        binding.bind_input(given, self.memory, self._index, self._kind, shape, self._x)
        binding.bind_output(result, self.memory, self._index)
        self._session.run_with_iobinding(binding, run_options(captures=False))
        self._device.synchronize()
        return tuple(binding.get_outputs()[0].shape())

    def _bind_buffers(self, shape: tuple[int, ...]) -> None:
        self._binding = self._session.io_binding()
        given, result = self.graph.ends
        self._binding.bind_input(given, self.memory, self._index, self._kind, shape, self._x)
        self._binding.bind_output(result, self.memory, self._index, self._kind, self._y_shape, self._y)
        for _ in range(max(self.least_runs, CAPTURING_RUNS if self._captures else 0)):
            self._submit()
        self._device.synchronize()

    def _submit(self) -> None:
        self._session.run_with_iobinding(self._binding, self._run_options)

    def _enqueue(self) -> None:
        if not self.asynchronous:  # the second event would be recorded after the wait, and count the host's waking up
            self._submit()
            return
        self._device.start("compute")
        self._submit()
        self._device.stop("compute")

    def _synchronize(self) -> None:
        self._device.synchronize()

    def prepare(self) -> None:
        if self._flushes:
            self._device.flush_cache()

    def _read(self) -> np.ndarray:
        y = np.empty(self._y_shape, self._kind)
        self._device.start("d2h")
        self._device.download(self._staged_y or y.ctypes.data, self._y, y.nbytes)
        self._device.stop("d2h")
        self._device.synchronize()
        if self._staged_y:
            y[...] = host_array(self._staged_y, y)
        return y

    def device_ms(self) -> dict[str, float]:
        return self._device.elapsed_ms()

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        replace_weights(self._model, tensors, self.graph.onnx_path)
        if self._session is None and not self._shape:
            return  # it will be opened with them
        self._device.synchronize()
        shape, self._shape = self._shape, ()  # until all of what follows has worked
        if self.per_shape and not shape:
            self._binding = self._session = None  # what a bind that failed left behind; the next one opens another
            return
        self._open(shape)
        if shape:
            self._bind_buffers(shape)
        self._shape = shape

    def _close(self) -> None:
        if self._session is not None:
            self._device.synchronize()
        self._binding = self._session = None
        self._device.close()

    def _bytes(self, shape: tuple[int, ...]) -> int:
        return self._kind.itemsize * int(np.prod(shape, dtype=np.int64))

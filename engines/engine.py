"""Engine and Session: the contract that every back end obeys, and the checks that it need not repeat.

Input: a Graph (export/network.py). Output: a Session that computes float32 NCHW arrays. No clock in here: timing is
bench/measure.py's alone, so that every engine is timed in the same way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from export.network import INPUT, Graph
from export.recipe import Recipe
from reference_models.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Setting:
    """One choice that an engine offers, as `--set ENGINE.NAME=VALUE`."""

    name: str
    default: str
    choices: tuple[str, ...]
    doc: str


ENDS = Setting(
    "ends",
    "tensors",
    ("tensors", "picture"),
    "what a plan takes and gives: the network's float tensors, or the uint8 (H, W, 3) RGB picture, converted inside",
)


@dataclass(frozen=True)
class Options:
    """How a session is to be built; the same words for every engine."""

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    """CPU threads that compute; also stated on CPU engines that would choose by themselves."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Every setting of the engine with its value; those not given take the engine's default in Engine.load."""
    refittable: tuple[str, ...] = ()
    """Names of the weights that `refit` may replace; engines that build constants into their plan must know them."""


@dataclass(frozen=True)
class LayerTime:
    """What one node of a built graph took."""

    name: str
    """As the library says."""
    kind: str
    """The operator, in the library's word."""
    ms: float
    """Median of several inferences."""


class Engine(ABC):
    """One back end. A file engines/<name>.py holds one subclass and ENGINE, its only instance."""

    name: ClassVar[str]
    title: ClassVar[str]
    install: ClassVar[str]
    """The one command that makes it usable."""
    precisions: ClassVar[Mapping[str, tuple[str, ...]]]
    """Device kind (`cpu`, `cuda`) → the precisions it can be asked for there."""
    rank: ClassVar[Mapping[str, int]] = {}
    """Device kind → place in the order of automatic choice, fastest first; absent: never chosen by itself."""
    settings: ClassVar[tuple[Setting, ...]] = ()
    cuda_only: ClassVar[Mapping[str, str]] = {}
    """Setting that means nothing on the CPU → the only value that it has there."""
    has_float64: ClassVar[bool] = True
    """Whether a graph may hold float64."""
    computes: ClassVar[bool] = True
    """False where outputs mean nothing (the null engine): quality is not judged then."""
    tells_layer_times: ClassVar[tuple[str, ...]] = ()
    """Device kinds on which `layer_times` has an answer."""
    runs_modules: ClassVar[bool] = False
    """True where it runs the torch module itself, and so cannot run somebody's ONNX file."""

    @abstractmethod
    def missing(self) -> str | None:
        """None when usable, else one sentence that says why not. Must not import the vendor's library."""

    def plan_missing(self, settings: Mapping[str, str]) -> str | None:
        """As `missing`, of what runs a plan that was built with these settings."""
        return self.missing()

    @abstractmethod
    def version(self) -> str:
        """Version of the vendor's library, without importing it."""

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Environment variables that the worker process must start with."""
        return {}

    def device_missing(self, device: str) -> str | None:
        """None when the engine can use this device here, else one sentence that says why not."""
        return None

    def precision_missing(self, device: str, precision: str) -> str | None:
        """None when the engine computes in this precision here, else one sentence that says why not."""
        kind = device.partition(":")[0]
        known = self.precisions.get(kind, ())
        if precision in known:
            return None
        return f"no {precision} on {kind}, only {', '.join(known)}" if known else f"does not run on {kind}"

    def check_settings(self, device: str, settings: Mapping[str, str]) -> None:
        """
        Args:
            settings: all of them.

        Raises:
            UserError: one that means nothing on this device.
        """
        for name, value in self.cuda_only.items():
            if device == "cpu" and settings[name] != value:
                raise UserError(
                    f"`{self.name}:{name}={settings[name]}`: on the CPU there is none",
                    f"{name}={value}",
                    "Leave it out",
                )

    def recipe(self, device: str, precision: str) -> Recipe | None:
        """How the graph has to be made for this precision; None where the engine takes the FP32 graph."""
        return None

    def layer_types(self, graph: Graph, options: Options) -> dict[str, str] | None:
        """Weighted layer, by the library's own name → the type in which it is computed, as the library itself says of
        what it built; None where it does not say. Builds once more: not for the timed process's memory figures."""
        return None

    def layer_times(self, graph: Graph, options: Options, x: np.ndarray, runs: int = 10) -> list[LayerTime] | None:
        """Every node that ran, in the order it ran, by the library's own profiler, in a session of the same options as
        the timed one; None where the library does not tell. The profiler costs time itself: a share, not a latency.

        Args:
            x: (1, C, H, W) float32.
            runs: of whose times the medians are taken, after a few to warm up.
        """
        return None

    def complete_settings(self, given: Mapping[str, str]) -> dict[str, str]:
        """Every setting with its value.

        Raises:
            UserError: an unknown setting or value.
        """
        known = {s.name: s for s in self.settings}
        for name, value in given.items():
            if name not in known:
                guess = nearest(name, known)
                raise UserError(
                    f"`--set {self.name}.{name}={value}`: engine `{self.name}` has no setting of this name",
                    f"one of {', '.join(known) or 'none: it has no settings'}",
                    f"Did you mean {guess}?" if guess else "`bench engines --settings` describes them",
                )
            if known[name].choices and value not in known[name].choices:
                raise UserError(
                    f"`--set {self.name}.{name}={value}`: not a value of this setting",
                    ", ".join(known[name].choices),
                    "`bench engines --settings` describes them",
                )
        return {s.name: given.get(s.name, s.default) for s in self.settings}

    def load(self, graph: Graph, options: Options) -> Session:
        """A session for one graph.

        Raises:
            UserError: the engine is not usable here, or not on this device or in this precision.
        """
        if reason := self.missing() or self.device_missing(options.device):
            todo = self.install if self.missing() else "Choose another device, or load it where there is such a one"
            raise UserError(f"engine `{self.name}`: {reason}", "a usable engine (`bench engines` lists them)", todo)
        reason = self.precision_missing(options.device, options.precision)
        if reason:
            raise UserError(
                f"engine `{self.name}`: {reason}",
                "a precision and device of this engine (`bench engines` lists them)",
                "Choose another precision or engine",
            )
        settings = self.complete_settings(options.settings)
        self.check_settings(options.device, settings)
        return self._load(graph, replace(options, settings=settings))

    @abstractmethod
    def _load(self, graph: Graph, options: Options) -> Session: ...


class Session(ABC):
    """A graph that is loaded and ready to run. Not thread-safe. A context manager, so that memory is freed on error."""

    contract: Mapping[str, object]
    """What one enqueue and synchronize contain: transfers, graph capture, synchronisation, streams, threads."""
    asynchronous: bool = False
    """Whether `enqueue` returns before the inference is done, so that the time it takes is a figure of its own."""
    in_flight: int = 1
    """Inferences that one enqueue submits, each on a stream of its own."""

    def __init__(self, graph: Graph, options: Options) -> None:
        self.graph = graph
        self._refittable = set(options.refittable)
        self._bound: tuple[int, ...] | None = None

    def bind(self, x: np.ndarray) -> None:
        """Makes `x` (1, C, H, W) float32 the input of the runs that follow; copies it to the device where there is one.

        A graph on pictures takes uint8 (H, W, 3) RGB.

        Raises:
            UserError: wrong shape or dtype.
        """
        import numpy as np

        if self.graph.takes_pictures:
            from engines.picture_ends import checked_picture

            checked_picture(x)
            self._bind(np.ascontiguousarray(x))
            self._bound = x.shape
            return
        planes = self.graph.planes
        if x.ndim != 4 or x.shape[:2] != (1, planes) or x.dtype != np.float32 or 0 in x.shape:
            hint = "Add the batch axis" if x.ndim == 3 else "Convert the array, and run pictures one by one"
            raise UserError(
                f"input `{INPUT}`: got {x.shape} {x.dtype}", f"(1, {planes}, H, W) float32 without empty axes", hint
            )
        self._bind(np.ascontiguousarray(x))
        self._bound = x.shape

    def enqueue(self) -> None:
        """Submits one inference of the bound input. Returns when it is submitted; on a CPU, when it is done."""
        if self._bound is None:
            raise UserError("session: run before any input was bound", "a call of bind(x) first", "Bind an input")
        self._enqueue()

    def synchronize(self) -> None:
        """Waits until all that was submitted is done."""
        self._synchronize()

    def prepare(self) -> None:  # noqa: B027  most need nothing
        """What has to happen before an inference and is no part of it: a cache of the device emptied, where asked."""

    def device_ms(self) -> dict[str, float]:
        """Device times in ms, from events of the device: `compute` of the last inference, which has been waited for,
        `h2d` and `d2h` of the last bind and read, as far as they are known. Empty without such a clock."""
        return {}

    def memory_bytes(self) -> dict[str, int | None]:
        """What the library says of its device memory: `weights`, `context` (scratch and activations), `allocated` (the
        highest so far that it took itself). Empty where it says nothing."""
        return {}

    def read(self) -> np.ndarray:
        """The output of the last run as a new float32 array in host memory; raw, not clipped. Of a graph on pictures,
        uint8 (H, W, 3) RGB."""
        import numpy as np

        return np.array(self._read(), dtype=np.uint8 if self.graph.takes_pictures else np.float32)

    def peek(self) -> np.ndarray:
        """As `read`, but maybe the session's own memory: true until the next inference or bind."""
        import numpy as np

        return np.asarray(self._read(), dtype=np.uint8 if self.graph.takes_pictures else np.float32)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference: {`x`: (1, C, H, W) float32} → {`y`: float32}, or {`picture`: uint8 (H, W, 3)} → {`result`:
        uint8} of a graph on pictures. For use, not for timing: it copies.

        Raises:
            UserError: wrong name, shape or dtype.
        """
        given, result = self.graph.ends
        if set(inputs) != {given}:
            raise UserError(
                f"inputs: got {', '.join(map(repr, inputs)) or 'none'}", repr(given), "Name the input as expected"
            )
        self.bind(inputs[given])
        self.enqueue()
        self.synchronize()
        return {result: self.read()}

    def refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Replaces weights that `Options.refittable` names (shapes unchanged); the bound input stays bound.

        Raises:
            ValueError: a name that is not refittable, or a shape that is not the weight's.
        """
        unknown = set(tensors) - self._refittable
        if unknown:
            raise ValueError(f"not refittable: {', '.join(sorted(unknown))}; name them in Options.refittable")
        self._refit(tensors)

    def close(self) -> None:
        """Frees what the session holds; a second call does nothing."""
        self._close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _bind(self, x: np.ndarray) -> None: ...
    @abstractmethod
    def _enqueue(self) -> None: ...
    @abstractmethod
    def _synchronize(self) -> None: ...
    @abstractmethod
    def _read(self) -> np.ndarray: ...
    @abstractmethod
    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None: ...
    @abstractmethod
    def _close(self) -> None: ...


PICTURE_ENDS: dict[str, object] = {
    "ends": "uint8 (H, W, 3) RGB picture in and out, converted in the plan",
    "pre_post_processing": "included: uint8 RGB to the network's planes, and its output to uint8 RGB, in the plan",
}
"""What a contract says besides where a graph takes pictures."""
CPU_CONTRACT: dict[str, object] = {
    "transfers": "none: input and output stay in host memory",
    "graph_capture": False,
    "synchronisation": "the call returns when the output is written",
    "streams": 1,
    "l2_state": "as the inference before left it",
}
CUDA_CONTRACT: dict[str, object] = {
    "transfers": "excluded: input and output stay in device memory",
    "graph_capture": False,
    "synchronisation": "host waits for the device after every inference",
    "streams": 1,
    "l2_state": "as the inference before left it",
}

"""A plan and its sidecar → a session on pictures. Nothing else is needed: no weights, no torch, no definition."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engines
from engines.engine import Options, Session
from engines.installed import cuda_device_count
from engines.picture_ends import checked_picture, finished, prepared
from engines.sidecar import read_sidecar
from export.network import INPUT, OUTPUT, PICTURE, RESULT, Graph
from export.processor import exact_weight_bits
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np


class DeployedSession:
    """What `bench build` wrote, ready to run. A context manager.

    Thread-safe: any number of threads may call it. Inferences run one at a time, in one thread of the session's own (a
    CUDA context belongs to a thread); what comes before and behind them runs in the callers' threads. Not to be used
    in a child process after `os.fork`, where that thread does not exist: load it there.
    """

    def __init__(self, session: Session, told: Mapping[str, Any], owner: ThreadPoolExecutor | None = None) -> None:
        """
        Args:
            owner: an executor of one thread, in which the session was made; None: a new one.
        """
        self._session = session
        self._owner = owner or ThreadPoolExecutor(1, "fullres-session")
        self._process = os.getpid()
        self._closed = False
        self.sidecar = told
        self.spec = ModelSpec.from_json(json.dumps(told["model"]["spec"]))
        self._on_pictures = told.get("takes") == "pictures"

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB → the network's picture, uint8 RGB, as large as the network makes it.

        Every size that the plan takes, also one after the other; engines that compile for a size do so when it changes.

        Raises:
            UserError: not a picture, a size that the plan was not built for, or a session that is closed.
            ValueError: the network gave NaN.
        """
        if self._on_pictures:
            self._check_size(*checked_picture(picture).shape[:2])
            return self.run({PICTURE: picture})[RESULT]
        given = prepared(checked_picture(picture), self.spec)
        self._check_size(given.tensor.shape[2], given.tensor.shape[3])
        return finished(self.run({INPUT: given.tensor})[OUTPUT], given, self.spec)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """As Session.run: {`x`: (1, C, H, W) float32} → {`y`: float32}; of a plan on pictures {`picture`: uint8 (H, W,
        3)} → {`result`: uint8}.

        On a GPU, arrays of torch, CuPy and pycuda (`__cuda_array_interface__`) do not leave the device: what comes back
        is such an array, in memory of the session that the next run writes again and one of another size frees.

        Raises:
            UserError: wrong name, shape or dtype; a device's array for a plan that runs on the CPU; a closed session.
        """
        if self._process != os.getpid():
            raise UserError(
                "session: used in a child process", "the process that loaded it", "Call engines.load in the child"
            )
        if self._closed:
            raise UserError("session: used after it was closed", "an open session", "Call engines.load again")
        on_device = any(hasattr(value, "__cuda_array_interface__") for value in inputs.values())
        return self._owner.submit(self._run_on_device if on_device else self._session.run, inputs).result()

    def _run_on_device(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given, result = self._session.graph.ends
        if not hasattr(self._session, "bind_device"):
            raise UserError(
                f"input `{given}`: an array of a device, and this plan runs on the CPU or copies by itself",
                "a numpy.ndarray, or a plan of TensorRT",
                "Copy it to the host",
            )
        if set(inputs) != {given}:
            raise UserError(f"inputs: got {', '.join(map(repr, inputs))}", repr(given), "Name the input as expected")
        session: Any = self._session
        session.bind_device(inputs[given])
        session.enqueue()
        session.synchronize()
        return {result: session.output_on_device()}

    def _check_size(self, height: int, width: int) -> None:
        """
        Raises:
            UserError: none of the plan's profiles takes an input tensor of this size; plans without profiles take all.
        """
        ranges = [(size["least"], size["most"]) for size in self.sidecar["sizes"]]
        if not ranges or any(least[0] <= height <= most[0] and least[1] <= width <= most[1] for least, most in ranges):
            return
        words = [f"{a[1]}x{a[0]}" + ("" if a == b else f" to {b[1]}x{b[0]}") for a, b in ranges]
        raise UserError(
            f"picture: becomes an input of {width}x{height}, which this plan was not built for",
            f"inputs of {', '.join(words)}",
            "Build the plan with this --res too, or with --dynamic",
        )

    def close(self) -> None:
        """Frees what the session holds, after the inferences that were begun; a second call does nothing."""
        if not self._closed and self._process == os.getpid():
            self._closed = True
            self._owner.submit(self._session.close).result()
            self._owner.shutdown()

    def __enter__(self) -> DeployedSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    plan: str | Path, device: str = "auto", threads: int | None = None, host_code: bool = False
) -> DeployedSession:
    """A session of a plan that `bench build` wrote.

    Args:
        device: `cpu`, `cuda:N`, or `auto`: the first CUDA device that the engine can use here, else the CPU.
        threads: CPU threads that compute; None: one for every core that this process may use.
        host_code: whether code in the plan may run on the CPU, which plans of TensorRT with `version_compatible=on`
            hold; for plans whose origin you know.

    Warns where the plan's int8 products overflow on this processor.

    Raises:
        UserError: no sidecar, or one of another plan, an engine that is not usable here, or code that may not run.
    """
    path = Path(plan)
    told = read_sidecar(path)
    if told["engine"]["settings"].get("version_compatible") == "on" and not host_code:
        raise UserError(
            f"{path}: holds a runtime, which is code that would run with your rights (version_compatible=on)",
            "a plan without (version_compatible=excluded), or your word that you know where it comes from",
            "engines.load(plan, host_code=True) gives it",
        )
    if told.get("example"):
        raise UserError(
            f"{path}: a bundle's model, which takes pictures by itself",
            "a plan that `bench build --output` wrote",
            "Run the bundle's example.py, or build with --output",
        )
    device = _device_for(engines.get(told["engine"]["name"]), told["precision"], device)
    if device == "cpu" and _overflows(told.get("lowering") or {}):
        warnings.warn(
            f"{path}: int8 weights of 8 bits overflow on this processor (x86 without VNNI): pictures may be far off. "
            "Build it with --weight-bits 7",
            stacklevel=3,  # of who calls engines.load
        )
    threads = threads or len(os.sched_getaffinity(0))
    options = Options(device, told["precision"], threads, told["engine"]["settings"])
    owner = ThreadPoolExecutor(1, "fullres-session")
    made = owner.submit(_session, path, told, options)
    if error := made.exception():
        owner.shutdown()
        raise error
    return DeployedSession(made.result(), told, owner)


def _overflows(lowering: Mapping[str, Any]) -> bool:
    recipe = lowering.get("recipe", {})
    quantised = "int8" in lowering.get("layers", {}).values()
    return quantised and recipe["shifted"] and recipe.get("weight_bits", 8) > exact_weight_bits()


def _session(path: Path, told: Mapping[str, Any], options: Options) -> Session:
    engine = engines.get(told["engine"]["name"])
    spec = ModelSpec.from_json(json.dumps(told["model"]["spec"]))
    planes = spec.input_planes, spec.output_planes, spec.upscale
    role = "picture" if told.get("takes") == "pictures" else "onnx"
    graph = Graph(str(path.absolute()), told["onnx"]["sha256"], "", "", {}, role, *planes)
    from engines.trt.engine import TrtEngine

    if not isinstance(engine, TrtEngine):
        return engine.load(graph, options)
    from engines.trt.builder import Profile
    from engines.trt.session import GivenPlan

    profiles = tuple(Profile(*((s[k][0], s[k][1]) for k in ("least", "tuned", "most"))) for s in told["sizes"])
    return engine.load_plan(graph, options, GivenPlan(path.absolute(), told["plan"]["sha256"], profiles))


def _device_for(engine: engines.Engine, precision: str, device: str) -> str:
    if device != "auto":
        return device
    kinds = {kind for kind, precisions in engine.precisions.items() if precision in precisions}
    return "cuda:0" if "cpu" not in kinds or ("cuda" in kinds and _usable_on_cuda(engine)) else "cpu"


def load_plan(plan: str | Path, options: Options) -> Session:
    """The plan's session itself, for who measures it: on tensors, and on no other device or threads than `options`'."""
    return load(plan, options.device, options.threads)._session


def _usable_on_cuda(engine: engines.Engine) -> bool:
    return bool(cuda_device_count()) and not engine.device_missing("cuda:0")

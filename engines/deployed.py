"""A plan and its sidecar → a session on pictures. Nothing else is needed: no weights, no torch, no definition."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import engines
from engines.engine import Options, Session
from engines.installed import cuda_device_count
from engines.sidecar import read_sidecar
from export.network import INPUT, OUTPUT, Graph
from reference_models.colour import picture_from_tensor, tensor_from_picture
from reference_models.spec import ModelSpec


class DeployedSession:
    """What `bench build` wrote, ready to run. A context manager."""

    def __init__(self, session: Session, told: Mapping[str, Any]) -> None:
        self._session = session
        self.sidecar = told
        self.spec = ModelSpec.from_json(json.dumps(told["model"]["spec"]))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB → the network's picture, uint8 RGB, as large as the network makes it."""
        x = tensor_from_picture(picture, self.spec)
        return picture_from_tensor(self._session.run({INPUT: x})[OUTPUT], self.spec, picture)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As Session.run: {`x`: (1, C, H, W) float32} → {`y`: float32}."""
        return self._session.run(inputs)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> DeployedSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(plan: str | Path, device: str = "auto", threads: int = 1) -> DeployedSession:
    """A session of a plan that `bench build` wrote.

    Args:
        device: `cpu`, `cuda:N`, or `auto`: the first CUDA device that the engine can use here, else the CPU.

    Raises:
        UserError: no sidecar, or one of another plan, or an engine that is not usable here.
    """
    path = Path(plan)
    told = read_sidecar(path)
    engine = engines.get(told["engine"]["name"])
    kinds = engine.precisions
    if device == "auto":
        device = "cuda:0" if "cpu" not in kinds or ("cuda" in kinds and _usable_on_cuda(engine)) else "cpu"
    options = Options(device, told["precision"], threads, told["engine"]["settings"])
    spec = ModelSpec.from_json(json.dumps(told["model"]["spec"]))
    planes = spec.input_planes, spec.output_planes, spec.upscale
    graph = Graph(str(path.absolute()), told["onnx"]["sha256"], "", "", {}, "onnx", *planes)
    from engines.trt.engine import TrtEngine

    if not isinstance(engine, TrtEngine):
        return DeployedSession(engine.load(graph, options), told)
    from engines.trt.builder import Profile
    from engines.trt.session import GivenPlan

    profiles = tuple(Profile(*((s[k][0], s[k][1]) for k in ("least", "tuned", "most"))) for s in told["sizes"])
    given = GivenPlan(path.absolute(), told["plan"]["sha256"], profiles)
    return DeployedSession(engine.load_plan(graph, options, given), told)


def load_plan(plan: str | Path, options: Options) -> Session:
    """The plan's session itself, for who measures it: on tensors, and on no other device or threads than `options`'."""
    return load(plan, options.device, options.threads)._session


def _usable_on_cuda(engine: engines.Engine) -> bool:
    return bool(cuda_device_count()) and not engine.device_missing("cuda:0")

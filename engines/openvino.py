"""openvino: OpenVINO's CPU plugin, one stream, in f32 or bf16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from engines.engine import CPU_CONTRACT, Engine, Options, Session, Setting
from engines.installed import package_missing, package_version
from export.network import OUTPUT, Graph

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine(Engine):
    name = "openvino"
    title = "OpenVINO, CPU plugin"
    install = "pip install 'fullres[openvino]'"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32", "bf16")}
    rank: ClassVar[Mapping[str, int]] = {"cpu": 1}
    settings = (
        Setting("pinning", "on", ("on", "off"), "whether threads are pinned to cores"),
        Setting("denormals", "zero", ("zero", "keep"), "denormal numbers in kernels; `zero` sets the flush-to-zero bits"),
    )

    def missing(self) -> str | None:
        return package_missing("openvino", ("openvino",))

    def version(self) -> str:
        return package_version(("openvino",))

    def _load(self, graph: Graph, options: Options) -> Session:
        return OpenVinoSession(graph, options)


class OpenVinoSession(Session):
    """Compiles for the shape that is bound: static shapes let the plugin plan memory and choose kernels once."""

    def __init__(self, graph: Graph, options: Options) -> None:
        super().__init__(graph)
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(graph.onnx_path)
        self._constants = {n.friendly_name: n for n in self._model.get_ops() if n.get_type_name() == "Constant"}
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
            "EXECUTION_MODE_HINT": "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(options.threads),
            "ENABLE_CPU_PINNING": "YES" if options.settings.get("pinning") == "on" else "NO",
            "CPU_DENORMALS_OPTIMIZATION": "YES" if options.settings.get("denormals") == "zero" else "NO",
        }
        self._request: Any = None
        self._x: np.ndarray | None = None
        self.contract = {**CPU_CONTRACT, "threads": options.threads}

    def _compile(self) -> None:
        compiled = self._core.compile_model(self._model, "CPU", self._config)
        self._request = compiled.create_infer_request()

    def _bind(self, x: np.ndarray) -> None:
        import openvino

        if self._x is None or self._x.shape != x.shape:
            self._request = None
            self._model.reshape(openvino.PartialShape(list(x.shape)))
            self._compile()
        self._x = x
        self._request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def _enqueue(self) -> None:
        self._request.infer()

    def _synchronize(self) -> None:
        pass  # infer() blocks

    def _read(self) -> np.ndarray:
        return self._request.get_tensor(OUTPUT).data

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        import openvino
        from openvino import opset13

        for name, value in tensors.items():
            old = self._constants.get(name)
            if old is None or tuple(old.get_output_shape(0)) != value.shape:
                raise ValueError(f"{self.graph.onnx_path} has no constant {name!r} of shape {value.shape}")
            new = opset13.constant(value, dtype=np.float32, name=name)
            old.output(0).replace(new.output(0))
            self._constants[name] = new
        self._request = None
        self._compile()
        if self._x is not None:
            self._request.set_input_tensor(openvino.Tensor(self._x, shared_memory=True))

    def _close(self) -> None:
        self._request = self._x = None


ENGINE = OpenVinoEngine()

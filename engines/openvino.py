"""openvino: OpenVINO's CPU plugin, one stream, in f32 or bf16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from engines.allocator import ALLOCATOR, allocator_environment
from engines.engine import CPU_CONTRACT, Engine, Options, Session, Setting
from engines.installed import package_missing, package_version
from export.network import INPUT, OUTPUT, Graph

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine(Engine):
    name = "openvino"
    title = "OpenVINO, CPU plugin"
    install = "pip install openvino"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32", "bf16")}
    rank: ClassVar[Mapping[str, int]] = {"cpu": 1}
    settings = (
        ALLOCATOR,
        Setting("pinning", "on", ("on", "off"), "whether threads are pinned to cores"),
        Setting(
            "denormals", "zero", ("zero", "keep"), "denormal numbers in kernels; `zero` sets the flush-to-zero bits"
        ),
    )

    def missing(self) -> str | None:
        return package_missing("openvino", ("openvino",))

    def version(self) -> str:
        return package_version(("openvino",))

    def precision_missing(self, device: str, precision: str) -> str | None:
        reason = super().precision_missing(device, precision)
        if reason or precision != "bf16" or self.missing():
            return reason
        import openvino

        if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return None
        return "no bf16 on this processor: the plugin would compute in fp32 and call it bf16"

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return allocator_environment(settings)

    def _load(self, graph: Graph, options: Options) -> Session:
        return OpenVinoSession(graph, options)


class OpenVinoSession(Session):
    """Compiles for the shape that is bound: static shapes let the plugin plan memory and choose kernels once.

    Refittable weights become inputs of the model: they cost 4 to 10 % of an inference more than constants, and a new
    value costs nothing, where compiling again costs 30 to 100 ms and new memory.
    """

    def __init__(self, graph: Graph, options: Options) -> None:
        super().__init__(graph, options)
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(graph.onnx_path)
        self._weights = _inputs_from_constants(self._model, options.refittable)
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
            "EXECUTION_MODE_HINT": "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(options.threads),
            "ENABLE_CPU_PINNING": "YES" if options.settings["pinning"] == "on" else "NO",
            "CPU_DENORMALS_OPTIMIZATION": "YES" if options.settings["denormals"] == "zero" else "NO",
        }
        self._request: Any = None
        self._x: np.ndarray | None = None
        self.contract = {**CPU_CONTRACT, "threads": options.threads}

    def _bind(self, x: np.ndarray) -> None:
        import openvino

        if self._x is None or self._x.shape != x.shape:
            self._request = None
            self._model.reshape({INPUT: openvino.PartialShape(list(x.shape))})
            compiled = self._core.compile_model(self._model, "CPU", self._config)
            self._request = compiled.create_infer_request()
            self._set_weights()
        self._x = x
        self._request.set_tensor(INPUT, openvino.Tensor(x, shared_memory=True))

    def _enqueue(self) -> None:
        self._request.infer()

    def _synchronize(self) -> None:
        pass  # infer() blocks

    def _read(self) -> np.ndarray:
        return self._request.get_tensor(OUTPUT).data

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        for name, value in tensors.items():
            if self._weights[name].shape != value.shape:
                raise ValueError(f"{name!r} has shape {self._weights[name].shape}, got {value.shape}")
            self._weights[name] = np.ascontiguousarray(value, np.float32)
        if self._request is not None:
            self._set_weights()

    def _set_weights(self) -> None:
        import openvino

        for name, value in self._weights.items():
            self._request.set_tensor(name, openvino.Tensor(value, shared_memory=True))

    def _close(self) -> None:
        self._request = self._x = None


def _inputs_from_constants(model: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Makes these constants inputs of the model, in place; returns their values."""
    from openvino import opset13

    constants = {op.friendly_name: op for op in model.get_ops() if op.get_type_name() == "Constant"}
    values, parameters = {}, []
    for name in names:
        values[name] = np.array(constants[name].data, np.float32)
        parameter = opset13.parameter(list(values[name].shape), np.float32, name=name)
        parameter.output(0).get_tensor().set_names({name})
        constants[name].output(0).replace(parameter.output(0))
        parameters.append(parameter)
    model.add_parameters(parameters)
    return values


ENGINE = OpenVinoEngine()

"""openvino: OpenVINO's CPU plugin, one stream, in f32 or bf16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from engines.allocator import ALLOCATOR, allocator_environment
from engines.engine import CPU_CONTRACT, Engine, LayerTime, Options, Session, Setting
from engines.installed import package_missing, package_version
from engines.profiling import WARM_UP, medians_of
from export.network import INPUT, OUTPUT, Graph
from export.processor import exact_weight_bits
from export.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32", "auto": "f32"}
"""Of what the graph leaves open; integers stand in it."""
_WEIGHTED = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
_TYPES = {"f32": "fp32", "f16": "fp16", "i8": "int8", "u8": "int8"}


class OpenVinoEngine(Engine):
    name = "openvino"
    title = "OpenVINO, CPU plugin"
    install = "pip install openvino"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32", "bf16", "int8", "auto")}
    rank: ClassVar[Mapping[str, int]] = {"cpu": 1}
    tells_layer_times = ("cpu",)
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

    def recipe(self, device: str, precision: str) -> Recipe | None:
        if precision not in {"int8", "auto"}:
            return None
        return Recipe(precision, shifted=True, weight_bits=exact_weight_bits())

    def layer_types(self, graph: Graph, options: Options) -> dict[str, str] | None:
        """From the compiled model, whose layers name the type that goes in. What makes the graph's output is called
        after it there, and by its node here."""
        import onnx
        import openvino

        content = onnx.load(graph.onnx_path, load_external_data=False).graph
        makers = {output: node.name for node in content.node for output in node.output}
        ends = {f"{value.name}{word}": makers[value.name] for value in content.output for word in ("", "_original")}
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(graph.onnx_path), "CPU", _config(options))
        found = {}
        for layer in compiled.get_runtime_model().get_ops():
            facts = {name: value.astype(str) for name, value in layer.get_rt_info().items()}
            if facts["layerType"] in _WEIGHTED:
                kind = facts["runtimePrecision"].lower()
                found[ends.get(layer.friendly_name, layer.friendly_name)] = _TYPES.get(kind, kind)
        return found

    def layer_times(self, graph: Graph, options: Options, x: np.ndarray, runs: int = 10) -> list[LayerTime] | None:
        """What was merged into another layer never has a time of its own and is left out."""
        told: list[list[LayerTime]] = []
        complete = replace(options, settings=self.complete_settings(options.settings))
        session = OpenVinoSession(graph, complete, profiled=True)
        with session:
            session.bind(x)
            for _ in range(WARM_UP + runs):
                session.enqueue()
                told.append(session.profile())
        # A layer below 1 µs is told as one that did not run, in this run.
        ran = [any(nodes) for nodes in zip(*([node.ms > 0 for node in run] for run in told), strict=True)]
        return [node for node, has_run in zip(medians_of(told[WARM_UP:]), ran, strict=True) if has_run]

    def _load(self, graph: Graph, options: Options) -> Session:
        return OpenVinoSession(graph, options)


class OpenVinoSession(Session):
    """Compiles for the shape that is bound: static shapes let the plugin plan memory and choose kernels once.

    New weights mean to compile again, about 40 ms for the networks here (5 % of a CAN32 in bf16 at 1080p), as long as
    the allocator keeps freed memory. Weights as inputs of the model need no compiling, but then a bias is no longer
    part of its convolution: one more pass over every layer, 10 %.
    """

    def __init__(self, graph: Graph, options: Options, profiled: bool = False) -> None:
        super().__init__(graph, options)
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(graph.onnx_path)
        self._constants = _constants(self._model, options.refittable)
        self._config = {**_config(options), **({"PERF_COUNT": "YES"} if profiled else {})}
        self._request: Any = None
        self._x: np.ndarray | None = None
        self.contract = {**CPU_CONTRACT, "threads": options.threads}

    def _bind(self, x: np.ndarray) -> None:
        import openvino

        if self._x is None or self._x.shape != x.shape:
            self._request = None
            self._model.reshape({INPUT: openvino.PartialShape(list(x.shape))})
        self._x = x
        self._compile()

    def _compile(self) -> None:
        import openvino

        if self._request is None:
            compiled = self._core.compile_model(self._model, "CPU", self._config)
            self._request = compiled.create_infer_request()
        self._request.set_tensor(INPUT, openvino.Tensor(self._x, shared_memory=True))

    def _enqueue(self) -> None:
        self._request.infer()

    def _synchronize(self) -> None:
        pass  # infer() blocks

    def _read(self) -> np.ndarray:
        return self._request.get_tensor(OUTPUT).data

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        import numpy as np
        from openvino import op

        for name, value in tensors.items():
            old = self._constants[name]
            if tuple(old.shape) != value.shape:
                raise ValueError(f"{name!r} has shape {tuple(old.shape)}, got {value.shape}")
            new = op.Constant(np.ascontiguousarray(value, np.float32))
            new.set_friendly_name(name)
            old.output(0).replace(new.output(0))
            self._constants[name] = new
        self._request = None  # before the next is made: both at once would need the activations' memory twice
        if self._x is not None:
            self._compile()

    def profile(self) -> list[LayerTime]:
        """Every layer with its time in the last run; for sessions that were made for it."""
        told = self._request.get_profiling_info()
        return [LayerTime(n.node_name, n.node_type, n.real_time.total_seconds() * 1e3) for n in told]

    def _close(self) -> None:
        self._request = self._x = None


def _config(options: Options) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(options.threads),
        "ENABLE_CPU_PINNING": "YES" if options.settings["pinning"] == "on" else "NO",
        "CPU_DENORMALS_OPTIMIZATION": "YES" if options.settings["denormals"] == "zero" else "NO",
    }


def _constants(model: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The model's constants of these names."""
    found = {op.friendly_name: op for op in model.get_ops() if op.get_type_name() == "Constant"}
    return {name: found[name] for name in names}


ENGINE = OpenVinoEngine()

"""onnxruntime: ONNX Runtime's CPU provider, input and output bound to memory that is never copied, and its CUDA
provider, whose session is in engines/ort/cuda.py."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.allocator import ALLOCATOR, allocator_environment
from engines.engine import CPU_CONTRACT, ENDS, PICTURE_ENDS, Engine, LayerTime, Options, Session, Setting
from engines.installed import cuda_missing, package_missing, package_version
from engines.ort.options import CUDA_ONLY, DENORMALS, DEVICE, GRAPH, SPIN, level, session_options
from engines.ort.placement import placement_missing
from engines.ort.weights import replace_weights
from engines.profiling import WARM_UP, medians_of
from export.network import Graph
from export.processor import exact_weight_bits
from export.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

_KERNELS = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat"), "int8"),
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"), "fp32"),
}
"""Operators of an optimised graph → what they compute in."""
_KERNEL = "_kernel_time"
"""What the profiler puts behind a node's name."""
_DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime")


class OnnxRuntimeEngine(Engine):
    name = "onnxruntime"
    title = "ONNX Runtime, CPU or CUDA provider"
    install = "pip install onnxruntime-gpu (Linux x86-64; a GPU wants cuda-python too) or onnxruntime (elsewhere)"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "cpu": ("fp32", "int8", "auto"),
        "cuda": ("fp32", "tf32", "fp16"),
    }
    rank: ClassVar[Mapping[str, int]] = {"cpu": 0, "cuda": 1}
    tells_layer_times = ("cpu",)
    settings = (
        ALLOCATOR,
        GRAPH,
        DENORMALS,
        Setting(
            "memory",
            "lean",
            ("lean", "planned"),
            "`lean` allocates activations one by one, exactly; `planned`, the library's default, holds them twice from "
            "the second inference on",
        ),
        SPIN,
        *DEVICE,
        ENDS,
    )
    cuda_only: ClassVar[Mapping[str, str]] = CUDA_ONLY

    def missing(self) -> str | None:
        return package_missing("onnxruntime", _DISTRIBUTIONS)

    def version(self) -> str:
        return package_version(_DISTRIBUTIONS)

    def device_missing(self, device: str) -> str | None:
        reason = cuda_missing(device)
        if reason or device == "cpu":
            return reason
        import onnxruntime as ort

        if "CUDAExecutionProvider" not in ort.get_available_providers():
            return "this build of ONNX Runtime has no CUDA provider"
        # It would run without, on a stream of its own: not timed by the device and synchronised in every run. One
        # engine with two meanings of a latency is worse than one more package.
        return package_missing("cuda", ("cuda-python",)) or placement_missing()

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return allocator_environment(settings)

    def recipe(self, device: str, precision: str) -> Recipe | None:
        if precision in {"int8", "auto"}:
            return Recipe(precision, placement="integer", shifted=True, weight_bits=exact_weight_bits())
        return Recipe(precision) if precision == "fp16" else None

    def layer_types(self, graph: Graph, options: Options) -> dict[str, str] | None:
        """From the optimised graph, as the session writes it: integer kernels have names of their own."""
        import onnx
        import onnxruntime as ort

        if options.device != "cpu":
            return None
        with tempfile.TemporaryDirectory() as folder:
            chosen = ort.SessionOptions()
            chosen.log_severity_level = 3
            chosen.graph_optimization_level = level(options)
            chosen.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
            ort.InferenceSession(graph.onnx_path, chosen, providers=["CPUExecutionProvider"])
            nodes = onnx.load(chosen.optimized_model_filepath).graph.node
        own = _names(onnx.load(graph.onnx_path, load_external_data=False))
        found = [node for node in nodes if node.op_type in _KERNELS]
        return {own.get(node.output[0], own.get(node.name, node.name)): _KERNELS[node.op_type] for node in found}

    def layer_times(self, graph: Graph, options: Options, x: np.ndarray, runs: int = 10) -> list[LayerTime] | None:
        if options.device != "cpu":
            return None
        complete = replace(options, settings=self.complete_settings(options.settings))
        with tempfile.TemporaryDirectory() as folder:
            session = OnnxRuntimeSession(graph, complete, profile=str(Path(folder) / "nodes"))
            with session:
                session.bind(x)
                for _ in range(WARM_UP + runs):
                    session.enqueue()
                written = session.end_profiling()
            told = _runs(json.loads(Path(written).read_text()))
        return medians_of(told[WARM_UP:])

    def _load(self, graph: Graph, options: Options) -> Session:
        if options.device == "cpu":
            return OnnxRuntimeSession(graph, options)
        from engines.ort.cuda import CudaSession

        return CudaSession(graph, options)


class OnnxRuntimeSession(Session):
    """On the CPU. New weights mean a new session, 1 to 10 ms for the networks here: refittable ones keep the model in
    memory."""

    def __init__(self, graph: Graph, options: Options, profile: str | None = None) -> None:
        """
        Args:
            profile: beginning of the path of the file that `end_profiling` writes.
        """
        super().__init__(graph, options)
        self._options = options
        self._profile = profile
        self._model: Any = None
        if options.refittable:
            import onnx

            self._model = onnx.load(graph.onnx_path)
        self._x: np.ndarray | None = None
        self._y: np.ndarray | None = None
        self._binding: Any = None
        self._session = self._new_session()
        self.contract = {**CPU_CONTRACT, "threads": options.threads}
        if graph.takes_pictures:
            self.contract |= PICTURE_ENDS

    def _new_session(self) -> Any:
        import onnxruntime as ort

        o = session_options(self._options)
        if self._options.settings["memory"] == "lean":
            # Its pattern of the first inference is one more block for all activations, beside those that it had.
            o.enable_mem_pattern = False
            _share_exact_arena()
            o.add_session_config_entry("session.use_env_allocators", "1")
        if self._profile:
            o.enable_profiling, o.profile_file_prefix = True, self._profile
        model = self._model.SerializeToString() if self._model else self.graph.onnx_path
        return ort.InferenceSession(model, o, providers=["CPUExecutionProvider"])

    def _bind(self, x: np.ndarray) -> None:
        import numpy as np

        self._x = x
        self._binding = self._session.io_binding()
        given, result = self.graph.ends
        self._binding.bind_cpu_input(given, x)
        self._y = self._output_buffer(x)  # the old one, where it fits: tiles of one size are bound one after another
        if self._y is None:
            self._binding.bind_output(result, "cpu")
        else:
            self._binding.bind_output(result, "cpu", 0, np.float32, self._y.shape, self._y.ctypes.data)

    def _output_buffer(self, x: np.ndarray) -> np.ndarray | None:
        """A buffer for graphs whose output shape is a plain function of the input's; None lets the session allocate."""
        import numpy as np

        shape = self._session.get_outputs()[0].shape
        names = self._session.get_inputs()[0].shape
        sizes = {name: size for name, size in zip(names, x.shape, strict=True) if isinstance(name, str)}
        known = [sizes.get(d, d) for d in shape]
        if any(not isinstance(d, int) for d in known):
            return None
        if self._y is not None and self._y.shape == tuple(known):
            return self._y
        self._y = None  # before the next is made
        return np.empty(known, np.float32)

    def _enqueue(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _synchronize(self) -> None:
        pass  # the run has returned

    def _read(self) -> np.ndarray:
        return self._y if self._y is not None else self._binding.copy_outputs_to_cpu()[0]

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        replace_weights(self._model, tensors, self.graph.onnx_path)
        # The old session goes first: both at once would need the activations' memory twice.
        self._binding = self._session = None
        self._session = self._new_session()
        if self._x is not None:
            self._bind(self._x)

    def end_profiling(self) -> str:
        """Path of the file with the times of all nodes in all runs so far; for sessions that were made for it."""
        return str(self._session.end_profiling())

    def _close(self) -> None:
        self._binding = self._session = self._x = self._y = None


def _runs(events: Sequence[Mapping[str, Any]]) -> list[list[LayerTime]]:
    """A profile's nodes, run by run. Those in the body of another node are part of it: they would count twice."""
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith(_KERNEL)]
    kernels.sort(key=lambda e: (e["ts"], -e["dur"]))
    ends = sorted(e["ts"] + e["dur"] for e in events if e["name"] == "model_run")
    found: list[list[LayerTime]] = [[] for _ in ends]
    free_from = run = 0
    for event in kernels:
        while run < len(ends) and event["ts"] > ends[run]:
            run += 1
        if run < len(ends) and event["ts"] >= free_from:
            free_from = event["ts"] + event["dur"]
            name = event["name"].removesuffix(_KERNEL)
            found[run].append(LayerTime(name, event["args"]["op_name"], event["dur"] / 1e3))
    return found


def _names(model: Any) -> dict[str, str]:
    """What a node, or its output, may be called in the optimised graph → the node. Float kernels are called after what
    comes out of them when they take an activation in, or another layout."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in _KERNELS:
            out = node.output[0]
            behind = readers.get(out, [])
            outs = [out, behind[0].output[0]] if len(behind) == 1 else [out]
            found |= {f"{name}{word}": node.name for name in outs for word in ("", "_nchwc")}
    return found


@cache
def _share_exact_arena() -> None:
    """Sessions that ask for it take their CPU memory from one arena of this process, which grows by what is asked for;
    its own grow to powers of two, half of which a limit on memory counts and nobody uses."""
    import onnxruntime as ort

    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg({"arena_extend_strategy": 1}))


ENGINE = OnnxRuntimeEngine()

"""torch_eager: the PyTorch module as it is. In fp32 on the CPU it is also the reference for every other engine.

bf16 and fp16 are `torch.autocast` over the FP32 module: convolutions and matrix products in that type, with weights
that are cast in every inference; sums add up in FP32, and statistics of a picture and what follows from them stay so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from engines.allocator import ALLOCATOR, allocator_environment
from engines.engine import CPU_CONTRACT, CUDA_CONTRACT, Engine, Options, Session, Setting
from engines.installed import cuda_missing, package_missing, package_version
from export.network import Graph
from reference_models import module_from_factory

if TYPE_CHECKING:
    import numpy as np

_ON = ("off", "on")
SETTINGS = (
    Setting(
        "memory_format",
        "channels_last",
        ("channels_last", "contiguous"),
        "layout of weights and activations; PyTorch's default is contiguous",
    ),
    ALLOCATOR,
    Setting("denormals", "keep", ("keep", "zero"), "denormal numbers; `zero` calls torch.set_flush_denormal"),
    Setting("graph", "off", _ON, "CUDA only: whether inferences are replayed from a CUDA graph"),
    Setting("plugins", "off", _ON, "CUDA only: our Triton kernels for PixelShuffle and pixel deconvolution"),
    Setting("l2", "warm", ("warm", "flushed"), "CUDA only: whether the second-level cache is emptied before each"),
)


class TorchEager(Engine):
    name = "torch_eager"
    title = "PyTorch, eager; in fp32 the reference"
    install = "pip install 'torch~=2.13.0'"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "cpu": ("fp32", "bf16"),
        "cuda": ("fp32", "tf32", "bf16", "fp16"),
    }
    rank: ClassVar[Mapping[str, int]] = {"cpu": 3, "cuda": 3}
    settings = SETTINGS
    cuda_only: ClassVar[Mapping[str, str]] = {"graph": "off", "plugins": "off", "l2": "warm"}
    runs_modules = True

    def missing(self) -> str | None:
        return package_missing("torch", ("torch",))

    def version(self) -> str:
        return package_version(("torch",))

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return allocator_environment(settings)

    def device_missing(self, device: str) -> str | None:
        reason = cuda_missing(device)
        if reason or device == "cpu":
            return reason
        import torch

        return None if torch.cuda.is_available() else "this build of PyTorch has no CUDA"

    def _load(self, graph: Graph, options: Options) -> Session:
        return TorchSession(graph, options)


def module_from_graph(graph: Graph) -> Any:
    """The torch.nn.Module of a graph in eval mode, with the graph's parameters."""
    from safetensors.torch import load_file

    from reference_models.networks.statistics import ThumbnailAffines

    module: Any = module_from_factory(graph.factory, graph.options)
    if graph.role == "folded":
        module = module.folded()
    elif graph.role == "thumbnail_affines":
        module = ThumbnailAffines(module)
    elif graph.role == "styled":
        module = module.styled()
    module.load_state_dict(load_file(graph.state_path))
    return module.eval()


class TorchSession(Session):
    """`compiled` hands the module to torch.compile with the inductor back end and static shapes."""

    def __init__(self, graph: Graph, options: Options, compiled: bool = False) -> None:
        super().__init__(graph, options)
        import torch

        settings = options.settings
        torch.set_num_threads(options.threads)
        torch.set_flush_denormal(settings["denormals"] == "zero")
        tf32 = options.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        self._torch = torch
        self._compiled = compiled
        self._device = torch.device(options.device)
        last = settings["memory_format"] == "channels_last"
        self._format = torch.channels_last if last else torch.contiguous_format
        self._module = module_from_graph(graph).to(self._device, memory_format=self._format)
        self.contract = {**CPU_CONTRACT, "threads": options.threads}
        self._cuda: Any = None
        if self._device.type == "cuda":
            self._open_cuda(settings)
        # fullgraph: what inductor cannot compile fails, and does not run eagerly under its name.
        self._call = torch.compile(self._module, dynamic=False, fullgraph=True) if compiled else self._module
        self._half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.precision)
        self._x: Any = None
        self._y: Any = None

    def _open_cuda(self, settings: Mapping[str, str]) -> None:
        from engines.torch_cuda import CudaRuns

        self.asynchronous = True
        self._cuda = CudaRuns(self._torch, self._device, settings["graph"] == "on", settings["l2"] == "flushed")
        self.contract = {**CUDA_CONTRACT, **self._cuda.contract, "threads": self.contract["threads"]}
        if settings["plugins"] == "on":
            from engines.plugins.torch_ops import use_kernels

            self.contract = {**self.contract, "plugins": use_kernels(self._module)}

    def _bind(self, x: np.ndarray) -> None:
        if self._compiled and self._x is not None and tuple(self._x.shape) != x.shape:
            self._torch.compiler.reset()  # after eight shapes dynamo would give up and run eagerly
        host = self._torch.from_numpy(x)
        if self._cuda:
            self._x = self._cuda.upload(host, self._x, self._format)
        else:
            self._x = host.to(memory_format=self._format)

    def _enqueue(self) -> None:
        self._y = None  # so that this output can take the memory of the one before
        with self._torch.inference_mode(), self._autocast():
            self._y = self._cuda.run(self._call, self._x) if self._cuda else self._call(self._x)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._half is None:
            return nullcontext()
        # Casts that are kept would outlive new weights, and a capture.
        return self._torch.autocast(self._device.type, dtype=self._half, cache_enabled=False)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize(self._device)

    def prepare(self) -> None:
        if self._cuda:
            self._cuda.flush()

    def device_ms(self) -> dict[str, float]:
        return self._cuda.ms() if self._cuda else {}

    def memory_bytes(self) -> dict[str, int | None]:
        """`allocated` is the highest that PyTorch's caching allocator has handed out."""
        return {"allocated": self._torch.cuda.max_memory_allocated(self._device)} if self._cuda else {}

    def _read(self) -> np.ndarray:
        host = self._cuda.download(self._y) if self._cuda else self._y
        return host.float().contiguous().numpy()

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        parameters = dict(self._module.named_parameters())
        with self._torch.no_grad():
            for name, value in tensors.items():
                if name not in parameters or tuple(parameters[name].shape) != value.shape:
                    raise ValueError(f"{self.graph.factory} has no parameter {name!r} of shape {value.shape}")
                parameters[name].copy_(self._torch.from_numpy(value))

    def _close(self) -> None:
        self._module = self._call = self._x = self._y = self._cuda = None


ENGINE = TorchEager()

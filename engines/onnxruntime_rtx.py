"""onnxruntime_rtx: ONNX Runtime with NVIDIA's TensorRT-RTX provider, a plugin; the session is in engines/ort/rtx.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from engines.engine import ENDS, Engine, Options, Session, Setting
from engines.installed import gpu_missing, package_missing, package_version
from engines.ort.options import DEVICE, GRAPH, RTX_PACKAGE
from engines.ort.placement import placement_missing
from engines.ort.tf32 import tf32_missing
from export.network import Graph
from export.recipe import LOWERED, Recipe

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_PLUGINS = tuple(f"onnxruntime-ep-nv-tensorrt-rtx{word}" for word in ("-cu13", "-cu12", ""))
_CAPABILITIES = ((8, 6), (8, 9))
"""And 12.0 or newer. Source: IsComputeCapabilitySupported in the plugin's tensorrt_rtx_provider_options.h, 0.5.0."""


class OnnxRuntimeRtxEngine(Engine):
    name = "onnxruntime_rtx"
    title = "ONNX Runtime, TensorRT-RTX provider"
    install = f"pip install {_PLUGINS[0]} cuda-python (an NVIDIA RTX GPU and its driver)"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {"cuda": ("fp32", "tf32", "bf16", "fp16", "int8")}
    has_float64 = False
    settings = (
        GRAPH,
        *DEVICE,
        ENDS,
        Setting("kernels", "kept", ("kept", "new"), "kernels compiled on the device: kept for later processes, or not"),
    )

    def missing(self) -> str | None:
        return package_missing("onnxruntime", _RUNTIMES) or package_missing(RTX_PACKAGE, _PLUGINS)

    def version(self) -> str:
        return ", ".join(filter(None, (package_version(_PLUGINS), package_version(_RUNTIMES))))

    def device_missing(self, device: str) -> str | None:
        return gpu_missing(device, _capability_missing) or placement_missing()

    def precision_missing(self, device: str, precision: str) -> str | None:
        reason = super().precision_missing(device, precision)
        return tf32_missing() if reason is None and precision == "tf32" else reason

    def recipe(self, device: str, precision: str) -> Recipe | None:
        return Recipe(precision) if precision in LOWERED else None

    def _load(self, graph: Graph, options: Options) -> Session:
        from engines.ort.rtx import RtxSession

        return RtxSession(graph, options, self.version())


def _capability_missing(found: tuple[int, int]) -> str | None:
    if found in _CAPABILITIES or found >= (12, 0):
        return None
    known = "compute capability 8.6, 8.9, 12.0 or newer"
    return f"its provider runs on devices of {known}; this one has {found[0]}.{found[1]}"


ENGINE = OnnxRuntimeRtxEngine()

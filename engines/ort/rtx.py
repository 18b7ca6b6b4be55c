"""A session of ONNX Runtime's TensorRT-RTX provider, a plugin in a package of its own.

Source of the options: tensorrt_rtx_provider_options.h of onnxruntime-ep-nv-tensorrt-rtx-cu13 0.5.0, and
https://nvidia.github.io/TensorRT-RTX-EP-ABI/. Written from them; see docs/gpu-verification.md for what was run.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from engines.engine import Options
from engines.installed import cuda_device_count
from engines.ort.device_session import DeviceSession
from engines.ort.options import RECORD_PLACEMENT, RTX_PACKAGE, session_options
from engines.ort.tf32 import tf32
from engines.trt.device import bus_address, device_words
from export.cache import cache_folder
from export.network import Graph

PROVIDER = "NvTensorRTRTXExecutionProvider"


class RtxSession(DeviceSession):
    """Opened for the shape that is bound: the provider itself recommends fixed sides for fixed sizes."""

    provider: ClassVar[str] = PROVIDER
    per_shape: ClassVar[bool] = True
    least_runs: ClassVar[int] = 1
    """Kernels are compiled on the device."""

    def __init__(self, graph: Graph, options: Options, version: str) -> None:
        """
        Args:
            version: of the libraries, for the name of what is kept.
        """
        super().__init__(graph, options)
        self._version = version
        with self._freed_on_failure():
            register()
            self._ep_device = device_at(bus_address(self._index))

    # Both build, and compile for the device in the first run.

    def _prepare(self, shape: tuple[int, ...]) -> None:
        with tf32(self._options.precision == "tf32"):
            super()._prepare(shape)

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        with tf32(self._options.precision == "tf32"):
            super()._refit(tensors)

    def _new_session(self, shape: tuple[int, ...]) -> Any:
        import onnxruntime as ort

        options = session_options(self._options)
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
        for name, size in zip(self._side_names(), shape, strict=True):
            if name:
                options.add_free_dimension_override_by_name(name, size)
        options.add_provider_for_devices([self._ep_device], self._provider_options(shape))
        return ort.InferenceSession(self._source(), options, enable_fallback=0)

    def _side_names(self) -> list[str]:
        """Of the input's sides, empty for those that are numbers."""
        import onnx

        model = self._model or onnx.load(self.graph.onnx_path, load_external_data=False)
        (value,) = [value for value in model.graph.input if value.name == self.graph.ends[0]]
        return [side.dim_param for side in value.type.tensor_type.shape.dim]

    def _provider_options(self, shape: tuple[int, ...]) -> dict[str, str]:
        chosen = {
            "has_user_compute_stream": "1",
            "user_compute_stream": str(self._device.stream),
            # The library's own whole-graph capture, in its enqueue; ONNX Runtime replays nothing, so nothing waits.
            "enable_cuda_graph": "1" if self._captures else "0",
            # Activations keep their memory between runs, as those of every other session here do.
            "nv_persistent_context_memory": "1",
        }
        if self._options.settings["kernels"] == "kept" and not self._refittable:
            chosen["nv_runtime_cache_path"] = str(self._kernels_folder(shape))
        return chosen

    def _kernels_folder(self, shape: tuple[int, ...]) -> Path:
        """The provider names files after parts of a graph, so every graph, precision, size and device has a folder."""
        level, device = self._options.settings["graph"], device_words(self._index)
        words = (self._version, self.graph.sha256, self._options.precision, level, shape, device)
        folder = cache_folder() / "kernels" / hashlib.sha256(repr(words).encode()).hexdigest()[:32]
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@cache
def register() -> None:
    """Makes the provider known to ONNX Runtime, once in a process.

    Raises:
        RuntimeError: a library that it needs is not there, such as the driver's.
    """
    import onnxruntime as ort

    package = importlib.import_module(RTX_PACKAGE)
    ort.register_execution_provider_library(package.get_ep_name(), package.get_library_path())


def device_at(address: str) -> Any:
    """The provider's OrtEpDevice at this place of the PCI bus. CUDA's numbers follow another order than those of ONNX
    Runtime, which finds hardware by the system's files.

    Args:
        address: as `0000:65:00.0`.

    Raises:
        RuntimeError: the provider offers none there.
    """
    import onnxruntime as ort

    offered = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    for device in offered:
        if device.device.metadata.get("pci_bus_id", "").lower() == address:
            return device
    if len(offered) == cuda_device_count() == 1:  # nothing to confuse; Windows' Linux shows no addresses
        return offered[0]
    places = ", ".join(device.device.metadata.get("pci_bus_id", "without address") for device in offered) or "none"
    raise RuntimeError(f"{PROVIDER} offers no device at {address} of the PCI bus; those that it offers: {places}")

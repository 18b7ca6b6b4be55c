"""A session of ONNX Runtime's CUDA provider."""

from __future__ import annotations

from typing import Any, ClassVar

from engines.engine import Options
from engines.ort.device_session import DeviceSession
from engines.ort.options import RECORD_PLACEMENT, session_options
from export.network import Graph

ASYNCHRONOUS_REPLAY = (1, 27)
"""ONNX Runtime that replays without waiting, where a run's options say so; older ones wait in every replay. Source:
https://github.com/microsoft/onnxruntime/pull/28686, and the machine code of CUDAGraphManager::Replay: in 1.26.0
cudaStreamSynchronize follows cudaGraphLaunch always, in 1.27.0 and 1.31.1 where its caller wants it."""


class CudaSession(DeviceSession):
    """Opened once for all sizes, unless inferences are captured."""

    provider: ClassVar[str] = "CUDAExecutionProvider"

    def __init__(self, graph: Graph, options: Options) -> None:
        super().__init__(graph, options)
        with self._freed_on_failure():
            self._open(())

    def _replay_waits(self) -> bool:
        import onnxruntime as ort

        return tuple(map(int, ort.__version__.split(".")[:2])) < ASYNCHRONOUS_REPLAY

    def _new_session(self, shape: tuple[int, ...]) -> Any:
        import onnxruntime as ort

        options = session_options(self._options)
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
        # With its fallback, what cannot be built as asked for would be built on the CPU, and the reason printed.
        return ort.InferenceSession(self._source(), options, providers=[self._provider()], enable_fallback=0)

    def _provider(self) -> tuple[str, dict[str, str]]:
        """Source: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html."""
        return self.provider, {
            "device_id": str(self._index),
            # ONNX Runtime allows TF32 by default, so an fp32 case must say no.
            "use_tf32": "1" if self._options.precision == "tf32" else "0",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "has_user_compute_stream": "1",
            "user_compute_stream": str(self._device.stream),
            # Refuses a graph with a node on another provider that is more than shape arithmetic, and control flow.
            "enable_cuda_graph": "1" if self._captures else "0",
        }

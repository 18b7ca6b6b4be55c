"""tensorrt_rtx: TensorRT for RTX. Builds on any machine; runs on RTX GPUs, which compile the plan's kernels."""

from __future__ import annotations

from engines.trt.api import TensorRtRtxApi
from engines.trt.engine import TrtEngine, settings_of


class TensorRtRtx(TrtEngine):
    name = "tensorrt_rtx"
    title = "TensorRT for RTX: builds plans anywhere, runs them on RTX GPUs"
    api = TensorRtRtxApi()
    install = api.install
    settings = settings_of(api)


ENGINE = TensorRtRtx()

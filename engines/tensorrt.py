"""tensorrt: TensorRT 10 and 11. Builds on the GPU that will run the plan."""

from __future__ import annotations

from engines.trt.api import TensorRtApi
from engines.trt.engine import TrtEngine, settings_of


class TensorRt(TrtEngine):
    name = "tensorrt"
    title = "TensorRT 10 and 11, on an NVIDIA GPU"
    api = TensorRtApi()
    install = api.install
    settings = settings_of(api)


ENGINE = TensorRt()

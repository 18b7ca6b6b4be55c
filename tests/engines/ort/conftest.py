"""ONNX Runtime's own CPU provider over a CUDA device in host memory: what a device session does can be computed."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
import pytest

from engines.engine import Options
from engines.onnxruntime import ENGINE
from engines.ort.device_session import DeviceSession
from engines.ort.options import RECORD_PLACEMENT, session_options
from tests.engines.trt.conftest import FakeCuda, installed_cuda


class HostSession(DeviceSession):
    """`opened`: shapes, in the order in which sessions were opened for them."""

    provider: ClassVar[str] = "CPUExecutionProvider"
    memory: ClassVar[str] = "cpu"

    def __init__(self, graph: Any, options: Options) -> None:
        super().__init__(graph, options)
        self.opened: list[tuple[int, ...]] = []
        self.runs = 0

    def _new_session(self, shape: tuple[int, ...]) -> Any:
        self.opened.append(shape)
        options = session_options(self._options)
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
        return ort.InferenceSession(self._source(), options, providers=[self.provider])

    def _submit(self) -> None:
        self.runs += 1
        super()._submit()


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return installed_cuda(monkeypatch)


@pytest.fixture
def host(fake_cuda: FakeCuda) -> Any:
    """`host(graph, refittable, **settings)`: a HostSession."""

    def opened(graph: Any, refittable: tuple[str, ...] = (), kind: type = HostSession, **settings: str) -> HostSession:
        return kind(graph, Options("cuda:0", "fp32", 1, ENGINE.complete_settings(settings), refittable))

    return opened


@pytest.fixture
def enlarger(tmp_path: Any) -> Any:
    """A graph of twice the size, whose output has sides of names of their own: `conv`, then `shuffle`."""
    from onnx import TensorProto, helper, numpy_helper, save

    from export.network import Graph

    weights = numpy_helper.from_array(np.random.default_rng(3).standard_normal((12, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["z"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["z"], ["y"], name="shuffle", blocksize=2),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *sides])
        for name, sides in (("x", ("H", "W")), ("y", ("tall", "wide")))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "enlarger", ends[:1], ends[1:], [weights]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=10,
    )  # fmt: skip
    path = tmp_path / "enlarger.onnx"
    save(model, path)
    return Graph(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), "", "", {}, "onnx", upscale=2)

"""The engine tensorrt: what is its own; what it shares with tensorrt_rtx is tested in trt/."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import engines
from engines.engine import Options
from engines.trt.api import TensorRtApi
from export.to_onnx import ExportRequest, export_network
from reference_models import get, model_from_spec


def test_it_has_tensorrt_s_settings_and_is_not_chosen_by_itself_before_it_was_measured():
    engine = engines.get("tensorrt")
    assert isinstance(engine.api, TensorRtApi)
    assert engine.rank == {}
    assert {"hardware", "version_compatible", "graph"} <= {s.name for s in engine.settings}
    assert "target" not in {s.name for s in engine.settings}


def test_without_the_library_a_run_says_in_one_sentence_what_is_missing_and_how_to_get_it():
    engine = engines.get("tensorrt")
    if engine.missing() is None:
        return
    assert engine.missing() == "Python package `tensorrt` is not installed"
    assert "pip install tensorrt" in engine.install


SETTINGS = [
    {}, {"graph": "off"}, {"streams": "4"}, {"l2": "flushed"}, {"host_memory": "pageable"}, {"profile": "dynamic"},
]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
def test_a_device_gives_the_same_in_every_setting_and_tells_its_times(request, name, settings):
    cuda, networks, expected, picture = map(request.getfixturevalue, ("cuda", "networks", "expected", "picture"))
    engine = engines.get(name)
    if reason := engine.missing() or engine.device_missing(cuda):
        pytest.skip(f"{name}: {reason}")
    options = Options(cuda, "fp32", settings=engine.complete_settings(settings))
    with engine.load(networks["frozen"].main, options) as session:
        for size, seed in (((96, 128), 1), ((96, 128), 2), ((80, 72), 3)):
            x = picture(*size, seed)
            session.bind(x)
            for _ in range(3):
                session.prepare()
                session.enqueue()
                session.synchronize()
            wanted = expected("frozen", x)
            assert np.abs(session.read() - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())
            assert all(0 < value < 1000 for value in session.device_ms().values())
            assert set(session.device_ms()) == {"h2d", "compute", "d2h"}
        assert session.memory_bytes()["context"] >= 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
@pytest.mark.parametrize("model", ["espcn_x3", "pixel_dcn:depth=2:width=16"])
def test_a_device_gives_the_same_with_own_kernels(request, model, precision, picture):
    import torch

    from bench.case import spec_from_word

    cuda, cache, engine = request.getfixturevalue("cuda"), request.getfixturevalue("cache"), engines.get("tensorrt")
    if reason := engine.missing() or engine.device_missing(cuda):
        pytest.skip(f"tensorrt: {reason}")
    spec = spec_from_word(model, {})
    network, x = export_network(ExportRequest(spec, None, None), cache), picture(64, 96)[:, : spec.input_planes]
    options = Options(cuda, precision, settings=engine.complete_settings({"plugins": "on"}))
    with engine.load(network.main, options) as session, torch.inference_mode():
        got = session.run({"x": x})["y"]
        wanted = model_from_spec(get(spec.name, dict(spec.chosen)))(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    allowed = {"fp32": 1e-4, "tf32": 2e-2}[precision]
    assert np.abs(got - wanted).max() < allowed * max(1, np.abs(wanted).max())


SHUFFLE_LAST = """
import torch

class Enlarging(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.shuffle = torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.conv(x) + 0.5).clamp(0, 1)
"""


@pytest.fixture
def enlarging(tmp_path, monkeypatch, cache):
    """A network of one's own on pictures whose last layer is a shuffle: what no network of the registry is."""
    from export.picture_graph import picture_network

    (tmp_path / "enlarging_net.py").write_text(SHUFFLE_LAST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = get("enlarging_net:Enlarging")
    yield picture_network(export_network(ExportRequest(spec, None, None), cache), spec, cache, exact=False)
    sys.modules.pop("enlarging_net", None)


def seen_picture():
    return np.random.default_rng(2).integers(0, 256, (24, 40, 3), np.uint8)


@pytest.mark.parametrize("pictures", [False, True])
def test_only_plugins_picture_has_a_plugin_that_gives_uint8(pictures, enlarging):
    import onnx

    from engines.plugins.names import NAMESPACE, Tail
    from engines.plugins.nodes import use_plugins

    model = onnx.load(enlarging.main.onnx_path)
    wanted = Tail("picture" if pictures else "float").name
    assert use_plugins(model, pictures=pictures) == [f"{NAMESPACE}::{wanted}"]
    assert (model.graph.node[-1].op_type == wanted) == pictures


@pytest.mark.gpu
@pytest.mark.parametrize("plugins", ["off", "on", "picture"])
def test_a_device_builds_a_picture_that_a_shuffle_ends(request, plugins, enlarging):
    """`picture`: by the library's documents nobody knows; docs/gpu-verification.md."""
    cuda, engine, host = request.getfixturevalue("cuda"), engines.get("tensorrt"), engines.get("onnxruntime")
    if reason := engine.missing() or engine.device_missing(cuda):
        pytest.skip(f"tensorrt: {reason}")
    settings = engine.complete_settings({"ends": "picture", "plugins": plugins})
    with engine.load(enlarging.main, Options(cuda, "fp32", settings=settings)) as session:
        got = session.run({"picture": seen_picture()})["result"]
    with host.load(enlarging.main, Options(settings=host.complete_settings({"ends": "picture"}))) as session:
        wanted = session.run({"picture": seen_picture()})["result"]
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1

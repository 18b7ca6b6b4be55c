"""The engine tensorrt: what is its own; what it shares with tensorrt_rtx is tested in trt/."""

from __future__ import annotations

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

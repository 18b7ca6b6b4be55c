"""openvino: what a model is compiled with, when it is compiled again, and weights as inputs."""

from __future__ import annotations

import numpy as np
import pytest

from engines.engine import Options
from engines.openvino import ENGINE

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'fullres[openvino]'")


def load(graph, precision="fp32", threads=1, refittable=(), **settings):
    return ENGINE.load(graph, Options("cpu", precision, threads, ENGINE.complete_settings(settings), refittable))


def compiled_with(session, name):
    return session._request.get_compiled_model().get_property(name)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", openvino.Type.f32), ("bf16", openvino.Type.bf16)])
def test_the_precision_is_the_one_asked_for(networks, picture, precision, dtype):
    if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16 instructions")
    with load(networks["image"].main, precision) as session:
        session.bind(picture(8, 9))
        assert compiled_with(session, "INFERENCE_PRECISION_HINT") == dtype


def test_threads_and_one_stream(networks, picture):
    for threads in (1, 2):
        with load(networks["frozen"].main, threads=threads) as session:
            session.bind(picture(8, 9))
            assert compiled_with(session, "INFERENCE_NUM_THREADS") == threads
            assert compiled_with(session, "NUM_STREAMS") == 1
            assert session.contract["threads"] == threads


@pytest.mark.parametrize(
    ("setting", "entry"),
    [
        ({"pinning": "on"}, {"ENABLE_CPU_PINNING": "YES"}),
        ({"pinning": "off"}, {"ENABLE_CPU_PINNING": "NO"}),
        ({"denormals": "zero"}, {"CPU_DENORMALS_OPTIMIZATION": "YES"}),
        ({"denormals": "keep"}, {"CPU_DENORMALS_OPTIMIZATION": "NO"}),
    ],
)
def test_settings_reach_the_plugin(networks, picture, setting, entry):
    with load(networks["frozen"].main, **setting) as session:
        assert entry.items() <= session._config.items()
        session.bind(picture(8, 9))  # and the plugin accepts it


def test_a_model_is_compiled_once_per_shape(networks, picture):
    with load(networks["frozen"].main) as session:
        session.bind(picture(8, 9, 1))
        first = session._request
        session.bind(picture(8, 9, 2))
        assert session._request is first
        session.bind(picture(9, 8))
        assert session._request is not first


def test_refit_keeps_weights_constants_so_that_a_bias_stays_part_of_its_convolution(networks, picture):
    network = networks["thumbnail"]
    names = tuple(name for pair in network.refit_rule for name in pair)
    with load(network.main, refittable=names) as session:
        session.bind(picture(8, 9))
        session.refit({"convs.0.bias": np.ones(24, np.float32)})
        compiled = session._request.get_compiled_model()
        assert [i.get_any_name() for i in compiled.inputs] == ["x"]
        kinds = {op.get_rt_info()["layerType"].astype(str) for op in compiled.get_runtime_model().get_ops()}
        assert "Convolution" in kinds
        assert not {"Eltwise", "Add"} & kinds


def test_one_compiled_model_at_a_time(networks, picture, monkeypatch):
    """Both at once would need the activations' memory twice."""
    with load(networks["frozen"].main, refittable=("last.bias",)) as session:
        session.bind(picture(8, 9))
        core, seen = session._core, []

        class Watched:
            def compile_model(self, *words):
                seen.append(session._request)
                return core.compile_model(*words)

        monkeypatch.setattr(session, "_core", Watched())
        session.refit({"last.bias": np.ones(3, np.float32)})
        assert seen == [None]


def test_refitted_weights_survive_another_shape(networks, picture):
    bias = np.linspace(-1, 1, 3, dtype=np.float32)
    x = picture(16, 20)
    with load(networks["frozen"].main, refittable=("last.bias",)) as session:
        before = session.run({"x": x})["y"]
        session.bind(picture(5, 5))
        session.refit({"last.bias": bias})
        after = session.run({"x": x})["y"]
    moved = (after - before)[0].reshape(3, -1)
    assert np.allclose(moved, moved[:, :1], atol=1e-5)  # a bias of the last layer moves all pixels alike
    assert moved[2, 0] - moved[0, 0] == pytest.approx(2 - _difference_of_last_bias(networks), abs=1e-4)


def _difference_of_last_bias(networks):
    from safetensors.numpy import load_file

    stored = load_file(networks["frozen"].main.state_path)["last.bias"]
    return float(stored[2] - stored[0])


def test_it_never_runs_on_another_device():
    assert set(ENGINE.precisions) == {"cpu"}

"""The CUDA provider's session: what it is opened with; on a GPU, what it computes."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import engines
from engines.engine import Options
from engines.onnxruntime import ENGINE
from engines.thumbnail import load_network

LIBRARY = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"


class Built:
    """An InferenceSession that was asked for; computes nothing."""

    found: list = []  # noqa: RUF012  emptied by the fixture

    def __init__(self, model, options, providers, enable_fallback=1):
        self.options, self.providers, self.fallback = options, providers, enable_fallback
        self.found.append(self)

    def get_providers(self):
        return [*(name for name, _ in self.providers), "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self):
        node = type("Node", (), {"name": "conv", "op_type": "Conv", "domain": ""})
        return [type("Part", (), {"ep_name": self.providers[0][0], "get_nodes": lambda self: [node]})()]


@pytest.fixture
def built(monkeypatch):
    """Every session that is asked for, in order; none is built."""
    Built.found.clear()
    monkeypatch.setattr(ort, "InferenceSession", Built)
    return Built.found


def load(networks, device="cuda:0", precision="fp32", **settings):
    return ENGINE._load(networks["frozen"].main, Options(device, precision, 2, ENGINE.complete_settings(settings)))


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("tf32", "1"), ("fp16", "0")])
def test_tf32_is_used_when_asked_for_alone(networks, built, fake_cuda, precision, tf32):
    load(networks, "cuda:1", precision).close()
    ((name, options),) = built[0].providers
    assert name == "CUDAExecutionProvider"
    assert (options["device_id"], options["use_tf32"]) == ("1", tf32)
    assert fake_cuda.calls[0] == "device 1"


def test_it_runs_on_our_stream_and_records_where_nodes_are(networks, built, fake_cuda):
    session = load(networks, spin="off")
    ((_, options),) = built[0].providers
    assert fake_cuda.live[int(options["user_compute_stream"])][0] == "stream"
    assert int(options["user_compute_stream"]) == session._device.stream
    assert options["has_user_compute_stream"] == "1"
    assert built[0].options.get_session_config_entry("session.record_ep_graph_assignment_info") == "1"
    assert built[0].options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    session.close()


@pytest.mark.parametrize(("capture", "word"), [("off", "0"), ("on", "1")])
def test_capturing_is_the_providers_own(networks, built, fake_cuda, capture, word):
    with load(networks, capture=capture) as session:
        assert built[0].providers[0][1]["enable_cuda_graph"] == word
        assert session.contract["graph_capture"] == (capture == "on")


@pytest.mark.parametrize(
    ("version", "capture", "asynchronous"),
    [("1.24.1", "on", False), ("1.26.0", "on", False), ("1.26.0", "off", True), ("1.27.0", "on", True)],
)
@pytest.mark.usefixtures("built", "fake_cuda")
def test_a_replay_that_waits_is_not_called_asynchronous(networks, monkeypatch, version, capture, asynchronous):
    monkeypatch.setattr(ort, "__version__", version)
    with load(networks, capture=capture) as session:
        assert session.asynchronous == asynchronous
        assert ("every replay" in session.contract["synchronisation"]) != asynchronous


def test_weights_that_change_are_not_captured_and_so_nobody_waits(networks, built, fake_cuda, monkeypatch):
    monkeypatch.setattr(ort, "__version__", "1.26.0")
    names = networks["thumbnail"].refit_rule[0]
    options = Options("cuda:0", "fp32", 1, ENGINE.complete_settings({"capture": "on"}), names)
    with ENGINE._load(networks["thumbnail"].main, options) as session:
        assert session.asynchronous
        assert "every replay" not in session.contract["synchronisation"]


def test_a_session_that_cannot_be_built_is_no_reason_to_build_it_on_the_cpu(networks, built, fake_cuda):
    load(networks).close()
    assert built[0].fallback == 0


def test_a_session_that_fell_back_to_the_cpu_is_refused(networks, built, fake_cuda, monkeypatch):
    """With CUDA's libraries missing, ONNX Runtime builds a CPU session and only logs it."""
    monkeypatch.setattr(Built, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeError, match="did not start CUDAExecutionProvider"):
        load(networks)
    assert fake_cuda.live == {}


def test_a_session_that_is_refused_goes_before_the_stream_that_it_runs_on(networks, built, fake_cuda, monkeypatch):
    streams = []

    class Refused(Built):
        found = types.SimpleNamespace(append=lambda session: None)  # nobody else keeps it

        def get_provider_graph_assignment_info(self):
            node = types.SimpleNamespace(name="conv", op_type="Conv", domain="")
            return [types.SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: [node])]

        def __del__(self):
            streams.append(sum(1 for kind, _ in fake_cuda.live.values() if kind == "stream"))

    monkeypatch.setattr(ort, "InferenceSession", Refused)
    with pytest.raises(RuntimeError, match=r"placed `conv` \(Conv\) to CPUExecutionProvider"):
        load(networks)
    assert streams == [1]
    assert fake_cuda.live == {}


def test_a_real_session_without_cudas_libraries_is_refused(networks, fake_cuda):
    """As it happens here: the provider's library does not load."""
    with pytest.raises(RuntimeError, match="CUDAExecutionProvider"):
        load(networks)


@pytest.mark.parametrize("name", ["enable_cuda_graph", "use_tf32", "has_user_compute_stream"])
def test_an_option_stands_in_the_providers_library(name):
    """The others are too short for the compiler to keep in one piece."""
    if not LIBRARY.is_file():
        pytest.skip("this build of ONNX Runtime has no CUDA provider")
    assert name.encode() in LIBRARY.read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("statistics", "settings"),
    [
        (word, chosen)
        for word in ("image", "frozen", "thumbnail")
        for chosen in ({"capture": "on"}, {"l2": "flushed"}, {"host_memory": "pageable"})
    ],
    ids=str,
)
def test_on_a_gpu_every_setting_gives_the_same_numbers_and_times(cuda, request, statistics, settings):
    networks, expected, picture = map(request.getfixturevalue, ("networks", "expected", "picture"))
    if reason := ENGINE.device_missing(cuda):
        pytest.skip(reason)
    options = Options(cuda, settings=ENGINE.complete_settings(settings))
    with load_network(engines.get("onnxruntime"), networks[statistics], options) as session:
        for x in (picture(64, 96), picture(48, 64), picture(64, 96, 2)):
            wanted = expected(statistics, x)
            assert np.abs(session.run({"x": x})["y"] - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())
        times = session.device_ms()
        assert set(times) >= {"h2d", "compute", "d2h"}
        assert all(ms > 0 for ms in times.values())


@pytest.mark.gpu
@pytest.mark.parametrize("capture", ["off", "on"])
def test_on_a_gpu_enqueuing_returns_before_the_inference_is_done_where_that_is_said(cuda, networks, picture, capture):
    if reason := ENGINE.device_missing(cuda):
        pytest.skip(reason)
    from cuda.bindings import runtime

    options = Options(cuda, settings=ENGINE.complete_settings({"capture": capture}))
    with ENGINE.load(networks["frozen"].main, options) as session:
        session.bind(picture(1080, 1920))
        session.enqueue()
        session.synchronize()
        session.enqueue()
        (state,) = runtime.cudaStreamQuery(session._device.stream)
        assert (state == runtime.cudaError_t.cudaErrorNotReady) == session.asynchronous
        assert ("compute" in session.device_ms()) == session.asynchronous

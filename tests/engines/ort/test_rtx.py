"""The TensorRT-RTX provider's session: registered once, on the right device, with options that the plugin knows."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import engines
from engines.engine import Options
from engines.onnxruntime_rtx import ENGINE
from engines.ort import rtx
from engines.ort.options import RECORD_PLACEMENT, RTX_PACKAGE
from engines.ort.rtx import PROVIDER, RtxSession, device_at, register
from engines.ort.tf32 import OVERRIDE
from engines.thumbnail import load_network

ROOT = Path(__file__).resolve().parents[3]


def ep_device(address, name=PROVIDER):
    metadata = {"pci_bus_id": address} if address else {}
    return types.SimpleNamespace(ep_name=name, device=types.SimpleNamespace(metadata=metadata))


@pytest.fixture
def offered(monkeypatch):
    """What ONNX Runtime offers: a list to fill."""
    found = []
    monkeypatch.setattr(ort, "get_ep_devices", lambda: found)
    return found


def test_the_device_is_the_one_at_cudas_place_on_the_bus(offered):
    right = ep_device("0000:66:00.0")
    offered += [ep_device("0000:66:00.0", "CPUExecutionProvider"), ep_device("0000:0A:00.0"), right]
    assert device_at("0000:66:00.0") is right
    assert device_at("0000:0a:00.0") is offered[1]
    with pytest.raises(RuntimeError, match=r"no device at 0000:01:00.0 .*those that it offers: 0000:0A:00.0, 0000:66"):
        device_at("0000:01:00.0")


def test_the_only_device_needs_no_address(offered, monkeypatch):
    offered.append(ep_device(None))
    monkeypatch.setattr(rtx, "cuda_device_count", lambda: 2)
    with pytest.raises(RuntimeError, match="those that it offers: without address"):
        device_at("0000:01:00.0")
    monkeypatch.setattr(rtx, "cuda_device_count", lambda: 1)
    assert device_at("0000:01:00.0") is offered[0]
    offered.clear()
    with pytest.raises(RuntimeError, match="those that it offers: none"):
        device_at("0000:01:00.0")


@pytest.fixture
def plugin(monkeypatch, fake_cuda, offered, cache):
    """The plugin, its device `cuda:0` and sessions of ONNX Runtime's CPU provider in its place: what was asked for."""
    asked = types.SimpleNamespace(registered=[], devices=[], options=[], tf32=[], sides=[], fallback=[])
    package = types.ModuleType(RTX_PACKAGE)
    package.get_ep_name, package.get_library_path = (lambda: PROVIDER), (lambda: "/some/library.so")
    monkeypatch.setitem(sys.modules, RTX_PACKAGE, package)
    monkeypatch.setattr(
        ort, "register_execution_provider_library", lambda *words: asked.registered.append(words), raising=True
    )
    offered.append(ep_device("0000:65:00.0"))
    real = ort.InferenceSession

    class SessionOptions(ort.SessionOptions):
        def add_provider_for_devices(self, devices, options):
            asked.devices.append(devices)
            asked.options.append(dict(options))

        def add_free_dimension_override_by_name(self, name, size):
            asked.sides.append((name, size))
            super().add_free_dimension_override_by_name(name, size)

    class Session(real):
        def __init__(self, model, options, enable_fallback):
            asked.tf32.append(os.environ.get(OVERRIDE))
            asked.fallback.append(enable_fallback)
            super().__init__(model, options, providers=["CPUExecutionProvider"])

        def run_with_iobinding(self, *words):
            asked.tf32.append(os.environ.get(OVERRIDE))
            super().run_with_iobinding(*words)

    monkeypatch.setattr(ort, "SessionOptions", SessionOptions)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(RtxSession, "provider", "CPUExecutionProvider")
    monkeypatch.setattr(RtxSession, "memory", "cpu")
    register.cache_clear()
    yield asked
    register.cache_clear()


def load(graph, precision="fp32", refittable=(), **settings):
    options = Options("cuda:0", precision, 1, ENGINE.complete_settings(settings), refittable)
    return ENGINE._load(graph, options)


def test_a_session_is_of_the_bound_size_on_our_stream_and_our_device(plugin, offered, networks, expected, picture):
    x, other = picture(12, 20), picture(9, 20)
    with load(networks["frozen"].main) as session:
        assert difference(session.run({"x": x})["y"], expected("frozen", x)) < 1e-4
        assert difference(session.run({"x": other})["y"], expected("frozen", other)) < 1e-4
        stream = str(session._device.stream)
    assert plugin.devices == [[offered[0]]] * 2
    for options in plugin.options:
        assert options["user_compute_stream"] == stream
        assert (options["has_user_compute_stream"], options["enable_cuda_graph"]) == ("1", "0")
    assert [size for _, size in plugin.sides] == [12, 20, 9, 20]
    assert plugin.fallback == [0, 0]


def difference(got, wanted):
    assert got.shape == wanted.shape
    return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


def test_without_its_device_nothing_is_left(plugin, offered, networks, fake_cuda):
    offered.clear()
    with pytest.raises(RuntimeError, match="offers no device"):
        load(networks["frozen"].main)
    assert fake_cuda.live == {}


def test_without_its_library_nothing_is_left(plugin, networks, fake_cuda, monkeypatch):
    def refused(*words):
        raise RuntimeError("no driver")

    monkeypatch.setattr(ort, "register_execution_provider_library", refused)
    with pytest.raises(RuntimeError, match="no driver"):
        load(networks["frozen"].main)
    assert fake_cuda.live == {}


def test_new_weights_after_a_bind_that_failed_wait_for_the_next(plugin, networks, picture, fake_cuda):
    names = networks["thumbnail"].refit_rule[0]
    with load(networks["thumbnail"].main, refittable=names) as session:
        fake_cuda.full = True
        with pytest.raises(MemoryError):
            session.bind(picture(8, 9))
        fake_cuda.full = False
        session.refit({names[1]: np.zeros(24, np.float32)})
        session.bind(picture(8, 9))
    assert [size for _, size in plugin.sides] == [8, 9] * 2


def test_the_plugin_is_registered_once_in_a_process(plugin, networks):
    for _ in range(2):
        load(networks["frozen"].main).close()
    assert plugin.registered == [(PROVIDER, "/some/library.so")]


@pytest.mark.parametrize(("precision", "word"), [("fp32", "0"), ("fp16", "0"), ("int8", "0"), ("tf32", None)])
def test_tf32_is_decided_while_a_session_is_opened_and_first_run(plugin, networks, picture, precision, word):
    names = networks["thumbnail"].refit_rule[0]
    with load(networks["thumbnail"].main, precision, names) as session:
        session.bind(picture(8, 9))
        assert plugin.tf32 == [word, word]
        session.refit({names[1]: np.zeros(24, np.float32)})
        assert plugin.tf32 == [word] * 4
        session.enqueue()
    assert os.environ.get(OVERRIDE) == plugin.tf32[-1]


def test_compiled_kernels_are_kept_for_each_graph_precision_and_size(plugin, networks, picture):
    folders = []
    for statistics, precision, height in (
        ("frozen", "fp32", 8),
        ("frozen", "fp32", 8),
        ("frozen", "fp16", 8),
        ("frozen", "fp32", 9),
        ("image", "fp32", 8),
    ):
        with load(networks[statistics].main, precision) as session:
            session.bind(picture(height, 10))
        folders.append(plugin.options[-1]["nv_runtime_cache_path"])
    assert folders[0] == folders[1]
    assert len(set(folders)) == 4
    assert all(Path(folder).is_dir() for folder in folders)
    with load(networks["frozen"].main, kernels="new") as session:
        session.bind(picture(8, 10))
    assert "nv_runtime_cache_path" not in plugin.options[-1]


def test_capturing_is_the_providers_own(plugin, networks, picture):
    with load(networks["frozen"].main, capture="on") as session:
        session.bind(picture(8, 10))
        assert session.contract["graph_capture"] is True
    assert plugin.options[-1]["enable_cuda_graph"] == "1"


def test_a_node_that_the_plugin_did_not_take_is_named(plugin, networks, picture, monkeypatch):
    monkeypatch.setattr(RtxSession, "provider", PROVIDER)
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda self: [PROVIDER, "CPUExecutionProvider"])
    wanted = rf"\(Conv\) to CPUExecutionProvider.* not to {PROVIDER}"
    with load(networks["frozen"].main) as session, pytest.raises(RuntimeError, match=wanted):
        session.bind(picture(8, 10))


# With the plugin itself

STUBS = """
#define STUB(name) __attribute__((visibility("default"))) int name(void) { return 100; }
STUB(cuInit) STUB(cuCtxCreate_v4) STUB(cuCtxDestroy_v2) STUB(cuCtxGetCurrent) STUB(cuCtxSetCurrent)
STUB(cuCtxPopCurrent_v2) STUB(cuCtxPushCurrent_v2) STUB(cuStreamGetCtx) STUB(cuGetErrorString)
STUB(cuDestroyExternalMemory) STUB(cuDestroyExternalSemaphore) STUB(cuExternalMemoryGetMappedBuffer)
STUB(cuImportExternalMemory) STUB(cuImportExternalSemaphore) STUB(cuSignalExternalSemaphoresAsync)
STUB(cuWaitExternalSemaphoresAsync) STUB(nvmlInit_v2) STUB(nvmlShutdown) STUB(nvmlSystemGetDriverVersion)
__attribute__((visibility("default"))) const char *nvmlErrorString(int error) { return "stub"; }
"""
PROBE = """
import onnxruntime as ort
from engines.ort.rtx import device_at, register
register(); register()
try:
    device_at("0000:65:00.0")
except RuntimeError as error:
    print(error)
"""


@pytest.fixture
def folder():
    found = importlib.util.find_spec(RTX_PACKAGE)  # imports nothing
    if found is None:
        pytest.skip(f"Python package {RTX_PACKAGE} is not installed")
    return Path(found.origin).parent


def test_the_plugin_registers_and_offers_nothing_without_a_gpu(folder, tmp_path):
    """Its library links the driver's, so stubs stand in for those: as far as it goes on a machine without one."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    (tmp_path / "stubs.c").write_text(STUBS)
    for library in ("libcuda.so.1", "libnvidia-ml.so.1"):
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(tmp_path / library)]
        subprocess.run([*command, str(tmp_path / "stubs.c")], check=True)
    places = os.pathsep.join([str(ROOT), str(folder.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{tmp_path}:{folder}", "PYTHONPATH": places}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBE], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "offers no device at 0000:65:00.0 of the PCI bus; those that it offers: none" in done.stdout


def test_the_plugin_knows_our_options_and_its_own_name(folder, plugin, networks, picture):
    with load(networks["frozen"].main) as session:
        session.bind(picture(8, 10))
    header = (folder / "tensorrt_rtx_provider_options.h").read_text()
    assert all(f'"{name}"' in header for name in plugin.options[0])
    assert "tf32" not in header.lower()  # else it has an option now, and needs no environment variable
    assert f'"{PROVIDER}"' in (folder / "__init__.py").read_text()


def test_what_we_call_of_onnx_runtime_is_there():
    device = ort.get_ep_devices()[0]
    assert (device.ep_name, dict(device.device.metadata)) == ("CPUExecutionProvider", {})
    options = ort.SessionOptions()
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    with contextlib.suppress(Exception):  # the CPU's takes none; the call's form is what is tried
        options.add_provider_for_devices([device], {})
    with pytest.raises(TypeError):
        options.add_provider_for_devices([device], [])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("statistics", "settings"),
    [
        (word, chosen)
        for word in ("image", "frozen", "thumbnail")
        for chosen in ({"capture": "on"}, {"kernels": "new"}, {"host_memory": "pageable"})
    ],
    ids=str,
)
def test_on_a_gpu_every_setting_gives_the_same_numbers_and_times(cuda, request, statistics, settings):
    networks, expected, picture = map(request.getfixturevalue, ("networks", "expected", "picture"))
    if reason := ENGINE.missing() or ENGINE.device_missing(cuda):
        pytest.skip(reason)
    options = Options(cuda, settings=ENGINE.complete_settings(settings))
    with load_network(engines.get("onnxruntime_rtx"), networks[statistics], options) as session:
        for x in (picture(64, 96), picture(48, 64), picture(64, 96, 2)):
            wanted = expected(statistics, x)
            assert np.abs(session.run({"x": x})["y"] - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())
        assert all(ms > 0 for ms in session.device_ms().values())

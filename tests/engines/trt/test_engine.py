"""What both engines say where something is missing; no test here needs their libraries."""

from __future__ import annotations

import pytest

import engines
from engines.trt import engine as engine_file
from engines.trt.engine import settings_of
from reference_models.errors import UserError

BOTH = pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])


@pytest.fixture
def installed(monkeypatch):
    """As if both libraries and cuda-python were installed, with this many devices of this capability."""

    def pretend(devices, capability=(8, 9), cuda_python=True):
        for name in ("tensorrt", "tensorrt_rtx"):
            monkeypatch.setattr(type(engines.get(name).api), "missing", lambda self: None)
        monkeypatch.setattr(engine_file, "cuda_device_count", lambda: devices)
        monkeypatch.setattr("engines.installed.cuda_device_count", lambda: devices)
        found = None if cuda_python else "Python package `cuda-python` is not installed"
        monkeypatch.setattr(engine_file, "package_missing", lambda module, names: found)
        monkeypatch.setattr("engines.trt.device.capability", lambda index: capability)

    return pretend


@BOTH
def test_they_run_on_cuda_only(name, installed):
    installed(0)
    engine = engines.get(name)
    assert engine.precision_missing("cpu", "fp32") == "does not run on cpu"
    assert engine.device_missing("cpu") == "it runs on an NVIDIA GPU only, and the driver shows 0 CUDA devices here"
    assert "the driver shows 0 CUDA devices" in engine.device_missing("cuda:0")


def test_only_tensorrt_needs_a_device_to_build(installed):
    installed(0)
    assert "times kernels on the GPU" in engines.get("tensorrt").build_missing()
    assert engines.get("tensorrt_rtx").build_missing() is None
    installed(1)
    assert engines.get("tensorrt").build_missing() is None


@BOTH
def test_running_needs_cuda_python(name, installed):
    installed(1, cuda_python=False)
    assert engines.get(name).device_missing("cuda:0") == "Python package `cuda-python` is not installed"


def test_a_device_that_rtx_does_not_support_is_said_so_and_tensorrt_takes_it(installed):
    installed(1, capability=(9, 0))
    assert "8.9, 12.0, 12.1; this one has 9.0" in engines.get("tensorrt_rtx").device_missing("cuda:0")
    assert engines.get("tensorrt").device_missing("cuda:0") is None


@BOTH
def test_without_a_device_a_session_is_refused_before_the_library_is_touched(name, installed):
    installed(0)
    from engines.engine import Options
    from export.network import Graph

    with pytest.raises(UserError, match="CUDA devices") as error:
        engines.get(name).load(Graph("", "", "", "", {}, "published"), Options("cuda:0"))
    assert error.value.todo == engines.get(name).install


@BOTH
def test_every_setting_has_a_default_among_its_choices_and_one_name_once(name):
    settings = settings_of(engines.get(name).api)
    assert len({s.name for s in settings}) == len(settings)
    assert all(s.default in s.choices and s.doc for s in settings)
    assert engines.get(name).settings == settings

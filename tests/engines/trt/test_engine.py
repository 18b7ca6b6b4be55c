"""What both engines say where something is missing; no test here needs their libraries."""

from __future__ import annotations

import contextlib

import pytest

import engines
from engines.engine import LayerTime, Options
from engines.trt import engine as engine_file
from engines.trt.engine import settings_of
from engines.trt.session import GivenPlan
from export.network import Graph
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
        monkeypatch.setattr("engines.installed.package_missing", lambda module, names: found)
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
    with pytest.raises(UserError, match="CUDA devices") as error:
        engines.get(name).load(Graph("", "", "", "", {}, "published"), Options("cuda:0"))
    assert "where there is such a one" in error.value.todo  # and no command that installs what is installed


@BOTH
def test_every_setting_has_a_default_among_its_choices_and_one_name_once(name):
    settings = settings_of(engines.get(name).api)
    assert len({s.name for s in settings}) == len(settings)
    assert all(s.default in s.choices and s.doc for s in settings)
    assert engines.get(name).settings == settings


def test_times_of_layers_come_from_a_plan_that_can_name_them_one_inference_at_a_time(fake_api, monkeypatch):
    """Medians of the passes behind the warm-up."""
    engine, passes, asked = engines.get("tensorrt"), iter([9.0, 9.0, 1.0, 3.0, 2.0]), []

    class Session(contextlib.AbstractContextManager):
        def __exit__(self, *_):
            asked.append("closed")

        def bind(self, x):
            asked.append(x)

        def layer_times(self):
            return [LayerTime("conv", "CaskConvolution, Half", next(passes))]

    monkeypatch.setattr(engine, "load", lambda graph, options: asked.append(options.settings) or Session())
    options = Options("cuda:0", "fp16", 1, {"graph": "on", "streams": "4", "level": "5"})
    assert engine.layer_times(None, options, "x", 3) == [LayerTime("conv", "CaskConvolution, Half", 2.0)]
    assert asked[1:] == ["x", "closed"]
    told = {name: asked[0][name] for name in ("graph", "streams", "l2", "layer_names", "level")}
    assert told == {"graph": "off", "streams": "1", "l2": "warm", "layer_names": "detailed", "level": "5"}
    assert (engine.tells_layer_times, engines.get("onnxruntime").tells_layer_times[:1]) == (("cuda",), ("cpu",))


def test_the_lean_runtime_takes_no_new_weights(installed, monkeypatch):
    installed(1)
    engine = engines.get("tensorrt")
    monkeypatch.setattr(type(engine.api), "runtime_missing", lambda self, settings: None)
    options = Options("cuda:0", "fp32", 1, {"runtime": "lean", "version_compatible": "on"}, refittable=("w",))
    with pytest.raises(UserError, match=r"`thumbnail` with runtime=lean"):
        engine.load(Graph("", "", "", "", {}, "published"), options)


def test_a_plan_runs_on_the_lean_runtime_where_that_is_all_there_is(installed, monkeypatch):
    installed(1)
    engine, made = engines.get("tensorrt"), []
    api = type(engine.api)
    monkeypatch.setattr(api, "missing", lambda self: "Python package `tensorrt` is not installed")
    monkeypatch.setattr("engines.trt.session.TrtSession", lambda api, graph, options, given: made.append(options))
    graph, given = Graph("", "", "", "", {}, "published"), GivenPlan("net.plan", "ab", ())
    for compatible in ("excluded", "off"):
        options = Options("cuda:0", "fp32", 1, {"version_compatible": compatible})
        monkeypatch.setattr(api, "runtime_missing", lambda self, s: None if s["runtime"] == "lean" else self.missing())
        if compatible == "off":
            with pytest.raises(UserError, match="`tensorrt` is not installed"):
                engine.load_plan(graph, options, given)
        else:
            engine.load_plan(graph, options, given)
    assert [options.settings["runtime"] for options in made] == ["lean"]

"""The engine onnxruntime_rtx: where it says it can run, and what it asks for; its session is tested in ort/."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from engines import installed, onnxruntime_rtx
from engines.onnxruntime_rtx import ENGINE
from engines.ort.options import DEVICE, RTX_PACKAGE
from engines.ort.tf32 import OVERRIDE
from engines.trt import device
from export.recipe import Recipe


@pytest.fixture
def capability(monkeypatch):
    """`capability(8, 9)`: what the only device has."""
    monkeypatch.setattr(installed, "cuda_device_count", lambda: 1)
    return lambda major, minor: monkeypatch.setattr(device, "capability", lambda index: (major, minor))


@pytest.mark.parametrize("found", [(8, 6), (8, 9), (12, 0), (12, 1), (13, 0)])
def test_it_runs_on_the_devices_that_the_plugin_takes(capability, found):
    capability(*found)
    assert ENGINE.device_missing("cuda:0") is None


@pytest.mark.parametrize("found", [(7, 5), (8, 0), (8, 7), (9, 0), (10, 0), (11, 0)])
def test_it_says_on_which_devices_it_does_not_run(capability, found):
    capability(*found)
    assert f"this one has {found[0]}.{found[1]}" in ENGINE.device_missing("cuda:0")


def test_it_needs_a_gpu_a_driver_that_answers_and_cuda_python(capability, monkeypatch):
    capability(8, 9)
    assert "runs on an NVIDIA GPU only" in ENGINE.device_missing("cpu")
    assert "does not exist" in ENGINE.device_missing("cuda:1")

    def refuse(index):
        raise RuntimeError("CUDA: cudaErrorInsufficientDriver")

    monkeypatch.setattr(device, "capability", refuse)
    assert ENGINE.device_missing("cuda:0") == "the NVIDIA driver does not answer (CUDA: cudaErrorInsufficientDriver)"
    monkeypatch.setattr(onnxruntime_rtx, "placement_missing", lambda: "too old")
    capability(8, 9)
    assert ENGINE.device_missing("cuda:0") == "too old"
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda m, *a: None if m == "cuda" else find(m, *a))
    assert ENGINE.device_missing("cuda:0") == "Python package `cuda-python` is not installed"


def test_it_is_missing_without_the_plugin_and_says_which_package_brings_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda m, *a: None if m == RTX_PACKAGE else find(m, *a))
    assert ENGINE.missing() == "Python package `onnxruntime-ep-nv-tensorrt-rtx-cu13` is not installed"
    assert "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13" in ENGINE.install


def test_asking_whether_it_is_there_does_not_load_nvidias_libraries():
    ENGINE.missing()
    ENGINE.version()
    assert RTX_PACKAGE not in sys.modules


def test_types_stand_in_the_graph_as_tensorrt_wants_them():
    assert [ENGINE.recipe("cuda:0", word) for word in ("fp32", "tf32")] == [None, None]
    assert [ENGINE.recipe("cuda:0", word) for word in ("bf16", "fp16", "int8")] == [
        Recipe("bf16"), Recipe("fp16"), Recipe("int8")
    ]  # fmt: skip


def test_tf32_that_the_user_forbids_is_not_measured(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    assert ENGINE.precision_missing("cuda:0", "tf32") is None
    monkeypatch.setenv(OVERRIDE, "0")
    assert "forbids TF32" in ENGINE.precision_missing("cuda:0", "tf32")
    assert ENGINE.precision_missing("cuda:0", "fp32") is None
    assert "no fp8 on cuda" in ENGINE.precision_missing("cuda:0", "fp8")


def test_it_has_the_settings_of_a_device_and_is_never_chosen_by_itself():
    assert set(DEVICE) <= set(ENGINE.settings)
    assert ENGINE.rank == {}

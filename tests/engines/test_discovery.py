"""engines finds its back ends, names what it does not find, and imports no vendor library for that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import engines
import engines.null
from reference_models.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
VENDORS = ["torch", "onnxruntime", "openvino", "onnx", "tensorrt", "tensorrt_rtx", "safetensors"]


@pytest.fixture
def registry():
    """Found anew in the test and again after it."""
    engines._registry.cache_clear()
    yield
    engines._registry.cache_clear()


def test_every_file_with_an_engine_is_one_of_its_name():
    files = {p.stem for p in (ROOT / "engines").glob("*.py") if "\nENGINE = " in p.read_text()}
    assert set(engines.names()) == files
    assert {"null", "onnxruntime", "openvino", "torch_compile", "torch_eager"} <= files
    for name in engines.names():
        assert engines.get(name).name == name


def test_an_unknown_engine_is_answered_with_the_nearest():
    with pytest.raises(
        UserError, match=r"`--engine onnx_runtime`: not a known engine.*Did you mean onnxruntime\?"
    ) as e:
        engines.get("onnx_runtime")
    assert all(name in e.value.expected for name in engines.names())
    with pytest.raises(UserError, match="`bench engines` says which are usable here"):
        engines.get("qqq")


def test_an_engine_that_is_not_called_like_its_file_is_refused(registry, monkeypatch):
    class Other(engines.null.NullEngine):
        name = "other"

    monkeypatch.setattr(engines.null, "ENGINE", Other())
    with pytest.raises(ValueError, match=r"engines/null\.py calls its engine 'other'"):
        engines.names()


def test_the_fastest_engine_is_the_first_usable_one(monkeypatch):
    for name in engines.names():
        monkeypatch.setattr(type(engines.get(name)), "missing", lambda self: None)
    assert engines.fastest("cpu") == "onnxruntime"
    ranks = [engines.get(name).rank["cpu"] for name in engines.names() if "cpu" in engines.get(name).rank]
    assert len(ranks) == len(set(ranks))
    monkeypatch.setattr(type(engines.get("onnxruntime")), "missing", lambda self: "not installed")
    assert engines.fastest("cpu") == "openvino"
    monkeypatch.setattr(type(engines.get("openvino")), "device_missing", lambda self, device: "no such device")
    assert engines.fastest("cpu") == "torch_compile"


def test_the_null_engine_is_never_chosen_by_itself(monkeypatch):
    for name in set(engines.names()) - {"null", "torch_eager"}:
        monkeypatch.setattr(type(engines.get(name)), "missing", lambda self: "not installed")
    assert engines.fastest("cpu") == "torch_eager"
    assert not engines.get("null").rank


def test_listing_engines_imports_no_vendor_library():
    code = (
        "import sys, engines\n"
        "for e in map(engines.get, engines.names()):\n"
        "    e.missing(), e.version(), e.device_missing('cpu'), e.environment(e.complete_settings({}))\n"
        f"sys.exit(', '.join(set({VENDORS}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_gpu_that_no_engine_can_use_is_not_chosen(monkeypatch):
    """A driver with CPU-only wheels: `auto` means the CPU, and asking for the GPU says why not."""
    from bench import case

    monkeypatch.setattr(case, "cuda_device_count", lambda: 1)
    for name in engines.names():
        refuse = lambda self, device: None if device == "cpu" else "this build has no CUDA"  # noqa: E731
        monkeypatch.setattr(type(engines.get(name)), "device_missing", refuse)
    assert engines.usable_on("cuda:0") == []
    assert case.resolve_device("auto") == "cpu"
    with pytest.raises(UserError, match=r"no engine for fp32 on cuda:0 .*this build has no CUDA"):
        engines.fastest("cuda:0")


def test_the_fastest_engine_has_the_precision(monkeypatch):
    for name in engines.names():
        monkeypatch.setattr(type(engines.get(name)), "missing", lambda self: None)
    monkeypatch.setattr(type(engines.get("openvino")), "precision_missing", lambda self, device, precision: None)
    assert engines.fastest("cpu", "bf16") == "openvino"

"""The worker's job of `bench build`, without a worker."""

from __future__ import annotations

import pytest

import engines
from bench.building import check_can_build, copy_whole, job_build
from export.network import Network
from reference_models import get
from reference_models.errors import UserError


def test_engines_without_plans_are_refused_with_those_that_have_some():
    for name in ("torch_eager", "torch_compile", "null"):
        with pytest.raises(UserError, match="no plans that can be deployed") as error:
            check_can_build(name)
        assert "onnxruntime, openvino" in error.value.expected


def test_an_engine_whose_library_is_missing_says_how_to_get_it(monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setattr(type(engines.get(name).api), "missing", lambda self: "it is not installed")
        with pytest.raises(UserError, match="it is not installed") as error:
            check_can_build(name)
        assert "pip install tensorrt" in error.value.todo


def test_engines_that_read_onnx_deploy_the_network_s_own_file(networks):
    network = networks["image"]
    job = {"engine": "onnxruntime", "network": network.to_json(), "settings": {}, "spec": ""}
    built = job_build(job, lambda *_, **__: None)
    assert built["path"] == network.main.onnx_path
    assert built["versions"]["engine"] == engines.get("onnxruntime").version()
    assert {"fullres", "torch", "onnx", "python"} <= set(built["versions"])


def test_rtx_builds_and_tells_its_progress(networks, cache):
    engine = engines.get("tensorrt_rtx")
    if reason := engine.missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    events = []
    job = {
        "engine": "tensorrt_rtx", "precision": "tf32", "settings": {}, "network": networks["frozen"].to_json(),
        "size_multiple": 1, "profiles": [[[32, 48], [32, 48], [64, 96]]], "spec": get("can24").to_json(),
    }  # fmt: skip
    built = job_build(job, lambda event, **fields: events.append((event, fields)))
    assert built["facts"]["cached"] is False
    assert built["facts"]["device"] is None
    assert 0 < built["facts"]["seconds"] < 60
    assert all(event == "progress" and 0 <= fields["share"] <= 1 for event, fields in events)
    assert job_build(job, lambda *_, **__: None)["facts"]["cached"] is True
    built = job_build({**job, "settings": {"ends": "picture"}}, lambda *_, **__: None)
    assert built["facts"]["inputs"] == [{"name": "picture", "dtype": "uint8", "shape": [-1, -1, 3]}]
    assert built["facts"]["outputs"] == [{"name": "result", "dtype": "uint8", "shape": [-1, -1, 3]}]
    assert Network.from_json(built["network"]).main.takes_pictures


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    source = tmp_path / "a"
    source.write_bytes(b"x")
    with pytest.raises(UserError, match="a writable file"):
        copy_whole(source, tmp_path / "absent" / "b")
    copy_whole(source, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x"

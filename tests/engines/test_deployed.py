"""A plan and its sidecar are enough: what they give is what torch makes of the same picture."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import engines
import reference_models
from engines.deployed import load
from engines.sidecar import Deployment, sidecar, sidecar_path
from export.network import INPUT, OUTPUT, Graph, Network, file_sha256
from reference_models.errors import UserError


def deploy(folder, onnx_path, engine, model="can24", sizes=()):
    """A plan with its sidecar in a folder of its own, as `bench build` writes them."""
    plan = folder / "net.onnx"
    shutil.copy(onnx_path, plan)
    spec = reference_models.get(model)
    graph = Graph(str(plan), file_sha256(plan), "", "", {}, "published")
    found = engines.get(engine)
    settings = found.complete_settings({})
    deployed = Deployment(spec, None, engine, found.version(), "fp32", settings, sizes, {}, {})
    sidecar_path(plan).write_text(json.dumps(sidecar(plan, Network(model, None, graph, None, (), 20), deployed)))
    return plan


@pytest.fixture
def frozen(networks, tmp_path):
    return deploy(tmp_path, networks["frozen"].main.onnx_path, "onnxruntime")


def test_a_picture_comes_out_as_torch_makes_it(frozen, expected, picture):
    x = picture(21, 34)
    seen = np.floor(x[0, ::-1].transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)  # the network takes BGR
    x = np.ascontiguousarray(seen[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255)
    wanted = expected("frozen", x)
    with load(frozen) as session:
        assert np.abs(session.run({INPUT: x})[OUTPUT] - wanted).max() < 1e-4
        y = session(seen)
    truncated = np.floor(255 * wanted.clip(0, 1))[0].transpose(1, 2, 0)[:, :, ::-1]
    assert (y.dtype, y.shape) == (np.uint8, (21, 34, 3))
    off = np.abs(y.astype(int) - truncated)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01
    assert session.sidecar["engine"]["name"] == "onnxruntime"


def test_a_plan_that_was_changed_is_refused(frozen):
    frozen.write_bytes(frozen.read_bytes() + b"x")
    with pytest.raises(UserError, match="a plan and a sidecar of one build"):
        load(frozen)


def test_an_engine_that_is_not_there_says_how_to_get_it(networks, tmp_path, monkeypatch):
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, "tensorrt_rtx")
    monkeypatch.setattr(type(engines.get("tensorrt_rtx").api), "missing", lambda self: "it is not installed")
    with pytest.raises(UserError, match="it is not installed") as error:
        load(plan)
    assert error.value.todo == engines.get("tensorrt_rtx").install


def test_a_tensorrt_plan_is_run_in_its_own_profiles(networks, tmp_path, monkeypatch):
    sizes = [{"resolution": "a", "least": [4, 6], "tuned": [5, 6], "most": [8, 9]}]
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, "tensorrt", sizes=sizes)
    asked = []
    monkeypatch.setattr(type(engines.get("tensorrt")), "load_plan", lambda self, *words: asked.append(words))
    load(plan)
    graph, options, given = asked[0]
    assert (options.device, options.precision, graph.planes) == ("cuda:0", "fp32", 3)
    assert (given.path, given.sha256) == (plan, file_sha256(plan))
    assert [(p.least, p.tuned, p.most) for p in given.profiles] == [((4, 6), (5, 6), (8, 9))]

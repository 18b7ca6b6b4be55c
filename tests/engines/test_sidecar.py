"""The sidecar of a plan: what stands in it, and what is refused."""

from __future__ import annotations

import hashlib
import json

import pytest

import reference_models
from engines.sidecar import Deployment, read_sidecar, sidecar, sidecar_path
from export.network import Graph, Network
from reference_models.errors import UserError


def content(tmp_path, model="can24", weights=None, lowering=None, **facts):
    plan = tmp_path / "net.plan"
    plan.write_bytes(b"a plan")
    graph = Graph("/cache/main.onnx", "ab" * 32, "", "", {}, "published")
    spec = reference_models.get(model)
    network = Network(spec.title, "image" if spec.statistics else None, graph, None, (), 20, lowering=lowering)
    sizes = [{"resolution": "1080p", "least": [1080, 1920], "tuned": [1080, 1920], "most": [1080, 1920]}]
    deployed = Deployment(
        spec, weights, "tensorrt_rtx", "rtx 1", "fp32", {"level": "3"}, sizes, {"torch": "2"}, {"layers": 7, **facts}
    )
    told = sidecar(plan, network, deployed)
    sidecar_path(plan).write_text(json.dumps(told))
    return plan, told


def test_it_lies_beside_the_plan(tmp_path):
    assert sidecar_path(tmp_path / "a.plan") == tmp_path / "a.plan.json"


def test_it_says_how_a_picture_becomes_the_input_and_the_output_a_picture(tmp_path):
    _, told = content(tmp_path, "can24")
    assert told["inputs"] == [
        {
            "name": "x", "dtype": "float32", "shape": [1, 3, -1, -1], "layout": "NCHW", "range": [0.0, 1.0],
            "colour": "bgr",
        }
    ]  # fmt: skip
    assert told["picture"]["uint8"] == "floor(255 y)"  # as the published code writes its pictures
    assert told["picture"]["padding"] is None
    assert told["model"]["statistics"] == "image"
    _, told = content(tmp_path, "espcn_x3")
    assert (told["picture"]["upscale"], told["inputs"][0]["colour"], told["inputs"][0]["shape"][1]) == (3, "luma", 1)


def test_what_the_builder_says_of_inputs_and_outputs_stands_before_the_declaration(tmp_path):
    ends = [{"name": "x", "dtype": "float16", "shape": [1, 3, 64, 64]}]
    _, told = content(tmp_path, inputs=ends, plugins=["fullres::FullresPixelShuffle"], warnings=["careful"])
    assert (told["inputs"][0]["dtype"], told["inputs"][0]["shape"]) == ("float16", [1, 3, 64, 64])
    assert told["outputs"][0]["dtype"] == "float32"
    assert told["plugins"] == ["fullres::FullresPixelShuffle"]
    assert told["build"] == {"layers": 7, "warnings": ["careful"]}


def test_hashes_are_of_the_files(tmp_path):
    weights = tmp_path / "trained.safetensors"
    weights.write_bytes(b"weights")
    _, told = content(tmp_path, weights=str(weights))
    assert told["plan"] == {"file": "net.plan", "sha256": hashlib.sha256(b"a plan").hexdigest(), "bytes": 6}
    assert told["model"]["weights"] == "trained.safetensors"
    assert told["model"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert told["model"]["trained"] is True
    assert content(tmp_path)[1]["model"]["trained"] is False
    assert str(tmp_path) not in json.dumps(told)  # it is copied to other machines


def test_the_declaration_can_be_read_back_from_it(tmp_path):
    from reference_models.spec import ModelSpec

    _, told = content(tmp_path, "vdsr")
    assert ModelSpec.from_json(json.dumps(told["model"]["spec"])) == reference_models.get("vdsr")


def test_it_is_read_back(tmp_path):
    plan, told = content(tmp_path)
    assert read_sidecar(plan) == told


def test_one_that_is_missing_foreign_or_of_another_plan_is_refused(tmp_path):
    plan, told = content(tmp_path)
    with pytest.raises(UserError, match=r"absent\.plan: no such file"):
        read_sidecar(tmp_path / "absent.plan")
    plan.write_bytes(b"another plan")
    with pytest.raises(UserError, match="a plan and a sidecar of one build"):
        read_sidecar(plan)
    for text in ("{", "[]", '{"schema": 1}', "null"):
        sidecar_path(plan).write_text(text)
        with pytest.raises(UserError, match="not a sidecar"):
            read_sidecar(plan)
    sidecar_path(plan).write_text(json.dumps({**told, "schema": 99}))
    with pytest.raises(UserError, match="schema 99"):
        read_sidecar(plan)
    sidecar_path(plan).unlink()
    with pytest.raises(UserError, match="No such file"):
        read_sidecar(plan)


def test_it_says_how_the_graph_came_to_its_precision(tmp_path):
    assert content(tmp_path)[1]["lowering"] is None
    plan, _ = content(tmp_path, lowering={"layers": {"last": "int8"}})
    assert read_sidecar(plan)["lowering"] == {"layers": {"last": "int8"}}

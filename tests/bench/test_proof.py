"""Whether an engine's own words are held against what was asked, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import onnx
import pytest

import engines
from bench.proof import prove_types
from engines.engine import Options
from engines.null import ENGINE
from export.network import Graph, Network

ASKED = {"first": "int8", "middle": "fp32", "last": "int8"}
NODES = {"first": "Conv_0", "middle": "Conv_1", "last": "Conv_2"}


def network(lowering: Any) -> Network:
    return Network("net", None, Graph("net.onnx", "", "", "", {}, "onnx"), None, (), 20, lowering=lowering)


def proved(monkeypatch: pytest.MonkeyPatch, said: Any, lowering: Any) -> Any:
    monkeypatch.setattr(type(ENGINE), "layer_types", lambda self, graph, options: said)
    return prove_types(ENGINE, network(lowering), Options())


def lowering(**layers: str) -> dict[str, Any]:
    return {"layers": layers or ASKED, "nodes": NODES}


def test_nothing_is_asked_of_fp32_nor_of_an_engine_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proved(monkeypatch, {"Conv_0": "fp32"}, None) is None
    assert proved(monkeypatch, None, lowering()) is None


@pytest.mark.parametrize("suffix", ["", "_token_12", "/WithoutBiases", "/fq_weights_1", "_token_1/WithoutBiases"])
def test_every_layer_has_the_type_that_the_engine_says(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {f"Conv_0{suffix}": "int8", "Conv_1": "bf16", "Conv_2": "int8", "Conv_9": "fp32"}
    assert proved(monkeypatch, said, lowering()) == {"first": "int8", "middle": "bf16", "last": "int8"}


def test_layers_that_silently_stayed_in_float_are_named_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"Conv_0": "fp32", "Conv_1": "fp32", "Conv_2": "fp16"}
    with pytest.raises(RuntimeError, match=r"^null did not quantise 2 of .*: first \(fp32\), last \(fp16\)$"):
        proved(monkeypatch, said, lowering())


def test_a_layer_of_which_nothing_is_told_is_no_layer_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    found = proved(monkeypatch, {"Conv_0": "int8", "Conv_1": "fp32"}, lowering())
    assert found == {"first": "int8", "middle": "fp32", "last": "not told"}


def test_where_nothing_is_told_of_any_nothing_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"^null tells the type of none of the layers"):
        proved(monkeypatch, {"Conv_1": "fp32", "merged": "int8"}, lowering())


def test_int8_is_not_fp8(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"first \(int8\)"):
        proved(monkeypatch, {"Conv_0": "int8"}, lowering(first="fp8"))
    assert proved(monkeypatch, {"Conv_0": "fp8"}, lowering(first="fp8")) == {"first": "fp8"}


def test_a_layer_that_was_to_stay_in_float_may_be_any_float_or_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proved(monkeypatch, {}, lowering(middle="fp32")) == {"middle": "not told"}
    assert proved(monkeypatch, {"Conv_1": "bf16"}, lowering(middle="fp32")) == {"middle": "bf16"}


def test_a_layer_that_was_to_stay_in_float_and_is_quantised_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"Conv_0": "int8", "Conv_1": "int8", "Conv_2": "int8"}
    with pytest.raises(RuntimeError, match=r"^null quantised layers that were to stay in float: middle$"):
        proved(monkeypatch, said, lowering())


def test_a_precision_without_layers_of_its_own_has_nothing_to_prove(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proved(monkeypatch, {"Conv_0": "fp32"}, {"kept_fp32": []}) == {}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_real_engines_are_believed_where_they_quantise_and_caught_where_they_do_not(
    engine: str, networks: Mapping[str, Network]
) -> None:
    """An FP32 network that is said to be int8, and asked of layers by the nodes of its graph."""
    network = networks["image"]
    nodes = [node.name for node in onnx.load(network.main.onnx_path).graph.node if node.op_type == "Conv"]
    names = [f"layer{number}" for number in range(len(nodes))]
    told = {"layers": dict.fromkeys(names, "int8"), "nodes": dict(zip(names, nodes, strict=True))}
    with pytest.raises(RuntimeError) as caught:
        prove_types(engines.get(engine), dataclasses.replace(network, lowering=told), Options())
    assert all(f"{name} (fp32)" in str(caught.value) for name in names)
    told["layers"] = dict.fromkeys(names, "fp32")
    found = prove_types(engines.get(engine), dataclasses.replace(network, lowering=told), Options())
    assert found == dict.fromkeys(names, "fp32")

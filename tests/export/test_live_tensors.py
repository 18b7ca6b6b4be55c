"""Live tensors: counted by hand on graphs small enough for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from export.live_tensors import live_tensors

SHAPE = (1, 3, 10, 20)
PLANE = 10 * 20 * 4


def model(nodes: list[Any], tensors: dict[str, np.ndarray]) -> Any:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in ("x", "y")]
    weights = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def conv(source: str, out: str, weight: str) -> Any:
    return helper.make_node("Conv", [source, weight], [out], pads=[1, 1, 1, 1])


def kernel(planes: int, read: int) -> np.ndarray:
    return np.zeros((planes, read, 3, 3), np.float32)


def test_two_layers_live_at_once_and_an_activation_writes_over_its_input() -> None:
    nodes = [
        conv("x", "a", "w1"),
        helper.make_node("Relu", ["a"], ["b"]),
        conv("b", "c", "w2"),
        conv("c", "y", "w3"),
    ]
    net = model(nodes, {"w1": kernel(8, 3), "w2": kernel(8, 8), "w3": kernel(3, 8)})
    live = live_tensors(net, SHAPE)
    assert live.peak == 16 * PLANE
    assert live.weights == 4 * 9 * (24 + 64 + 24)
    assert live_tensors(net, SHAPE, block=16).peak == 32 * PLANE


def test_a_skip_stays_until_it_is_added() -> None:
    nodes = [
        conv("x", "a", "w1"),
        conv("a", "b", "w2"),
        conv("b", "c", "w2"),
        helper.make_node("Add", ["a", "c"], ["d"]),
        conv("d", "y", "w3"),
    ]
    net = model(nodes, {"w1": kernel(8, 3), "w2": kernel(8, 8), "w3": kernel(3, 8)})
    assert live_tensors(net, SHAPE).peak == 24 * PLANE


def test_what_is_quantised_at_once_is_stored_in_bytes() -> None:
    scale = {"s": np.float32(0.1), "z": np.uint8(0)}
    nodes = [
        conv("x", "a", "w1"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        conv("d", "y", "w3"),
    ]
    net = model(nodes, {"w1": kernel(8, 3), "w3": kernel(3, 8), **{k: np.array(v) for k, v in scale.items()}})
    assert live_tensors(net, SHAPE).peak <= 2 * 8 * PLANE // 4

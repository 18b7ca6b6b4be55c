"""Small graphs with what makes tiling hard; shared by the tests of the reach, of its proof and of tiled sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from export.network import Graph

PLANES = 3


def graph_model(nodes: Sequence[Any], tensors: dict[str, np.ndarray], planes: int = PLANES) -> Any:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, f"h{name}", f"w{name}"])
        for name, count in (("x", PLANES), ("y", planes))
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(list(nodes), "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def kernel(planes: int, read: int, side: int = 3) -> np.ndarray:
    draw = np.random.default_rng(planes * 100 + read * 10 + side)
    return draw.normal(size=(planes, read, side, side)).astype(np.float32) / (side * side)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def conv(source: str, out: str, weight: str, **attributes: Any) -> Any:
    return helper.make_node("Conv", [source, weight], [out], name=out, **{"pads": [1, 1, 1, 1], **attributes})


def dilated() -> Any:
    nodes = [conv("x", "a", "w", pads=[4] * 4, dilations=[4, 4]), helper.make_node("Relu", ["a"], ["b"])]
    return graph_model([*nodes, conv("b", "y", "v")], {"w": kernel(4, 3), "v": kernel(3, 4)})


def uneven() -> Any:
    """Taps that reach further to the left than to the right, and none above."""
    return graph_model([conv("x", "y", "w", pads=[0, 3, 2, 1])], {"w": kernel(3, 3, 5)[:, :, :3]})


def strided() -> Any:
    """Down by two and up again, with a skip."""
    nodes = [
        conv("x", "a", "w"),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("b", "c", "w4", dilations=[2, 2], pads=[2] * 4),
        helper.make_node("ConvTranspose", ["c", "up"], ["d"], kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Concat", ["a", "d"], ["e"], axis=1),
        conv("e", "y", "w8"),
    ]
    return graph_model(nodes, {"w": kernel(4, 3), "w4": kernel(4, 4), "up": kernel(4, 4, 4), "w8": kernel(3, 8)})


def sized_like_the_skip() -> Any:
    """Up-sampled to the size that the Shape of another tensor says, as torch exports it."""
    nodes = [
        conv("x", "a", "w"),
        conv("a", "b", "w4", strides=[2, 2]),
        helper.make_node("Shape", ["a"], ["s"], start=2, end=4),
        helper.make_node("Concat", ["two", "s"], ["sizes"], axis=0),
        helper.make_node("Resize", ["b", "", "", "sizes"], ["c"], mode="linear", name="up"),
        helper.make_node("Add", ["a", "c"], ["d"]),
        conv("d", "y", "v"),
    ]
    return graph_model(nodes, {"w": kernel(4, 3), "w4": kernel(4, 4), "v": kernel(3, 4), "two": ints(1, 4)})


def shuffled() -> Any:
    """PixelShuffle as Reshape, Transpose, Reshape of computed sizes."""
    nodes = [
        conv("x", "a", "w"),
        helper.make_node("Shape", ["x"], ["s"], start=2, end=4),
        helper.make_node("Concat", ["blocks", "s"], ["six"], axis=0),
        helper.make_node("Reshape", ["a", "six"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 1, 4, 2, 5, 3]),
        helper.make_node("Mul", ["s", "twice"], ["large"]),
        helper.make_node("Concat", ["planes", "large"], ["four"], axis=0),
        helper.make_node("Reshape", ["t", "four"], ["z"]),
        conv("z", "y", "v"),
    ]
    fixed = {"blocks": ints(1, 3, 2, 2), "planes": ints(1, 3), "twice": ints(2, 2)}
    return graph_model(nodes, {"w": kernel(12, 3), "v": kernel(3, 3), **fixed})


def channels_last() -> Any:
    """A linear layer and a normalisation over channels that lie last, and a reflected border."""
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"], mode="reflect"),
        conv("p", "a", "w", pads=[0] * 4),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("LayerNormalization", ["b", "scale"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "m"], ["c"]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 3, 1, 2]),
    ]
    tensors = {"w": kernel(4, 3), "m": kernel(4, 3, 1)[:, :, 0, 0], "scale": np.ones(4, np.float32)}
    return graph_model(nodes, {**tensors, "pads": ints(0, 0, 1, 1, 0, 0, 1, 1)})


def with_branch() -> Any:
    """Something of the whole picture, added to what is local."""
    nodes = [
        helper.make_node("Resize", ["x", "", "", "small"], ["r"], mode="linear", name="reduced"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Conv", ["g", "m"], ["h"]),
        conv("x", "a", "w"),
        helper.make_node("Add", ["a", "h"], ["b"]),
        conv("b", "y", "v"),
    ]
    tensors = {"w": kernel(4, 3), "v": kernel(3, 4), "m": kernel(4, 3, 1), "small": ints(1, 3, 8, 8)}
    return graph_model(nodes, tensors)


def quantised() -> Any:
    """Integers between QuantizeLinear and DequantizeLinear, weights included."""

    def steps(source: str, out: str, scale: str, zero: str) -> list[Any]:
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [f"{out}_q"]),
            helper.make_node("DequantizeLinear", [f"{out}_q", scale, zero], [out]),
        ]

    nodes = [
        *steps("x", "a", "s", "z"),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"]),
        conv("a", "b", "w"),
        helper.make_node("Relu", ["b"], ["c"]),
        *steps("c", "d", "s", "z"),
        helper.make_node("DequantizeLinear", ["vq", "ws", "wz"], ["v"]),
        conv("d", "y", "v"),
    ]
    weights = {name: np.round(kernel(*shape) * 200).clip(-127, 127).astype(np.int8) for name, shape in
               (("wq", (8, 3)), ("vq", (3, 8)))}  # fmt: skip
    scales = {"s": np.array(0.02, np.float32), "z": np.array(0, np.uint8)}
    return graph_model(nodes, {**weights, **scales, "ws": np.array(0.005, np.float32), "wz": np.array(0, np.int8)})


TILEABLE = {
    make.__name__: make
    for make in (dilated, uneven, strided, sized_like_the_skip, shuffled, channels_last, quantised, with_branch)
}


def saved(model: Any, folder: Path, upscale: int = 1) -> Graph:
    import onnx

    path = folder / "net.onnx"
    onnx.save(model, str(path))
    return Graph(str(path), "0" * 64, "", "", {}, "onnx", PLANES, PLANES, upscale)

"""What is read by float nodes behind a DQ, on graphs as text; what ONNX Runtime makes of it is in test_qdq.py."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from export.kept_float import kept_from_rounding


def graph_of(shape: str, text: str, **stored: np.ndarray) -> ModelProto:
    head = f'<ir_version: 10, opset_import: ["" : 20]> g (uint8[{shape}] x) => (float[A,B,C,D] y) {{ {text} }}'
    model = onnx.parser.parse_model(head)
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    stored |= {"s": np.float32(0.5), "z": np.uint8(3)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    return model


CASES = {
    "convolution": ("1,4,H,W", "y = Conv(d, w)", (8, 4, 1, 1), 4),
    "groups": ("1,4,H,W", "y = Conv<group=2>(d, w)", (8, 2, 1, 1), 4),
    "deconvolution": ("1,4,H,W", "y = ConvTranspose(d, w)", (4, 8, 1, 1), 4),
    "product": ("1,4", "y = Gemm(d, w)", (4, 8), 4),
    "transposed": ("1,4", "y = Gemm<transB=1>(d, w)", (8, 4), 4),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_float_weight_reads_equal_scales_per_channel(kind: str) -> None:
    shape, text, weight, channels = CASES[kind]
    model = kept_from_rounding(graph_of(shape, f"d = DequantizeLinear(x, s, z) {text}", w=np.ones(weight, np.float32)))
    dq, node = model.graph.node
    stored = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    assert node.input[0] == dq.output[0]
    assert [a.i for a in dq.attribute if a.name == "axis"] == [1]
    scale, zero = (stored[name] for name in dq.input[1:])
    assert (scale.dtype, zero.dtype) == (np.float32, np.uint8)
    assert (scale.tolist(), zero.tolist()) == ([0.5] * channels, [3] * channels)


def test_other_readers_keep_the_one_scale_and_what_is_quantised_is_left_alone() -> None:
    text = """d = DequantizeLinear(x, s, z) e = DequantizeLinear<axis=0>(q, t) a = Conv(d, e) b = Conv(d, w)
        c = Conv(d, w) f = Add(a, b) y = Add(f, c)"""
    stored = {"q": np.ones((4, 4, 1, 1), np.int8), "t": np.ones(4, np.float32), "w": np.ones((4, 4, 1, 1), np.float32)}
    model = kept_from_rounding(graph_of("1,4,H,W", text, **stored))
    read = {node.output[0]: node.input[0] for node in model.graph.node}
    assert (read["a"], read["b"], read["c"]) == ("d", "n_b.d", "n_c.d")
    assert [i.name for i in model.graph.initializer].count("s.4") == 1
    onnx.checker.check_model(model, full_check=True)


def test_a_float_bias_beside_quantised_weights_is_float_too() -> None:
    text = "d = DequantizeLinear(x, s, z) e = DequantizeLinear<axis=0>(q, t) y = Conv(d, e, b)"
    stored = {"q": np.ones((4, 4, 1, 1), np.int8), "t": np.ones(4, np.float32), "b": np.ones(4, np.float32)}
    model = kept_from_rounding(graph_of("1,4,H,W", text, **stored))
    assert model.graph.node[-1].input[0] == "n_y.d"
    assert len(model.graph.node) == 3


def test_a_float_graph_stays_as_it_is() -> None:
    model = graph_of(
        "1,4,H,W", "d = DequantizeLinear(x, s, z) r = Relu(d) y = Conv(r, w)", w=np.ones((4, 4, 1, 1), "f")
    )
    before = model.SerializeToString()
    assert kept_from_rounding(model).SerializeToString() == before

"""Names as ONNX Runtime and OpenVINO give them, traced to layers; the names are copied from their profilers."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from bench.attribution import owners_in, place_of, times_by_place
from engines.engine import LayerTime

LAYERS = {"Conv_0": "convs.0", "Conv_1": "convs.1", "Conv_2": "last"}


def model_of(nodes: list[Any]) -> Any:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in "xy"]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))


def node(operator: str, inputs: str, output: str, name: str | None = None) -> Any:
    return helper.make_node(operator, inputs.split(), [output], name=output if name is None else name)


FLOAT = model_of(
    [
        node("Conv", "x w0", "c0", "Conv_0"), node("LeakyRelu", "c0", "leaky", "Leaky_0"),
        node("Conv", "leaky w1", "c1", "Conv_1"), node("Add", "c1 leaky", "sum", "Add_0"),
        node("Transpose", "sum", "moved", "Transpose_0"), node("ReduceMean", "moved", "mean", "Mean_0"),
        node("Sub", "moved mean", "centred", "Sub_0"), node("Conv", "centred w2", "y", "Conv_2"),
    ]
)  # fmt: skip
QUANTISED = model_of(
    [
        node("QuantizeLinear", "x s z", "x.q"), node("DequantizeLinear", "x.q s z", "x.dq"),
        node("Conv", "x.dq w0", "c0", "Conv_0"), node("QuantizeLinear", "c0 s z", "c0.q"),
        node("DequantizeLinear", "c0.q s z", "c0.dq"), node("LeakyRelu", "c0.dq", "leaky", "Leaky_0"),
        node("Conv", "leaky w1", "c1", "Conv_1"), node("Conv", "c1 w2", "y.float", "Conv_2"),
        node("QuantizeLinear", "y.float s z", "y.q"), node("DequantizeLinear", "y.q s z", "y", "y.dq"),
    ]
)  # fmt: skip

FLOAT_NAMES = [
    ("leaky_nchwc", "Conv", "convs.0"),  # ONNX Runtime: a blocked convolution that took its activation in
    ("Conv_1", "FusedConv", "convs.1"),
    ("fused Conv_1_token_4", "FusedConv", "convs.1"),
    ("Conv_1/WithoutBiases", "Convolution", "convs.1"),
    ("y_nchwc", "Conv", "last"),
    ("y", "Convolution", "last"),  # OpenVINO calls it after the graph's output
    ("Leaky_0", "LeakyRelu", "convs.0"),
    ("Add_0", "Add", "convs.1"),  # of its two inputs' makers the later one
    ("ReorderOutput", "ReorderOutput", "reformat"),
    ("x_abcd_acdb_Conv_0", "Reorder", "reformat"),
    ("Transpose_token_32", "Transpose", "reformat"),
    ("Transpose_0", "Transpose", "other"),  # the network's own
    ("Mean_0", "ReduceMean", "other"),
    ("Sub_0", "Subtract", "other"),
    ("nothing_known", "Subgraph", "other"),
]
LOW_NAMES = [
    ("x.q", "QuantizeLinear", "Q/DQ"),
    ("x.q", "Subgraph", "Q/DQ"),  # OpenVINO's fused pointwise kernels are called after one of them
    ("y.dq", "DequantizeLinear", "Q/DQ"),
    ("Conv_0_token_1", "QLinearConv", "convs.0"),
    ("Leaky_0", "QLinearLeakyRelu", "convs.0"),  # across the pair between the two
    ("y_original", "Convolution", "last"),
    ("y", "Convolution", "last"),
    ("Transpose", "Transpose", "reformat"),
    ("x.q_abcd_acdb_Conv_0", "Reorder", "reformat"),
]


@pytest.mark.parametrize(("name", "kind", "place"), FLOAT_NAMES, ids=[f"{n} {k}" for n, k, _ in FLOAT_NAMES])
def test_names_of_float_graphs(name: str, kind: str, place: str) -> None:
    starts = {"c0": "convs.0", "c1": "convs.1", "y": "last"}  # by what they make
    assert place_of(LayerTime(name, kind, 1.0), owners_in(FLOAT, starts)) == place


@pytest.mark.parametrize(("name", "kind", "place"), LOW_NAMES, ids=[f"{n} {k}" for n, k, _ in LOW_NAMES])
def test_names_of_quantised_graphs(name: str, kind: str, place: str) -> None:
    assert place_of(LayerTime(name, kind, 1.0), owners_in(QUANTISED, LAYERS)) == place


def test_a_convolution_that_folding_merged_into_what_follows_is_found() -> None:
    model = model_of(
        [
            node("Conv", "x w0", "c0", "Conv_0"), node("BatchNormalization", "c0 a b m v", "n0", "Norm_0"),
            node("Conv", "n0 w1", "y", "Conv_1"),
        ]
    )  # fmt: skip
    owners = owners_in(model, {"n0": "convs.0", "y": "last"})
    names = ("Conv_0", "Norm_0", "Conv_1")
    assert [place_of(LayerTime(n, "Conv", 1.0), owners) for n in names] == ["convs.0", "convs.0", "last"]


def test_times_add_up_to_what_the_library_said() -> None:
    owners = owners_in(QUANTISED, LAYERS)
    times = [
        LayerTime("x.q", "QuantizeLinear", 1.0), LayerTime("Transpose", "Transpose", 2.0),
        LayerTime("Conv_0_token_1", "QLinearConv", 4.0), LayerTime("Leaky_0", "QLinearLeakyRelu", 8.0),
        LayerTime("strange", "Magic", 16.0), LayerTime("y.dq", "DequantizeLinear", 32.0),
    ]  # fmt: skip
    assert times_by_place(times, owners) == {"Q/DQ": 33.0, "reformat": 2.0, "convs.0": 12.0, "other": 16.0}

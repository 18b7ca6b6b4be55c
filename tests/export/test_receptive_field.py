"""The reach of graphs: counted by hand, of the registry's networks, and refused by name where there is none."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from onnx import helper

from export.receptive_field import Reach, reach_of
from tests.export.reach_graphs import TILEABLE, conv, graph_model, ints, kernel


def halo(model: Any) -> dict[str, int] | None:
    return reach_of(model).halo_px


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dilated", {"left": 5, "right": 5, "top": 5, "bottom": 5}),
        ("uneven", {"left": 3, "right": 1, "top": 0, "bottom": 2}),
        ("shuffled", {"left": 2, "right": 2, "top": 2, "bottom": 2}),
        ("channels_last", {"left": 1, "right": 1, "top": 1, "bottom": 1}),
    ],
)
def test_halos_are_those_counted_by_hand(name: str, expected: dict[str, int]) -> None:
    assert halo(TILEABLE[name]()) == expected


def test_can32_needs_256_pixels() -> None:
    nodes, source = [], "x"
    tensors = {"w": kernel(4, 3), "v": kernel(4, 4)}
    for number, dilation in enumerate((1, 2, 4, 8, 16, 32, 64, 128, 1)):
        out = f"a{number}"
        nodes.append(conv(source, out, "v" if number else "w", dilations=[dilation] * 2, pads=[dilation] * 4))
        source = out
    nodes.append(helper.make_node("Conv", [source, "m"], ["y"]))
    assert halo(graph_model(nodes, {**tensors, "m": kernel(3, 4, 1)})) == dict.fromkeys(
        ("left", "right", "top", "bottom"), 256
    )


def test_strides_align_windows_and_survive_json() -> None:
    reach = reach_of(TILEABLE["strided"]())
    assert reach.height is not None
    assert reach.height.align == 2
    assert reach.height.scale == Fraction(1)
    assert Reach.from_dict(reach.to_dict()) == reach


def refused(node: Any, **tensors: np.ndarray) -> str:
    model = graph_model(
        [conv("x", "a", "w"), node, conv("b", "y", "v")], {"w": kernel(4, 3), "v": kernel(3, 4), **tensors}
    )
    reach = reach_of(model)
    assert reach.height is None
    return reach.refusal


@pytest.mark.parametrize(
    ("node", "tensors", "words"),
    [
        (("InstanceNormalization", ["a", "s", "o"], {}), {"s": np.ones(4, "f"), "o": np.ones(4, "f")}, "whole picture"),
        (("Resize", ["a", "", "", "n"], {"mode": "linear"}), {"n": ints(1, 4, 64, 64)}, "to 64x64"),
        (("Resize", ["a", "", "f"], {"mode": "linear"}), {"f": np.array([1, 1, 3, 3], "f")}, "scale of 3"),
        (("Slice", ["a", "n", "e", "ax"], {}), {"n": ints(-9), "e": ints(1 << 40), "ax": ints(2)}, "from the end"),
        (("Softmax", ["a"], {"axis": 3}), {}, "normalises over the whole"),
        (("CumSum", ["a", "n"], {}), {"n": ints(2)}, "CumSum.*no rule"),
        (("GridSample", ["a", "a"], {}), {}, "GridSample.*no rule"),
    ],
)
def test_what_cannot_be_tiled_is_named(
    node: tuple[str, list[str], dict[str, Any]], tensors: dict[str, np.ndarray], words: str
) -> None:
    import re

    kind, inputs, attributes = node
    said = refused(helper.make_node(kind, inputs, ["b"], name="suspect", **attributes), **tensors)
    assert "suspect" in said
    assert re.search(words, said), said


def test_statistics_of_a_whole_layer_are_no_branch_that_can_be_computed_apart() -> None:
    mean = helper.make_node("ReduceMean", ["a", "axes"], ["m"], name="mean")
    said = refused_pair(mean, helper.make_node("Sub", ["a", "m"], ["b"]), axes=ints(2, 3))
    assert "mean" in said
    assert "reduces over the whole picture" in said


def refused_pair(first: Any, second: Any, **tensors: np.ndarray) -> str:
    nodes = [conv("x", "a", "w"), first, second, conv("b", "y", "v")]
    return reach_of(graph_model(nodes, {"w": kernel(4, 3), "v": kernel(3, 4), **tensors})).refusal


def test_a_branch_over_the_reduced_picture_is_found_with_the_tensor_that_leads_out_of_it() -> None:
    reach = reach_of(TILEABLE["with_branch"]())
    assert reach.branch == ("h",)
    assert "reduces the whole picture to 8x8" in reach.branch_nodes[0]
    assert reach.halo_px == dict.fromkeys(("left", "right", "top", "bottom"), 2)


def test_functions_of_a_domain_of_their_own_are_looked_into() -> None:
    body = [helper.make_node("Relu", ["p"], ["q"])]
    function = helper.make_function("mine", "Act", ["p"], ["q"], body, [helper.make_opsetid("", 18)])
    model = graph_model(
        [conv("x", "a", "w"), helper.make_node("Act", ["a"], ["b"], domain="mine", name="n"), conv("b", "y", "v")],
        {"w": kernel(4, 3), "v": kernel(3, 4)},
    )
    model.opset_import.append(helper.make_opsetid("mine", 1))
    assert "mine::Act" in reach_of(model).refusal
    model.functions.append(function)
    assert halo(model) == dict.fromkeys(("left", "right", "top", "bottom"), 2)

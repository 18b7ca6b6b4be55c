"""Nodes that compute pixels elsewhere than on the measured provider are found, by real sessions' own record."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from engines.ort.options import RECORD_PLACEMENT
from engines.ort.placement import HEAVY, check_placement, placed, placement_missing
from export.recipe import WEIGHTED


@pytest.fixture
def session(enlarger):
    options = ort.SessionOptions()
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    return ort.InferenceSession(enlarger.onnx_path, options, providers=["CPUExecutionProvider"])


def test_a_session_says_where_its_nodes_are(session):
    assert placement_missing() is None
    assert placed(session) == [
        ("conv", "Conv", "CPUExecutionProvider"),
        ("shuffle", "DepthToSpace", "CPUExecutionProvider"),
    ]


def test_nodes_on_the_measured_provider_pass_and_on_another_are_named(session):
    check_placement(session, "CPUExecutionProvider")
    wanted = (
        r"placed `conv` \(Conv\) to CPUExecutionProvider, `shuffle` \(DepthToSpace\) to CPUExecutionProvider, not to"
    )
    with pytest.raises(RuntimeError, match=wanted + " CUDAExecutionProvider"):
        check_placement(session, "CUDAExecutionProvider")


class Part:
    def __init__(self, ep_name, *nodes):
        self.ep_name, self.nodes = ep_name, nodes

    def get_nodes(self):
        return [type("Node", (), {"name": name, "op_type": kind, "domain": ""}) for name, kind in self.nodes]


class Told:
    def __init__(self, *parts):
        self.parts = parts

    def get_provider_graph_assignment_info(self):
        return self.parts


def test_shape_arithmetic_on_the_cpu_is_fine():
    shapes = Part("CPUExecutionProvider", ("a", "Shape"), ("b", "Gather"), ("c", "Concat"), ("d", "Mul"), ("e", "Cast"))
    check_placement(Told(Part("CUDAExecutionProvider", ("conv", "Conv")), shapes), "CUDAExecutionProvider")


def test_many_nodes_are_counted_and_one_without_a_name_is_told_too():
    nodes = [("", "Conv"), *((f"n{number}", "Resize") for number in range(5))]
    with pytest.raises(RuntimeError, match=r"`without a name` \(Conv\) to X, `n0` .*`n1` .* and 3 more, not to Y"):
        check_placement(Told(Part("X", *nodes), Part("Y", ("good", "Conv"))), "Y")


def test_no_record_is_no_proof():
    with pytest.raises(RuntimeError, match="did not record"):
        check_placement(Told(), "CUDAExecutionProvider")


def test_every_weighted_operator_is_heavy():
    assert set(WEIGHTED) <= HEAVY


@pytest.mark.parametrize("statistics", ["image", "frozen"])
def test_a_networks_convolutions_are_seen_by_their_names(networks, statistics):
    options = ort.SessionOptions()
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    session = ort.InferenceSession(networks[statistics].main.onnx_path, options, providers=["CPUExecutionProvider"])
    assert [kind for _, kind, _ in placed(session)].count("Conv") == 9
    with pytest.raises(RuntimeError, match=r"\(Conv\) to CPUExecutionProvider"):
        check_placement(session, "CUDAExecutionProvider")

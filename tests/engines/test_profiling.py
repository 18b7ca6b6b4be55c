"""Nodes keep their own medians."""

from __future__ import annotations

import pytest

from engines.engine import LayerTime
from engines.profiling import medians_of


def test_every_node_has_the_median_of_its_own_times_also_where_two_share_a_name() -> None:
    runs = [
        [LayerTime("a", "Conv", 1.0), LayerTime("a", "Conv", 10.0), LayerTime("b", "Add", 5.0)],
        [LayerTime("a", "Conv", 9.0), LayerTime("a", "Conv", 30.0), LayerTime("b", "Add", 6.0)],
        [LayerTime("a", "Conv", 2.0), LayerTime("a", "Conv", 20.0), LayerTime("b", "Add", 7.0)],
    ]
    assert medians_of(runs) == [LayerTime("a", "Conv", 2.0), LayerTime("a", "Conv", 20.0), LayerTime("b", "Add", 6.0)]


def test_runs_of_different_nodes_are_no_runs_of_one_graph() -> None:
    with pytest.raises(ValueError, match="2 profiled runs that are not of the same nodes"):
        medians_of([[LayerTime("a", "Conv", 1.0)], [LayerTime("b", "Conv", 1.0)]])
    with pytest.raises(ValueError, match="0 profiled runs"):
        medians_of([])

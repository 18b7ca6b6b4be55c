"""The section stands where a run was profiled, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.plots import draw
from reports.report import Report
from reports.row import row_from_run
from reports.sections import layers


def rendered(runs: list[dict[str, Any]]) -> str:
    rows = [row_from_run(run) for run in runs]
    return layers.render(Report(rows, figures=draw(rows, ["layers"])))


def test_it_has_drawing_text_and_numbers(make_run: Callable[..., dict[str, Any]]) -> None:
    text = rendered([make_run(layers=[{"layer": "conv1", "kind": "Conv", "ms": 2.0}])])
    assert "<svg " in text
    assert "From the profile" in text
    assert 'id="data-layers"' in text


def test_it_is_left_out_where_there_is_nothing(make_run: Callable[..., dict[str, Any]]) -> None:
    assert rendered([make_run()]) == ""

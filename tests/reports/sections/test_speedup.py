"""The section stands where there are two rows to compare, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.plots import draw
from reports.report import Report
from reports.row import row_from_run
from reports.sections import speedup


def rendered(runs: list[dict[str, Any]]) -> str:
    rows = [row_from_run(run) for run in runs]
    return speedup.render(Report(rows, figures=draw(rows, ["speed-up"])))


def test_it_has_drawing_text_and_numbers(make_run: Callable[..., dict[str, Any]]) -> None:
    text = rendered([make_run("a"), make_run("b", 50.0, case={"variant": "y"})])
    assert "<svg " in text
    assert "Above 1 is faster" in text
    assert 'id="data-speed-up"' in text


def test_it_is_left_out_where_there_is_nothing(make_run: Callable[..., dict[str, Any]]) -> None:
    assert rendered([make_run()]) == ""

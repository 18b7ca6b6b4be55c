"""The section stands where there are peaks and work, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.plots import draw
from reports.report import Report
from reports.row import row_from_run
from reports.sections import roofline


def rendered(runs: list[dict[str, Any]]) -> str:
    rows = [row_from_run(run) for run in runs]
    return roofline.render(Report(rows, figures=draw(rows, ["roofline"])))


def test_it_has_drawing_text_and_numbers(make_run: Callable[..., dict[str, Any]]) -> None:
    text = rendered([make_run()])
    assert "<svg " in text
    assert "reached on the machine" in text
    assert "cannot be above" not in text
    assert "same command" not in text
    assert 'id="data-roofline"' in text


def test_it_is_left_out_where_there_is_nothing(make_run: Callable[..., dict[str, Any]]) -> None:
    assert rendered([make_run(work={"peaks": {"failed": "x"}})]) == ""

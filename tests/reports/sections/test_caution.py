"""Warnings: the severe ones open, the rest one click away, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.report import Report
from reports.row import row_from_run
from reports.sections import caution

Make = Callable[..., dict[str, Any]]


def rendered(*runs: dict[str, Any]) -> str:
    return caution.render(Report([row_from_run(run) for run in runs]))


def test_no_runs_and_no_doubt_are_said(make_run: Make) -> None:
    assert "hold no runs" in rendered()
    assert rendered(make_run()).startswith("<p>None")


def test_failures_stand_open_with_their_reasons(make_run: Make) -> None:
    text = rendered(make_run("a"), make_run("f", status="failed", reason="no <memory>", latency_ms=None))
    assert '<li class="severe">' in text
    assert "no &lt;memory&gt;" in text.partition("<details>")[0]


def test_unstable_rows_open_on_a_click(make_run: Make) -> None:
    text = rendered(make_run("a", 900.0, unstable=["drift"]), make_run("b", case={"variant": "fast"}))
    assert "drift" in text.partition("<details>")[2]


def test_many_failures_are_shortened_and_counted(make_run: Make) -> None:
    runs = [make_run(str(i), status="failed", reason=f"r{i}", latency_ms=None) for i in range(300)]
    text = rendered(*runs)
    assert "300 of 300 rows failed." in text
    assert "and 100 more" in text

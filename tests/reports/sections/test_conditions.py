"""Machines, versions, contracts: each different one once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.report import Report
from reports.row import row_from_run
from reports.sections import conditions

Make = Callable[..., dict[str, Any]]


def rendered(*runs: dict[str, Any]) -> str:
    return conditions.render(Report([row_from_run(run) for run in runs], files=[("<a>.json", len(runs))]))


def test_one_machine_is_shown_open(make_run: Make) -> None:
    text = rendered(make_run("a"), make_run("b"))
    assert "<details>" not in text
    assert text.count("Some CPU") == 1
    for word in ("&lt;a&gt;.json", "2.13.0", "pre post processing", "900 GFLOP/s", "30 GB/s", "all planes"):
        assert word in text


def test_several_machines_are_counted(make_run: Make) -> None:
    text = rendered(make_run("a"), make_run("b", machine={"cpu": "<Other>"}))
    assert "2 different ones" in text
    assert "&lt;Other&gt;" in text


def test_failed_runs_alone_have_no_conditions_but_a_file(make_run: Make) -> None:
    text = rendered(make_run(status="failed", latency_ms=None))
    assert "&lt;a&gt;.json" in text
    assert "Machine" not in text

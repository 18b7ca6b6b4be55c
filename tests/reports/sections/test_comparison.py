"""The comparison in the page: differences first, then pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.comparison import compare_rows
from reports.report import Report
from reports.row import row_from_run
from reports.sections import comparison

Make = Callable[..., dict[str, Any]]


def rendered(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> str:
    rows = [[row_from_run(run) for run in runs] for runs in (a, b)]
    return comparison.render(Report(rows[1], comparison=compare_rows(rows[0], rows[1], ("<old>", "new"))))


def test_differences_come_before_the_pairs(make_run: Make) -> None:
    text = rendered([make_run("a")], [make_run("b", 130.0, commit="ffff")])
    assert text.index("ffff") < text.index("Pairs of like cases")
    assert '<span class="verdict slower">slower</span>' in text
    assert "1.300×" in text
    assert "&lt;old&gt;" in text
    assert "1 slower" in text


def test_no_comparison_no_section(make_run: Make) -> None:
    assert comparison.render(Report([row_from_run(make_run())])) == ""


def test_nothing_in_common_and_what_is_unmatched(make_run: Make) -> None:
    text = rendered([make_run("a")], [make_run("b", case={"model": "can32"})])
    assert "No case was measured on both sides." in text
    assert "1 row of A not compared" in text
    assert "are the same on both sides" in text


def test_the_choice_that_is_compared_is_named(make_run: Make) -> None:
    text = rendered([make_run("a")], [make_run("b", case={"precision": "bf16"})])
    assert "Compared is the precision: fp32 with bf16." in text
    assert "onnxruntime fp32 image → onnxruntime bf16 image" in text


def test_a_failed_candidate_is_a_failed_pair_with_its_reason(make_run: Make) -> None:
    old = make_run("o", 50.0, time="2026-01-01")
    failed = make_run("f", status="failed", reason="no memory", latency_ms=None, time="2026-04-01")
    text = rendered([make_run("a")], [old, failed])
    assert '<span class="verdict failed">failed</span>' in text
    assert "B failed: no memory" in text
    assert "1 failed" in text

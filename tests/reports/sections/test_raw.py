"""The runs inside the page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from reports.report import Report
from reports.row import row_from_run
from reports.sections import raw

Make = Callable[..., dict[str, Any]]


def unpacked(packed: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_runs_are_all_there_and_no_word_of_them_is_readable_as_markup(make_run: Make) -> None:
    runs = [make_run("a", case={"model": "</script>"}), make_run("b", status="failed", latency_ms=None)]
    text = raw.render(Report([row_from_run(run) for run in runs]))
    found = re.search('id="raw-runs">([A-Za-z0-9+/=]+)</script>', text)
    assert found
    assert unpacked(found[1]) == {"schema": 1, "runs": runs}
    assert "every sample" in text


def test_packing_is_reproducible(make_run: Make) -> None:
    assert raw.pack([make_run()]) == raw.pack([make_run()])


def test_where_samples_are_left_out_it_is_said(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MOST_BYTES", 10)
    run, failed = make_run("a", 100.0), make_run("b", status="failed", latency_ms=None)
    text = raw.render(Report([row_from_run(run), row_from_run(failed)]))
    assert "without the single samples" in text
    kept = unpacked(raw.pack([run, failed])[0])["runs"]
    assert kept[0]["latency_ms"]["samples"] == [[pytest.approx(ms)] for ms in (99, 99.5, 100, 100.5, 101)]
    assert kept[1] == failed


def test_no_runs_no_section() -> None:
    assert raw.render(Report([])) == ""


def test_it_keeps_to_the_room_that_it_is_given(many_runs: Callable[..., list[dict[str, Any]]]) -> None:
    rows = [row_from_run(run) for run in many_runs(20, 200)]
    whole = len(raw.render(Report(rows)))
    less = raw.render(Report(rows, room=whole - 2000))
    assert "without the single samples" in less
    assert len(less) < whole / 2
    none = raw.render(Report(rows, room=len(less) - 2000))
    assert "left out" in none
    assert "<script" not in none

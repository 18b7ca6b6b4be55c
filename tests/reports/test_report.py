"""A figure in the page: drawing, text, note and numbers together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from reports.plots import draw
from reports.report import Report
from reports.row import row_from_run


def test_a_figure_carries_its_numbers(make_run: Callable[..., dict[str, Any]]) -> None:
    rows = [row_from_run(make_run("a", 12.5)), row_from_run(make_run("b", 25.0, case={"variant": "y"}))]
    text = Report(rows, figures=draw(rows, ["latency"])).figure("latency", "how to <read> it")
    assert "how to &lt;read&gt; it" in text
    found = re.search(r'<script type="application/json" id="data-latency">(.*?)</script>', text)
    assert found
    table = json.loads(found[1])
    places = [table["columns"].index(name) for name in ("id", "latency_ms", "low_ms", "high_ms")]
    assert [[line[p] for p in places] for line in table["rows"]] == [["a", 12.5, 12.25, 12.75], ["b", 25.0, 24.5, 25.5]]


def test_what_was_not_drawn_leaves_no_trace() -> None:
    assert Report([]).figure("latency", "text") == ""

"""Latency over the commits it was measured at."""

from __future__ import annotations

from reports.report import Report

TITLE = "History"
ORDER = 100
TEXT = (
    "A dashed line marks a step: faster or slower than at the commit before by the rule of the gate with a margin of "
    "5 %, or a change of level that four commits and more on each side agree on. Bars: 95 % intervals."
)


def render(report: Report) -> str:
    return report.figure("history", TEXT)

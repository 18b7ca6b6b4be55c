"""Median latency over the size of the output."""

from __future__ import annotations

from reports.report import Report

TITLE = "Latency"
ORDER = 30
TEXT = (
    "One picture, network only, as the contract of each row says. Bars: 95 % intervals, cut at a tenth of "
    "the median. Dotted: the time a frame may take at 24, 30 and 60 fps. Both axes are logarithmic."
)


def render(report: Report) -> str:
    return report.figure("latency", TEXT)

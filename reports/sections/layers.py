"""Time per layer, where a run holds a profile."""

from __future__ import annotations

from reports.report import Report

TITLE = "Layers"
ORDER = 90
TEXT = "From the profile of the engine; a profile slows the inference down, so the sum is not the latency."


def render(report: Report) -> str:
    return report.figure("layers", TEXT)

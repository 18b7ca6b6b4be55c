"""Engines by precisions: how many times faster than the yardstick."""

from __future__ import annotations

from reports.report import Report

TITLE = "Speed-up"
ORDER = 60
TEXT = (
    "Above 1 is faster (blue), below 1 slower (red). The yardstick is eager torch in fp32 on the same device where it "
    "was measured, otherwise the slowest row there; it stands in bold."
)


def render(report: Report) -> str:
    return report.figure("speed-up", TEXT)

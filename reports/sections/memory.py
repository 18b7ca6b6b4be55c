"""Peak memory over the size of the output, with what the machine has."""

from __future__ import annotations

from reports.report import Report

TITLE = "Memory"
ORDER = 40
TEXT = (
    "Peak of the whole worker process, and of the device where it has its own memory (the wide, pale line). The line "
    "across is what the machine or the device has."
)


def render(report: Report) -> str:
    return report.figure("memory", TEXT)

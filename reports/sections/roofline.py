"""Every case under the peaks that were measured on its machine."""

from __future__ import annotations

from reports.report import Report

TITLE = "Roofline"
ORDER = 70
TEXT = (
    "The lines are rates measured in the same command: a large matrix product per precision and a large copy. A case "
    "cannot be above them; the distance is what is left. Bytes are the least that input, output and weights need."
)


def render(report: Report) -> str:
    return report.figure("roofline", TEXT)

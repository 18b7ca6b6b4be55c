"""Every case under the peaks that were measured on its machine."""

from __future__ import annotations

from reports.report import Report

TITLE = "Roofline"
ORDER = 70
TEXT = (
    "The lines are rates that a large matrix product per precision and a large copy reached on the machine; where runs "
    "brought several sets of them, the lowest and the highest are drawn. A case may lie above them: a copy within the "
    "caches is faster, and so is a method that needs fewer multiplications. Bytes are the least that input, output and "
    "weights need. The filling of a mark is its precision."
)


def render(report: Report) -> str:
    return report.figure("roofline", TEXT)

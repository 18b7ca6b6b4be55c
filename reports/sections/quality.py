"""PSNR over latency, with the rows that no other beats in both."""

from __future__ import annotations

from reports.report import Report

TITLE = "Quality against latency"
ORDER = 50
TEXT = (
    "To the upper left is better. The steps join the rows that no other beats in both; they are drawn larger. PSNR is "
    "against the FP32 reference with the same weights; identical outputs stand at ∞."
)


def render(report: Report) -> str:
    return report.figure("quality", TEXT)

"""PSNR over latency, with the rows that no other beats in both."""

from __future__ import annotations

from reports.markup import joined
from reports.report import Report

TITLE = "Quality against latency"
ORDER = 50
TEXT = (
    "To the upper left is better. The steps join the rows that no other beats in both; they are drawn larger. PSNR is "
    "against the FP32 reference with the same weights; identical outputs stand at ∞."
)
ORIGINAL = (
    "The same against the original: the operator that the network was trained to replace, or the true picture. An "
    "upright line is the operator's own time, a level one what one has without the network."
)


def render(report: Report) -> str:
    return joined((report.figure("quality", TEXT), report.figure("original", ORIGINAL)))

"""From nothing to the first picture: export, load, first inference."""

from __future__ import annotations

from reports.report import Report

TITLE = "Cold start"
ORDER = 80
TEXT = (
    "Export is done once per network and kept in the cache; load and first inference come with every start. Medians "
    "over processes."
)


def render(report: Report) -> str:
    return report.figure("cold-start", TEXT)

"""What one must know before believing the numbers; stands above everything that has numbers."""

from __future__ import annotations

from reports.doubts import Doubt
from reports.markup import Html, tag
from reports.report import Report

TITLE = "Warnings"
ORDER = 15
SHOWN = 3
"""Cases of a severe one that are listed at once; the rest opens on a click."""
MOST = 200


def render(report: Report) -> str:
    found = report.doubts
    if not report.rows:
        return tag("p", "The files hold no runs.", class_="bad")
    if not found:
        return tag("p", "None: all rows have a result, are stable, and come from one machine, version and commit.")
    return tag("ul", *(_item(doubt) for doubt in found), class_="doubts")


def _item(doubt: Doubt) -> Html:
    lines = [tag("li", case) for case in doubt.cases[:MOST]]
    if len(doubt.cases) > MOST:
        lines.append(tag("li", f"and {len(doubt.cases) - MOST} more; the table of all runs has them"))
    shown = SHOWN if doubt.severe else 0
    parts: list[object] = [tag("ul", *lines[:shown])] if shown else []
    if len(lines) > shown:
        label = f"{len(lines) - shown} more" if shown else "which, and why"
        parts.append(tag("details", tag("summary", label), tag("ul", *lines[shown:])))
    return tag("li", tag("strong", doubt.text), *parts, class_="severe" if doubt.severe else "mild")

"""Under which conditions the numbers were made: machines, versions, contracts, conventions; and the raw runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reports.markup import Html, facts, joined, simple_table, tag
from reports.reading import facts_of
from reports.report import Report
from reports.row import Row

TITLE = "Conditions"
ORDER = 120
MOST = 12


def render(report: Report) -> str:
    ok = [row for row in report.rows if row.ok]
    parts: list[object] = [simple_table(("runs file", "runs"), report.files, "Runs files")]
    for title, found in (
        ("Machine", [row.machine for row in ok]),
        ("Versions", [row.versions for row in ok]),
        ("Contract of a latency", [row.contract for row in ok]),
        ("Peaks of the machine", [_peaks(row) for row in ok]),
        ("Image quality", [_convention(row) for row in ok]),
    ):
        parts.append(_block(title, found))
    return joined(parts)


def _block(title: str, found: Iterable[Mapping[str, str]]) -> Html:
    different = list({tuple(each.items()): each for each in found if each}.values())
    if not different:
        return Html("")
    shown = [facts((name.replace("_", " "), text) for name, text in each.items()) for each in different[:MOST]]
    if len(different) == 1:
        return joined((tag("h3", title), *shown))
    said = tag(
        "p", f"{len(different)} different ones" + (f", the first {MOST} are shown" if len(different) > MOST else "")
    )
    return joined(
        (tag("h3", title), said, *(tag("details", tag("summary", f"{n + 1}"), s) for n, s in enumerate(shown)))
    )


def _peaks(row: Row) -> dict[str, str]:
    units = {"_gflop_s": "GFLOP/s", "_gb_s": "GB/s"}
    return {
        name.removesuffix(end): f"{rate:.0f} {unit}"
        for name, rate in row.peaks.items()
        for end, unit in units.items()
        if name.endswith(end)
    }


def _convention(row: Row) -> dict[str, str]:
    quality = row.run.get("quality")
    return facts_of(quality.get("convention")) if isinstance(quality, Mapping) else {}

"""Two groups of runs: what differs first, then every pair of like cases with its ratio, interval and verdict."""

from __future__ import annotations

from reports.comparison import Comparison, Pair
from reports.doubts import by_reason
from reports.figures import counted, memory, milliseconds, quality, ratio, ratio_interval, rows_of
from reports.markup import Html, joined, simple_table, tag
from reports.report import Report

TITLE = "Comparison"
ORDER = 20
HEAD = ("case", "verdict", "ratio", "95 % of the ratio", "A", "B", "peak memory A → B", "PSNR A → B", "remark")
UNMATCHED = 60


def render(report: Report) -> str:
    found = report.comparison
    if found is None:
        return ""
    return joined((_heading(found), _differences(found), _pairs(found), *(_unmatched(found, side) for side in (0, 1))))


def _heading(found: Comparison) -> Html:
    about = "".join(f" Compared is the {name}: {a} with {b}." for name, a, b in found.compared)
    names = tag("p", "A: ", tag("strong", found.names[0]), ", B: ", tag("strong", found.names[1]), ".", about)
    return joined((names, tag("p", tag("strong", counted(found.counts)), "."), tag("p", found.rule)))


def _differences(found: Comparison) -> Html:
    if not found.differences:
        return tag("p", "Machine, versions, contract and commit (where known) are the same on both sides.")
    return joined(
        (tag("h3", "What else differs"), simple_table(("fact", "A", "B"), found.differences, "What else differs"))
    )


def _pairs(found: Comparison) -> Html:
    if not found.pairs:
        return tag("p", "No case was measured on both sides.", class_="bad")
    lines = (_line(pair, bool(found.compared)) for pair in found.pairs)
    return joined((tag("h3", "Pairs of like cases"), simple_table(HEAD, lines, "Pairs of like cases")))


def _line(pair: Pair, differ: bool) -> list[object]:
    title = f"{pair.b.model} {pair.b.resolution}: {pair.a.how} → {pair.b.how}" if differ else pair.b.title
    verdict = tag("span", pair.verdict, class_=f"verdict {pair.verdict.replace(' ', '-')}")
    figures = (milliseconds(pair.a), milliseconds(pair.b), memory(pair), quality(pair))
    return [title, verdict, ratio(pair.ratio), ratio_interval(pair.ratio), *figures, pair.why]


def _unmatched(found: Comparison, side: int) -> Html:
    rows = found.unmatched[side]
    if not rows:
        return Html("")
    head = tag("summary", f"{rows_of(len(rows))} of {'AB'[side]} not compared")
    return tag("details", head, tag("ul", *(tag("li", line) for line in by_reason(rows)[:UNMATCHED])))

"""A report → summary.md, made for a pull-request comment: the verdict in the first line, under 60 lines, inert."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reports.answer import Answer, distinction, distinctions
from reports.comparison import Comparison, Pair
from reports.doubts import Doubt
from reports.figures import (
    counted,
    figure,
    half_width,
    judged,
    milliseconds,
    original,
    psnr,
    quality,
    ratio,
    ratio_interval,
    rows_of,
)
from reports.page import subject
from reports.report import Report

MOST_LINES = 59
ANSWERS, PAIRS, DOUBTS = 14, 18, 9
LONGEST = 90
_SIGNS = re.compile(r"[\\`*_{}\[\]()#|~!@$<>&+\"'-]")
_NOTHING = "\u200b"
"""A space without width: GitHub looks for links and mentions in the text after its character references are read."""
_LINKS = re.compile(r"(?<=[@#])|(?=://)|(?<=\bGH)(?=-)|(?=\.(?=[^\W\d]))", re.IGNORECASE)
"""Where a mention, an issue, an address or a link would hold together."""


def summary(report: Report) -> str:
    """The text; every word of a runs file is inert: no link, no mention, no markup."""
    lines = [verdict(report), ""]
    found = report.doubts
    lines += [_doubt(doubt) for doubt in found[:DOUBTS]]
    lines += [f"- and {len(found) - DOUBTS} more warnings in the report"] if len(found) > DOUBTS else []
    lines += [""] if found else []
    if report.comparison is not None:
        lines += _comparison(report.comparison)
    lines += _answers(report)
    lines.append(f"{inert(subject(report), 200)}. Figures, contracts and raw runs are in `index.html`.")
    return "\n".join(lines[:MOST_LINES]) + "\n"


def verdict(report: Report) -> str:
    """One line that says it all."""
    if not any(row.ok for row in report.rows):
        return f"**No result:** {_count(len(report.rows), 'run')}, none could be measured."
    if report.comparison is not None:
        names = report.comparison.names
        return f"**{_judgement(report.comparison, report.floor_db)}**: {inert(names[1])} against {inert(names[0])}."
    found = report.answers
    able = [answer for answer in found if answer.best]
    failed = sum(row.status == "failed" for row in report.rows)
    tail = f" {_count(failed, 'row')} failed." if failed else ""
    if not able:
        return f"**No row keeps {report.floor}**, at any size.{tail}"
    largest = max(able, key=lambda answer: (answer.first.megapixels, answer.speed_up or 0.0))
    best = largest.best
    assert best is not None
    rest = f"; {len(able)} of {len(found)} pairs of network and size have a row that keeps {report.floor}"
    what = f"**{inert(best.network)} {inert(best.resolution)}: {inert(best.how)}, {milliseconds(best)}**"
    return f"{what} ({half_width(best)}, {judged(best)}){_weakness(largest)}{rest if len(found) > 1 else ''}.{tail}"


def _weakness(answer: Answer) -> str:
    """What takes from the answer, in brackets; empty where nothing does."""
    said = [caution for caution in answer.cautions if caution != "one process"]  # stands where the interval would
    if answer.close:
        more = f" and {len(answer.close) - 1} more" if len(answer.close) > 1 else ""
        said.append(f"not told apart from {inert(answer.close[0].how)}{more}")
    return f" ({'; '.join(said)})" if said else ""


def _judgement(found: Comparison, floor_db: float) -> str:
    """The worst first: no result, then slower, then what cannot be told; good news only where nothing is left open."""
    counts = found.counts
    if faults := found.faults(floor_db):
        said = ", ".join(f"{number} {fault}" for fault, number in faults.items())
        rest = {verdict: number for verdict, number in counts.items() if verdict != "failed"}
        return f"Broken: {said}" + (f"; {counted(rest)}" if rest else "")
    if not found.pairs:
        return "Nothing to compare: no case was measured on both sides"
    if counts.get("slower"):
        return f"Slower: {counted(counts)}"
    if open_ := {verdict: number for verdict, number in counts.items() if verdict in ("inconclusive", "not judged")}:
        rest = {verdict: number for verdict, number in counts.items() if verdict not in open_}
        return f"Cannot tell: {counted(open_)}" + (f"; {counted(rest)}" if rest else "")
    return f"{'Faster' if counts.get('faster') else 'No slower case'}: {counted(counts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _doubt(doubt: Doubt) -> str:
    first = inert(doubt.cases[0]) if doubt.cases else ""
    more = f" (and {len(doubt.cases) - 1} more)" if len(doubt.cases) > 1 else ""
    return f"- {'**Warning:** ' if doubt.severe else ''}{inert(doubt.text, 200)} {first}{more}"


def _comparison(found: Comparison) -> list[str]:
    lines = []
    for name, a, b in found.differences[:6]:
        lines.append(f"- differs: {inert(name)}: {inert(a, 60)} → {inert(b, 60)}")
    if len(found.differences) > 6:
        lines.append(f"- differs: {len(found.differences) - 6} more facts, see the report")
    if found.pairs:
        head = ("case", "verdict", f"ratio (95 %), margin {found.margin:.0%}", "A", "B", "PSNR A → B")
        lines += ["", *_table(head, (_pair(pair) for pair in found.pairs[:PAIRS]))]
        lines += [f"{len(found.pairs) - PAIRS} more pairs are in the report."] if len(found.pairs) > PAIRS else []
    left = sum(map(len, found.unmatched))
    lines += ["", f"{rows_of(left)} not compared."] if left else []
    return [*lines, ""]


def _pair(pair: Pair) -> list[str]:
    shown = f"{ratio(pair.ratio)} ({ratio_interval(pair.ratio)})"
    return [pair.b.title, pair.verdict, shown, milliseconds(pair.a), milliseconds(pair.b), quality(pair)]


def _answers(report: Report) -> list[str]:
    found = report.answers
    if not found:
        return []
    last = ["to the original"] if report.has_original else []
    head = ("network", "size", f"fastest above {report.floor}", "median", "fps", "PSNR", "against torch", *last)
    varied = distinctions([answer.first for answer in found])
    lines = _table(head, (_answer(answer, varied, bool(last)) for answer in found[:ANSWERS]))
    more = [f"{len(found) - ANSWERS} more pairs of network and size are in the report."] if len(found) > ANSWERS else []
    return [*lines, "", *more]


def _answer(answer: Answer, varied: Sequence[str], has_original: bool) -> list[str]:
    first, best = answer.first, answer.best
    apart = distinction(first, varied)
    name = f"{first.network}, {apart}" if apart else first.network
    if best is None:
        return [name, first.resolution, "none", *["–"] * (5 if has_original else 4)]
    speed = f"{answer.speed_up:.2f}×" if answer.speed_up else "–"
    how = best.how + (f" ({'; '.join(answer.cautions)})" if answer.cautions else "")
    shown = [name, best.resolution, how, milliseconds(best), figure(best, "throughput_fps"), psnr(best), speed]
    return [*shown, original(best)] if has_original else shown


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(inert(cell) for cell in row)} |" for row in rows]


def inert(text: str, most: int = LONGEST) -> str:
    """The text as Markdown shows it and does nothing else with it; at most `most` characters."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    text = _SIGNS.sub(_reference, _LINKS.sub(_NOTHING, text))
    return re.sub(r"(?i)(https?|ftp|www)(?=\u200b)", _last_as_reference, text) or "–"


def _last_as_reference(match: re.Match[str]) -> str:
    return match[0][:-1] + f"&#{ord(match[0][-1])};"


def _reference(match: re.Match[str]) -> str:
    sign = match[0]
    harmless = sign in "()-+'" or (sign == "_" and _within_word(match))
    return sign if harmless else f"&#{ord(sign)};"


def _within_word(match: re.Match[str]) -> bool:
    """Between letters or digits an underscore is no emphasis. Source: GFM specification, 6.4, rules 2 and 6."""
    text, at = match.string, match.start()
    return text[at - 1 : at].isalnum() and text[at + 1 : at + 2].isalnum()

"""A gate → Markdown for a pull request or a job's summary: the verdict first, the rows, then what else differs."""

from __future__ import annotations

import re

from bench.gate import Gate, Outcome
from bench.sinks.words import MARKS, change_text, figure_text, headline, subject

SHOWN = 200
"""Rows; the rest are counted. A comment on GitHub holds 65,536 characters."""


def render(gate: Gate) -> str:
    lines = [f"**{MARKS[gate.verdict]} {_safe(headline(gate))}**", ""]
    if gate.outcomes:
        lines += _table(gate)
    lines += ["Rules: " + " ".join(f"`{rule.text}`" for rule in gate.rules) + ".", ""]
    if gate.differences:
        lines += ["<details><summary>What differs besides</summary>", ""]
        lines += [f"| | {_safe(gate.names[0])} | {_safe(gate.names[1])} |", "| --- | --- | --- |"]
        lines += [f"| {_safe(name)} | {_safe(a)} | {_safe(b)} |" for name, a, b in gate.differences]
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def _table(gate: Gate) -> list[str]:
    heads = ("verdict", "case", "figure", *gate.names, "change (95 %)", "remark")
    lines = ["| " + " | ".join(map(_safe, heads)) + " |", "| --- | --- | --- | ---: | ---: | ---: | --- |"]
    lines += [_line(outcome) for outcome in gate.outcomes[:SHOWN]]
    left = len(gate.outcomes) - SHOWN
    return [*lines, "", *([f"{left} more rows are not shown.", ""] if left > 0 else [])]


def _line(outcome: Outcome) -> str:
    figures = ("", "")
    if outcome.rule:
        figure = outcome.rule.figure
        figures = figure_text(figure, outcome.baseline), figure_text(figure, outcome.candidate)
    verdict = f"{MARKS[outcome.verdict]} {outcome.verdict}"
    cells = (verdict, outcome.title, subject(outcome), *figures, change_text(outcome), outcome.why)
    return "| " + " | ".join(map(_safe, cells)) + " |"


def _safe(text: str) -> str:
    """One line that stays text: no cell ends, no markup, no mention of a user begins in it."""
    text = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", text).replace("@", "@\u200b")

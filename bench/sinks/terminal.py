"""A gate → what the terminal shows: the verdict first, then every row, then what else differs."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.gate import Gate, Outcome
from bench.sinks.words import MARKS, change_text, figure_text, headline, subject

STYLES = {"worse": "red", "could not measure": "red", "inconclusive": "yellow", "better": "green", "same": ""}


def render(gate: Gate) -> RenderableType:
    parts: list[RenderableType] = [Text(headline(gate), style=f"bold {STYLES.get(gate.verdict, '')}".strip())]
    if gate.outcomes:
        parts += [_table(gate), *_remarks(gate)]
    parts.append(Text("rules: " + " ".join(rule.text for rule in gate.rules)))
    if gate.differences:
        parts.append(Text("what differs besides: " + "; ".join(f"{n} {a} → {b}" for n, a, b in gate.differences)))
    return Group(*parts)


def _table(gate: Gate) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("verdict", "case", "figure"):
        table.add_column(name, no_wrap=name != "case")
    for name in (*gate.names, "change (95 %)"):
        table.add_column(Text(name), justify="right")
    for outcome in gate.outcomes:
        table.add_row(*_cells(gate, outcome))
    return table


def _cells(gate: Gate, outcome: Outcome) -> list[Text]:
    number = _numbers(gate).get(id(outcome))
    verdict = f"{MARKS[outcome.verdict]} {outcome.verdict}" + (f" [{number}]" if number else "")
    figures = ("", "")
    if outcome.rule:
        figure = outcome.rule.figure
        figures = figure_text(figure, outcome.baseline), figure_text(figure, outcome.candidate)
    texts = (verdict, outcome.title, subject(outcome), *figures, change_text(outcome))
    return [Text(text, style=STYLES.get(outcome.verdict, "") if place == 0 else "") for place, text in enumerate(texts)]


def _numbers(gate: Gate) -> dict[int, int]:
    """Outcome → number of its remark; equal remarks share one."""
    whys = list(dict.fromkeys(outcome.why for outcome in gate.outcomes if outcome.why))
    return {id(outcome): whys.index(outcome.why) + 1 for outcome in gate.outcomes if outcome.why}


def _remarks(gate: Gate) -> list[Text]:
    whys = dict.fromkeys(outcome.why for outcome in gate.outcomes if outcome.why)
    return [Text(f"[{number}] {why}") for number, why in enumerate(whys, 1)]

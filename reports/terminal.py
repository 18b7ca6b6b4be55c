"""A comparison → what `bench compare` prints. Prints nothing by itself; words of a runs file are no markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.comparison import Comparison, Pair
from reports.doubts import by_reason
from reports.figures import counted, memory, milliseconds, quality, ratio, ratio_interval, rows_of

COLOURS = {
    "failed": "red",
    "slower": "red",
    "faster": "green",
    "same": "default",
    "inconclusive": "yellow",
    "not judged": "yellow",
}
UNMATCHED = 12


def comparison_text(found: Comparison) -> RenderableType:
    """What differs first, then the pairs, then what was not compared and the rule of the verdicts."""
    parts: list[RenderableType] = [Text(f"A: {found.names[0]}\nB: {found.names[1]}")]
    parts += [Text(f"compared: {name}: {a} with {b}", style="bold") for name, a, b in found.compared]
    if found.differences:
        parts.append(_plain_table(("differs", "A", "B"), found.differences))
    else:
        parts.append(
            Text("machine, versions, contract and commit (where known) are the same on both sides", style="dim")
        )
    parts.append(Text(""))
    parts.append(_pairs(found) if found.pairs else Text("no case was measured on both sides", style="red"))
    for side, rows in zip("AB", found.unmatched, strict=True):
        if rows:
            parts.append(Text(f"\n{rows_of(len(rows))} of {side} not compared:"))
            parts += [Text(f"  {line}") for line in by_reason(rows)[:UNMATCHED]]
    parts.append(Text(f"\n{counted(found.counts)}", style="bold"))
    parts.append(Text(found.rule, style="dim"))
    return Group(*parts)


def _pairs(found: Comparison) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in ("case", "verdict", "ratio", "95 %", "A", "B", "memory", "PSNR", ""):
        table.add_column(name, overflow="fold", no_wrap=name in ("verdict", "ratio", "95 %", "A", "B"))
    for pair in found.pairs:
        figures = (ratio(pair.ratio), ratio_interval(pair.ratio), milliseconds(pair.a), milliseconds(pair.b))
        verdict = Text(pair.verdict, style=COLOURS[pair.verdict])
        rest = (memory(pair), quality(pair), pair.why)
        table.add_row(Text(_title(pair, found)), verdict, *map(Text, figures), *map(Text, rest))
    return table


def _title(pair: Pair, found: Comparison) -> str:
    return f"{pair.b.model} {pair.b.resolution}: {pair.a.how} → {pair.b.how}" if found.compared else pair.b.title


def _plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table

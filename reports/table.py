"""Runs → the table in the terminal, with what one must know to believe it below. Prints nothing by itself."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.metrics import METRICS, Metric, text
from bench.ways import BACK_TO_BACK
from reports.table_notes import notes

Run = dict[str, Any]


def table_from_runs(runs: Sequence[Run], width: int = 160) -> RenderableType:
    """The table of these runs, in the order given: what all share above it, what one must know to believe it below.

    Args:
        width: columns of the terminal; figures that do not fit are left out, the least needed first, and it is said.
    """
    choices = _worth_showing(runs)
    shared = _shared(runs, choices, width)
    parts: list[RenderableType] = []
    if shared:
        parts.append(_marked("  ".join(f"[bold]{_choice(runs[0], n)}[/]" for n in choices if n in shared)))
    columns = {name: [_choice(run, name) for run in runs] for name in choices if name not in shared}
    figures = _figures(runs)
    columns |= figures
    least = sorted((m for m in METRICS if m.dispensable and m.column in columns), key=lambda m: -m.dispensable)
    dropped = [m.column for m in least if _width(columns) > width and columns.pop(m.column)]
    parts.append(_table(columns, set(figures)))
    parts += [_marked(note) for note in notes(runs)]
    if dropped:
        parts.append(Text(f"{', '.join(dropped)} left out to fit {width} columns; the runs file has all", style="dim"))
    return Group(*parts)


def _worth_showing(runs: Sequence[Run]) -> list[str]:
    """Choices in their order, without those that every run left as they are."""
    return [name for name in _CHOICES if any(_choice(run, name) != _USUAL.get(name) for run in runs)]


def _shared(runs: Sequence[Run], choices: Sequence[str], width: int) -> set[str]:
    """Choices that stand above the table: those that all rows share; of one row alone, all but the engine, and only
    where what is always shown does not fit beside them."""
    agreed = {name for name in choices if len({_choice(run, name) for run in runs}) == 1}
    if len(runs) > 1:
        return agreed
    columns = {name: [_choice(run, name) for run in runs] for name in choices} | _figures(runs)
    for metric in METRICS:
        if metric.dispensable:
            columns.pop(metric.column, None)
    return agreed - {"engine"} if _width(columns) > width else set()


def _choice(run: Run, name: str) -> str:
    return _CHOICES[name](run["case"])


def _table(columns: Mapping[str, Sequence[str]], figures: Container[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for name in columns:
        table.add_column(name, justify="right" if name in figures else "left", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(_marked, row))
    return table


def _marked(text: str) -> Text:
    """Text with our own markup; without emoji codes, which every `conv.cc:100:` in a message would be."""
    return Text.from_markup(text, emoji=False)


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(max(len(name), *(_marked(cell).cell_len for cell in cells)) + 2 for name, cells in columns.items())


def _figures(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Head of a column → a text per run; the first column says so where a run has no figures."""
    first, *others = METRICS
    columns = {first.column: [_status(run, first) for run in runs], "±": [_interval(run) for run in runs]}
    for metric in others:
        cells = [_cell(run, metric) for run in runs]
        if any(cells):
            columns[metric.column] = [
                c or ("–" if r["status"] == "ok" else "") for c, r in zip(cells, runs, strict=True)
            ]
    return columns


def _status(run: Run, metric: Metric) -> str:
    colour = "red" if run["status"] == "failed" else "yellow"
    return _cell(run, metric) if run["status"] == "ok" else f"[{colour}]{run['status']}[/]"


def _cell(run: Run, metric: Metric) -> str:
    shown = text(run, metric) if run["status"] == "ok" else ""
    return "[red]NaN[/]" if shown == "NaN" else shown


def _sizes(case: dict[str, Any]) -> str:
    (_, _, h, w), (_, _, oh, ow) = case["input_shape"], case["output_shape"]
    w, h = case.get("input_picture", (w, h))  # the tensor may be larger: enlarged first, or padded
    return f"{w}x{h}" if (h, w) == (oh, ow) else f"{w}x{h} → {ow}x{oh}"


_CHOICES = {
    "model": lambda case: escape(case["model"]) + ("" if case["trained"] else " [yellow]untrained[/]"),
    "in → out": _sizes,
    "engine": lambda case: escape(case.get("variant", case["engine"])),
    "precision": lambda case: escape(case["precision"]),
    "statistics": lambda case: escape(case["statistics"] or "–"),
    "tile": lambda case: escape(case.get("tile", "off")),
    "way": lambda case: escape(case.get("way", BACK_TO_BACK)),
}
"""Column → its text. A column in which all rows agree moves above the table, so that it fits an 80-column terminal."""
_USUAL = {"tile": "off", "way": BACK_TO_BACK}
"""What need not be said where it holds for every row."""


def _interval(run: Run) -> str:
    if run["status"] != "ok":
        return ""
    latency, mark = run["latency_ms"], " [yellow]![/]" if run["unstable"] else ""
    if not latency["ci95"]:
        return f"none{mark}"
    low, high = latency["ci95"]
    return f"{(high - low) / 2 / latency['p50']:.1%}{mark}"

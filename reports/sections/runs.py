"""Every run as a row of one table that sorts, filters and copies; the contract of each one click away."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from bench.metrics import METRICS, Metric, text
from reports.figures import figure, half_width, original
from reports.markup import Html, facts, region, tag
from reports.report import Report
from reports.row import Row
from reports.sections.verdict import mark, network

TITLE = "All runs"
ORDER = 105
CHOICES = ("network", "size", "engine", "precision", "statistics", "device", "tile", "status")
ALWAYS = 3
"""So many of CHOICES are shown even where all rows have the same."""
MOST_BYTES = 3_500_000
"""Of the rows; those beyond it are in the runs files and in the raw runs."""


def render(report: Report) -> str:
    rows = report.rows
    if not rows:
        return ""
    files = len({row.source for row in rows}) > 1
    metrics = [m for m in METRICS if any(row.ok and text(row.run, m) for row in rows)]
    heads = [*((name, "text") for name in CHOICES), *_figure_heads(metrics), *([("file", "text")] if files else [])]
    same = _same(rows)
    head = tag("tr", *(_head(*each, each[0] in same) for each in heads), tag("th", "contract", scope="col"))
    body = _fitting(_row(row, metrics, files, same) for row in rows)
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="runs")
    said = [tag("p", text) for text in (_beyond(len(body), len(rows)), _shared(same)) if text]
    return tag("div", *said, _controls(len(body)), region("Table of all runs", table, tall=True), class_="sortable")


def _same(rows: Sequence[Row]) -> dict[str, str]:
    """Choices that are the same in all rows, with their value: their columns are hidden, but copied."""
    if len(rows) < 2:
        return {}
    columns = dict(zip(CHOICES, zip(*(_choices(row) for row in rows), strict=True), strict=True))
    return {name: columns[name][0] for name in CHOICES[ALWAYS:] if len(set(columns[name])) == 1}


def _shared(same: Mapping[str, str]) -> str:
    said = ", ".join(f"{name} {given}" for name, given in same.items() if given != "–")
    return f"The same in all rows, and therefore not shown: {said}. It is copied with the table." if said else ""


def _fitting(rows: Iterable[Html]) -> list[Html]:
    found, room = [], MOST_BYTES
    for row in rows:
        room -= len(row.encode())
        if room < 0:
            break
        found.append(row)
    return found


def _beyond(shown: int, count: int) -> str:
    return "" if shown == count else f"The first {shown} of {count} runs; the runs files have the rest."


def _choices(row: Row) -> list[str]:
    """Texts of the columns CHOICES."""
    status = "unstable" if row.ok and row.unstable else row.status
    precision = f"{row.precision} {row.recipe}".strip()
    words = (row.variant, precision, row.statistics, row.device, "" if row.tile == "off" else row.tile)
    size = row.size if row.size == row.resolution else f"{row.resolution} {row.size}"
    return [row.network, size, *(word or "–" for word in words), status]


def _figure_heads(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    if not metrics:
        return []
    first, *others = ((m.column, "number") for m in metrics)
    return [first, ("95 %", "number"), *others]


def _head(name: str, kind: str, hidden: bool) -> Html:
    button = tag("button", name, type="button")
    return tag("th", button, scope="col", data_kind=kind, data_name=name, aria_sort="none", hidden=hidden)


def _controls(count: int) -> Html:
    label = tag("label", "Filter ", tag("input", type="search", placeholder="words, -word to exclude", class_="filter"))
    buttons = [
        tag("button", f"Copy as {name}", type="button", class_="copy", data_table=kind)
        for name, kind in (("Markdown", "markdown"), ("CSV", "csv"))
    ]
    buttons.append(tag("button", "Save runs.csv", type="button", class_="copy", data_save="runs.csv"))
    said = tag("span", f"{count} of {count} rows", class_="count", role="status")
    return tag("p", label, " ", said, " ", *buttons, class_="controls")


def _row(row: Row, metrics: Sequence[Metric], files: bool, same: Mapping[str, str]) -> Html:
    _, _, *words, status = zip(CHOICES, _choices(row), strict=True)
    more = "" if row.size == row.resolution else Html(" " + tag("span", row.size, class_="size"))
    size = tag("td", row.resolution, more, data_v=row.megapixels)
    cells = [tag("td", network(row)), size, *(tag("td", word, hidden=name in same) for name, word in words)]
    cells.append(tag("td", mark(status[1]), hidden="status" in same))
    for place, metric in enumerate(metrics):
        cells.append(_figure(row, metric))
        if place == 0:
            cells.append(tag("td", half_width(row), class_="n", data_v=_half(row)))
    if files:
        cells.append(tag("td", row.source))
    cells.append(tag("td", _contract(row)))
    return tag("tr", *cells, class_=None if row.ok else row.status)


def _figure(row: Row, metric: Metric) -> Html:
    shown = figure(row, metric.key)
    number = row.number(metric.key) if row.ok else None
    if shown == "∞":
        number = 1e300
    return tag("td", shown, class_="n bad" if shown == "NaN" else "n", data_v=None if number is None else repr(number))


def _half(row: Row) -> str | None:
    if row.interval_ms is None or not row.latency_ms:
        return None
    share = (row.interval_ms[1] - row.interval_ms[0]) / 2 / row.latency_ms
    return repr(share) if math.isfinite(share) else None


def _contract(row: Row) -> Html:
    pairs: list[tuple[str, object]] = []
    if row.reason:
        pairs.append((row.status, row.reason))
    if row.unstable:
        pairs.append(("unstable", "; ".join(row.unstable)))
    pairs += [(name.replace("_", " "), given) for name, given in row.contract.items()]
    counts = f"{len(row.medians_ms)} processes" if row.medians_ms else ""
    if row.one_process:
        counts = "1 process; the interval lies within it and says nothing of the next process"
    pairs += [("samples", counts)] if counts else []
    pairs += [("seam of the tiles", row.seam)] if row.seam else []
    pairs += [("original", original(row))] if row.original_db is not None else []
    pairs += [("weights", f"{row.weights} {row.weights_sha256[:12]}".strip()), ("measured", row.time)]
    pairs += [("commit", row.commit[:12])] if row.commit else []
    pairs += [("machine", row.machine_name), ("run", row.id)]
    return tag("details", tag("summary", "show", aria_label=f"show contract of {row.title}"), facts(pairs))

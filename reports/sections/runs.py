"""Every run as a row of one table that sorts, filters and copies; the contract of each one click away."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.metrics import METRICS, Metric, text
from reports.figures import figure, half_width
from reports.markup import Html, facts, region, tag
from reports.report import Report
from reports.row import Row
from reports.sections.verdict import mark, network

TITLE = "All runs"
ORDER = 105
CHOICES = ("network", "size", "engine", "precision", "statistics", "device", "status")


def render(report: Report) -> str:
    rows = report.rows
    if not rows:
        return ""
    files = len({row.source for row in rows}) > 1
    metrics = [m for m in METRICS if any(row.ok and text(row.run, m) for row in rows)]
    heads = [*((name, "text") for name in CHOICES), *_figure_heads(metrics), *([("file", "text")] if files else [])]
    head = tag("tr", *(_head(*each) for each in heads), tag("th", "contract", scope="col"))
    body = tag("tbody", *(_row(row, metrics, files) for row in rows))
    table = tag("table", tag("thead", head), body, class_="runs")
    return tag("div", _controls(len(rows)), region("Table of all runs", table, tall=True), class_="sortable")


def _figure_heads(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    if not metrics:
        return []
    first, *others = ((m.column, "number") for m in metrics)
    return [first, ("95 %", "number"), *others]


def _head(name: str, kind: str) -> Html:
    return tag("th", tag("button", name, type="button"), scope="col", data_kind=kind, data_name=name, aria_sort="none")


def _controls(count: int) -> Html:
    label = tag("label", "Filter ", tag("input", type="search", placeholder="words, -word to exclude", class_="filter"))
    buttons = [
        tag("button", f"Copy as {name}", type="button", class_="copy", data_table=kind)
        for name, kind in (("Markdown", "markdown"), ("CSV", "csv"))
    ]
    said = tag("span", f"{count} of {count} rows", class_="count", role="status")
    return tag("p", label, " ", said, " ", *buttons, class_="controls")


def _row(row: Row, metrics: Sequence[Metric], files: bool) -> Html:
    status = mark("unstable" if row.ok and row.unstable else row.status)
    size = tag("td", row.resolution, " ", tag("span", row.size, class_="size"), data_v=row.megapixels)
    cells = [
        tag("td", network(row)), size,
        *(tag("td", word or "–") for word in (row.variant, row.precision, row.statistics, row.device)),
        tag("td", status),
    ]  # fmt: skip
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
    pairs += [("weights", f"{row.weights} {row.weights_sha256[:12]}".strip()), ("measured", row.time)]
    pairs += [("commit", row.commit[:12])] if row.commit else []
    pairs += [("machine", row.machine_name), ("run", row.id)]
    return tag("details", tag("summary", "show", aria_label=f"show contract of {row.title}"), facts(pairs))

"""Rows → the numbers of every figure, as pandas frames: one line per point drawn, with the id of the run it is from.

What is left out to keep a figure readable is said in its note. Nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from bench.steps import find_steps
from reports.answer import case_key, distinction, distinctions, latest, natural, pareto, subject_key, yardstick
from reports.comparison import judged
from reports.row import Against, Row

PANELS = 12
BARS = 30
LAYERS = 15


@dataclass(frozen=True)
class Series:
    """The numbers of one figure."""

    points: pd.DataFrame
    note: str = ""
    """What the reader must know about the choice of points; empty where all rows are in it."""

    def table(self) -> dict[str, Any]:
        """Columns and rows for JSON; None for what is missing or infinite."""
        rows = [[_plain(cell) for cell in line] for line in self.points.itertuples(index=False)]
        return {"columns": list(self.points.columns), "rows": rows}


def _plain(cell: Any) -> Any:
    cell = cell.item() if hasattr(cell, "item") else cell
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _frame(lines: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(lines))


def _base(row: Row, panel: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "panel": panel,
        "model": row.model,
        "resolution": row.resolution,
        "engine": row.variant,
        "device": row.device,
        "precision": f"{row.precision} {row.recipe}".strip(),
        "statistics": row.statistics,
        "tile": row.tile,
        "megapixels": row.megapixels,
    }


def _panels(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what must be equal to draw a line through them: network, weights, machine and contract."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = subject_key(row)
        groups.setdefault((*key[:3], *key[6:]), []).append(row)
    found = _labelled(groups.values(), lambda row: row.network)
    return dict(sorted(found.items(), key=lambda item: natural(item[0])))


def _labelled(groups: Iterable[list[Row]], name: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Title of a panel → its rows; what is needed to tell panels apart is added, and a number where that fails.

    Args:
        name: what the title begins with, for the first row of a group.
    """
    groups = list(groups)
    heads = [group[0] for group in groups]
    names = [name(row) for row in heads]
    if len({row.machine_key for row in heads}) > 1:
        names = [f"{head}, {row.machine_name}" for head, row in zip(names, heads, strict=True)]
    if varied := distinctions(heads):
        names = [f"{head}, {distinction(row, varied)}" for head, row in zip(names, heads, strict=True)]
    found: dict[str, list[Row]] = {}
    for head, group in zip(names, groups, strict=True):
        number = 2
        title = head
        while title in found:
            title, number = f"{head} ({number})", number + 1
        found[title] = group
    return found


def _most(panels: dict[str, list[Row]], what: str) -> tuple[dict[str, list[Row]], str]:
    """The first PANELS panels, and the sentence that says so where there are more."""
    if len(panels) <= PANELS:
        return panels, ""
    kept = dict(list(panels.items())[:PANELS])
    return kept, f"The first {PANELS} of {len(panels)} {what} are drawn; the table of all runs has the rest."


def _sized(rows: Sequence[Row]) -> tuple[dict[str, list[Row]], str]:
    """Panels of one network at one size, each network's largest size first, as many as fit."""
    by_network = _panels(rows)
    ranked = []
    for name, group in by_network.items():
        sizes = sorted({(row.megapixels, row.resolution) for row in group}, reverse=True)
        for rank, (pixels, resolution) in enumerate(sizes):
            chosen = [r for r in group if (r.megapixels, r.resolution) == (pixels, resolution)]
            ranked.append((rank, f"{name} at {resolution}", chosen))
    ranked.sort(key=lambda item: item[0])
    kept = {title: chosen for _, title, chosen in ranked[:PANELS]}
    left = len(ranked) - len(kept)
    note = f"{left} more pairs of network and size are in the table of all runs." if left else ""
    return dict(sorted(kept.items(), key=lambda item: natural(item[0]))), note


def _drawn(rows: Iterable[Row]) -> tuple[list[Row], str]:
    """Rows with a result that axes can hold, and the sentence that says how many they cannot."""
    able = [row for row in rows if row.ok]
    kept = [row for row in able if not row.absurd]
    left = len(able) - len(kept)
    return kept, f"Left out: {left} with figures that nothing can have." if left else ""


def _both(*notes: str) -> str:
    return " ".join(note for note in notes if note)


def latency(rows: Sequence[Row]) -> Series:
    """Median latency in ms with its 95 % interval over megapixels of output."""
    kept, absurd = _drawn(latest(rows))
    panels, note = _most(_panels(kept), "networks")
    lines = (_latency_line(row, title) for title, group in panels.items() for row in group)
    return Series(_frame(lines), _both(note, absurd))


def _latency_line(row: Row, panel: str) -> dict[str, Any]:
    low, high = row.interval_ms or (None, None)
    return {**_base(row, panel), "latency_ms": row.latency_ms, "low_ms": low, "high_ms": high}


def memory(rows: Sequence[Row]) -> Series:
    """Peak memory in MiB over megapixels of output, and what the machine has; of the process, or of the device."""
    kept, absurd = _drawn(latest(rows))
    panels, note = _most(_panels(kept), "networks")
    lines = []
    for title, group in panels.items():
        for row in group:
            for kind, key, limit in (
                ("host", "memory.host_peak_mib", row.number("machine.memory_mib")),
                ("device", "memory.device_peak_mib", row.device_limit_mib),
            ):
                if (peak := row.number(key)) is not None and peak > 0:
                    lines.append({**_base(row, title), "memory": kind, "peak_mib": peak, "limit_mib": limit})
    return Series(_frame(lines), _both(note, absurd))


def original(rows: Sequence[Row]) -> Series:
    """As `quality`, against the original; `operator_ms`: the time of the operator that the network replaces;
    `baseline_db`: what one has without either."""
    return quality(rows, "original")


def quality(rows: Sequence[Row], against: Against = "reference") -> Series:
    """PSNR in dB over median latency in ms; `front`: not beaten in both. Infinite: identical."""
    kept, absurd = _drawn(latest(rows))
    panels, note = _sized([row for row in kept if row.db(against) is not None])
    lines = []
    for title, group in panels.items():
        front = {row.id for row in pareto(group, against)}
        for row in group:
            db = row.db(against)
            figures: dict[str, Any] = {"latency_ms": row.latency_ms, "psnr_db": db, "identical": math.isinf(db or 0)}
            if against == "original":
                figures |= {"operator": row.operator.name, "operator_ms": row.operator.ms}
                figures |= {"baseline": row.operator.baseline, "baseline_db": row.operator.baseline_db}
            lines.append({**_base(row, title), **figures, "front": row.id in front})
    return Series(_frame(lines), _both(note, absurd))


def speed_up(rows: Sequence[Row]) -> Series:
    """Latency of the yardstick over that of each row: how many times faster.

    The yardstick is eager torch of the same device, or else the slowest row there: devices are not compared here.
    """
    kept, absurd = _drawn(latest(rows))
    panels, note = _sized([row for row in kept if row.variant != "null"])
    lines = []
    alike = [(t, d, [r for r in g if r.device == d]) for t, g in panels.items() for d in sorted({r.device for r in g})]
    for title, device, group in alike:
        base = yardstick(group, device) or max(group, key=lambda row: row.latency_ms or 0.0)
        for row in group if len(group) > 1 else ():
            factor = (base.latency_ms or math.nan) / (row.latency_ms or math.nan)
            lines.append({**_base(row, title), "speed_up": factor, "against": base.how, "against_id": base.id})
    return Series(_frame(lines), _both(note, absurd))


def roofline(rows: Sequence[Row]) -> Series:
    """GFLOP/s reached over FLOP per byte moved at least; a panel per machine, with the peaks measured on it."""
    lines = []
    able, absurd = _drawn(latest(rows))
    for row in able:
        gmac, low_bytes = row.number("work.gmac"), row.number("work.min_bytes")
        if not (gmac and low_bytes and row.latency_ms and row.peaks.get("copy_gb_s")):
            continue
        flop = 2 * gmac * 1e9
        line = {"flop_per_byte": flop / low_bytes, "gflop_per_s": flop / 1e9 / (row.latency_ms / 1e3)}
        peaks = {f"peak_{name}": rate for name, rate in sorted(row.peaks.items())}
        place = row.machine_name if row.device == "cpu" else f"{row.machine_name}, {row.device}"
        lines.append({**_base(row, place), **line, "limit_share": row.number("work.limit_share"), **peaks})
    shown = list(dict.fromkeys(line["panel"] for line in lines))
    kept = set(shown[:PANELS])
    note = f"The first {PANELS} of {len(shown)} machines are drawn." if len(shown) > PANELS else ""
    return Series(_frame(line for line in lines if line["panel"] in kept), _both(note, absurd))


def cold_start(rows: Sequence[Row]) -> Series:
    """Seconds until the first picture is done: export, load, first inference; each row that knows one of them."""
    lines = []
    able, absurd = _drawn(latest(rows))
    for row in able:
        first_ms = row.number("cold_start.first_ms")
        parts = {
            "build_s": row.number("cold_start.build_s"),
            "load_s": row.number("cold_start.load_s"),
            "first_s": None if first_ms is None else first_ms / 1e3,
        }
        if any(part is not None for part in parts.values()):
            total = sum(part or 0.0 for part in parts.values())
            lines.append({**_base(row, row.network), "case": row.title, **parts, "total_s": total})
    lines.sort(key=lambda line: -line["total_s"])
    note = f"The {BARS} longest of {len(lines)}." if len(lines) > BARS else ""
    return Series(_frame(lines[:BARS]), _both(note, absurd))


def history(rows: Sequence[Row]) -> Series:
    """Latency over the commits it was measured at; `step`: faster or slower than at the commit before. Newest last."""
    cases: dict[tuple[object, ...], dict[str, Row]] = {}
    able, absurd = _drawn(rows)
    for row in sorted((row for row in able if row.commit), key=lambda row: row.time):
        cases.setdefault(case_key(row), {})[row.commit] = row
    several = [sorted(found.values(), key=lambda row: row.time) for found in cases.values() if len(found) > 1]
    several.sort(key=lambda group: -abs(math.log((group[-1].latency_ms or 1) / (group[0].latency_ms or 1))))
    note = f"The {PANELS} of {len(several)} cases that changed most." if len(several) > PANELS else ""
    lines = []
    for title, group in _labelled(several[:PANELS], lambda row: row.title).items():
        for order, (row, step) in enumerate(zip(group, _steps(group), strict=True)):
            line = {**_latency_line(row, title), "commit": row.commit, "time": row.time, "order": order}
            lines.append({**line, "step": step})
    return Series(_frame(lines), _both(note, absurd))


def _steps(group: Sequence[Row]) -> list[str]:
    """Per row of a history `faster` or `slower` where it is a step, else empty: the gate's verdict on two neighbours,
    or a change of level that `bench history` would mark."""
    found = [""] * len(group)
    for step in find_steps([row.latency_ms or 0.0 for row in group]):
        found[step.place] = "slower" if step.change > 0 else "faster"
    for place, (before, row) in enumerate(pairwise(group), 1):
        if (verdict := judged(before, row).verdict) in ("faster", "slower"):
            found[place] = verdict
    return found


def layers(rows: Sequence[Row]) -> Series:
    """ms per layer, the longest first, where a run holds `layers`: [{"layer", "kind", "ms"}, ...]. `share`: of
    the sum over all layers of the case, whether drawn or not."""
    lines: list[dict[str, Any]] = []
    groups = _labelled([[row] for row in latest(rows) if row.layers], lambda row: row.title)
    for title, (row,) in list(groups.items())[:PANELS]:
        total = sum(ms for _, _, ms in row.layers) or math.nan
        longest = sorted(row.layers, key=lambda layer: -layer[2])[:LAYERS]
        base = _base(row, title)
        lines += [{**base, "layer": name, "kind": kind, "ms": ms, "share": ms / total} for name, kind, ms in longest]
    notes = [f"The {LAYERS} longest layers of each case."] if any(len(row.layers) > LAYERS for row in rows) else []
    notes += [f"The first {PANELS} of {len(groups)} cases."] if len(groups) > PANELS else []
    return Series(_frame(lines), _both(*notes))

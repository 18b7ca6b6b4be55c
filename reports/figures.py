"""Figures of a row → short texts, the same in page, summary and terminal. The digits are those of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.judge import Ratio
from bench.metrics import METRICS, text
from reports.comparison import Pair
from reports.row import Row

_BY_KEY: Mapping[str, int] = {metric.key: place for place, metric in enumerate(METRICS)}
NONE = "–"
LONGEST = 12
"""Characters of a figure; longer ones, which no measurement gives, are shown with a power of ten."""


def figure(row: Row, key: str) -> str:
    """The figure at a key of METRICS as its table column shows it; a dash where there is none."""
    shown = (text(row.run, METRICS[_BY_KEY[key]]) if row.ok else "") or NONE
    return shown if len(shown) <= LONGEST else f"{row.number(key):.3g}"


def milliseconds(row: Row) -> str:
    return f"{figure(row, 'latency_ms.p50')} ms" if row.ok else row.status


def half_width(row: Row) -> str:
    """Half the 95 % interval as a share of the median."""
    if row.interval_ms is None or not row.latency_ms:
        return "none" if row.ok else NONE
    if row.one_process:
        return "one process"
    low, high = row.interval_ms
    return f"±{(high - low) / 2 / row.latency_ms:.1%}"


def psnr(row: Row) -> str:
    """Against the reference."""
    return "NaN" if row.broken else decibels(row.psnr_db)


def judged(row: Row) -> str:
    """Against what the floor is about, and says so where that is the original."""
    return f"{decibels(row.original_db)} to the original" if row.against == "original" else psnr(row)


def original(row: Row) -> str:
    """What `original_parts` has, in one line."""
    return "; ".join(original_parts(row))


def original_parts(row: Row) -> list[str]:
    """PSNR against the original, then that of what one has without the network and the operator's own time where they
    are known."""
    operator = row.operator
    parts = [decibels(row.original_db)]
    parts += [f"{operator.baseline} {decibels(operator.baseline_db)}"] if operator.baseline else []
    if operator.ms is not None and row.latency_ms:
        name = operator.name or "the operator"
        parts.append(f"{name} itself {operator.ms:.4g} ms, {operator.ms / row.latency_ms:.3g}×")
    return parts


def decibels(number: float | None) -> str:
    if number is None:
        return NONE
    return "∞ dB" if math.isinf(number) else f"{number:.1f} dB"


def ratio(found: Ratio | None) -> str:
    """`0.82×`; the interval is apart."""
    if found is None:
        return NONE
    return f"{found.value:.3f}×" if found.value < 10 else f"{found.value:.1f}×"


def ratio_interval(found: Ratio | None) -> str:
    return NONE if found is None or found.interval is None else f"{found.interval[0]:.3f} to {found.interval[1]:.3f}"


def counted(counts: Mapping[str, int]) -> str:
    """`2 slower, 1 same`."""
    return ", ".join(f"{number} {verdict}" for verdict, number in counts.items()) or "nothing to compare"


def rows_of(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def memory(pair: Pair) -> str:
    return f"{figure(pair.a, 'memory.host_peak_mib')} → {figure(pair.b, 'memory.host_peak_mib')} MiB"


def quality(pair: Pair) -> str:
    """PSNR of A and of B; not where their input pictures differ, for those do not compare."""
    if pair.a.ok and pair.b.ok and not pair.a.same_pictures(pair.b):
        return "other pictures"
    return psnr(pair.a) if psnr(pair.a) == psnr(pair.b) else f"{psnr(pair.a)} → {psnr(pair.b)}"

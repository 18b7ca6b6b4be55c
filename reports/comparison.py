"""Two lists of rows → pairs of like cases with ratios, intervals and verdicts, and what else differs. Prints nothing.

A ratio is always B over A: below 1, B is faster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.judge import welch_interval
from reports.row import Row

MARGIN = 0.05
"""A change of less than this share is called the same."""
Verdict = Literal["failed", "slower", "faster", "same", "inconclusive", "not judged"]
"""failed: the newest run of the case in B has no result; an older one does not take its place."""
VERDICTS: Sequence[Verdict] = ("failed", "slower", "faster", "same", "inconclusive", "not judged")

_GIVEN = ("model", "trained", "weights_sha256", "resolution", "input_shape", "output_shape")
CHOSEN = ("variant", "device", "precision", "statistics", "tile")
"""What a comparison may be about."""
_CONTRACT = ("pre_post_processing", "transfers", "threads", "in_flight", "batch")
"""Parts of the contract that decide what a latency contains; two that differ here are not the same quantity."""


@dataclass(frozen=True)
class Ratio:
    """Latency of B over that of A."""

    value: float
    interval: tuple[float, float] | None
    """95 %; None with fewer than two processes on a side."""


@dataclass(frozen=True)
class Pair:
    """One case on both sides."""

    a: Row
    b: Row
    ratio: Ratio | None
    """None where a side has no result, or one that no clock can give."""
    verdict: Verdict
    why: str
    """Why there is no verdict; empty where there is one."""


@dataclass(frozen=True)
class Comparison:
    """All pairs, the unmatched rows, and what must be known first."""

    names: tuple[str, str]
    pairs: Sequence[Pair]
    unmatched: tuple[Sequence[tuple[Row, str]], Sequence[tuple[Row, str]]]
    """Rows of A and of B that have no partner, each with the reason."""
    differences: Sequence[tuple[str, str, str]]
    """Name, value in A, value in B; of machine, versions, contract and commit. Several values are joined by " | "."""
    compared: Sequence[tuple[str, str, str]]
    """The choice that the comparison is about, and its values in A and in B; empty where both sides chose the same."""
    margin: float

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(pair.verdict for pair in self.pairs)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    def faults(self, floor_db: float) -> dict[str, int]:
        """What makes B no result, whatever its latency: cases that failed, are missing, are broken or lost quality."""
        b = [(pair.a, pair.b) for pair in self.pairs if pair.b.ok]
        failed = sum(pair.verdict == "failed" for pair in self.pairs)
        found = {
            "failed": failed + sum(row.status == "failed" for row, _ in self.unmatched[1]),
            "missing": sum(reason == _NO_PARTNER for row, reason in self.unmatched[0] if row.ok),
            "wrote NaN": sum(row.broken for _, row in b),
            f"fell below {floor_db:g} dB": sum(_above(old, floor_db) and _below(new, floor_db) for old, new in b),
        }
        return {fault: number for fault, number in found.items() if number}


_NO_PARTNER = "no like case on the other side"


def _above(row: Row, floor_db: float) -> bool:
    return row.psnr_db is not None and row.psnr_db >= floor_db


def _below(row: Row, floor_db: float) -> bool:
    return row.psnr_db is not None and row.psnr_db < floor_db


def ratio_of(a: Row, b: Row) -> Ratio:
    """Ratio of the medians, with a 95 % interval over processes (bench.judge.welch_interval).

    The interval is widened to hold the ratio of the medians where the means lie apart.

    Raises:
        ValueError: a side has no latency (our bug).
    """
    if not a.latency_ms or not b.latency_ms:
        raise ValueError(f"no latency to compare: {a.title}, {b.title}")
    point = b.latency_ms / a.latency_ms
    interval = None if a.one_process or b.one_process else welch_interval(a.medians_ms, b.medians_ms)
    return Ratio(point, None if interval is None else (min(point, interval[0]), max(point, interval[1])))


def verdict_of(ratio: Ratio, margin: float, unstable: bool = False) -> Verdict:
    """What a ratio means.

    same: the whole interval lies within the margin. faster, slower: the ratio lies beyond the margin and the interval
    excludes 1; of unstable rows the whole interval must lie beyond the margin, since what disturbed them may have
    moved all processes of a side alike. Everything else is inconclusive. The margin is symmetric: 1/(1+m) to 1+m.
    """
    if ratio.interval is None:
        return "inconclusive"
    low, high = ratio.interval
    least, most = 1 / (1 + margin), 1 + margin
    if least <= low and high <= most and not unstable:
        return "same"
    if ratio.value < least and high < (least if unstable else 1):
        return "faster"
    if ratio.value > most and low > (most if unstable else 1):
        return "slower"
    return "inconclusive"


def compare_rows(
    a: Sequence[Row],
    b: Sequence[Row],
    names: tuple[str, str] = ("A", "B"),
    margin: float = MARGIN,
    across_machines: bool = False,
) -> Comparison:
    """Pairs every case of A with the like case of B.

    Where all rows of A share one engine (device, precision, statistics, tile) and all of B share another, that choice
    is what the comparison is about; everything else must be equal.

    Args:
        across_machines: give verdicts on rows of different machines too.
    """
    compared = _compared(a, b)
    ignored = {name for name, _, _ in compared}
    sides = [_by_case(rows, ignored) for rows in (a, b)]
    pairs = [
        judged(sides[0][key], row, margin, across_machines)
        for key, row in sides[1].items()
        if key in sides[0] and sides[0][key].id != row.id
    ]
    rank = {verdict: place for place, verdict in enumerate(VERDICTS)}
    pairs.sort(key=lambda pair: (rank[pair.verdict], -_size(pair), pair.b.title))
    used = {row.id for pair in pairs for row in (pair.a, pair.b)}
    unmatched = (_unmatched(a, used, sides[0], sides[1], ignored), _unmatched(b, used, sides[1], sides[0], ignored))
    return Comparison(names, pairs, unmatched, _differences(*_concerned(a, b, used)), compared, margin)


def _compared(a: Sequence[Row], b: Sequence[Row]) -> list[tuple[str, str, str]]:
    found = []
    for name in CHOSEN:
        values = [{getattr(row, name) for row in rows if row.ok} for rows in (a, b)]
        if len(values[0]) == len(values[1]) == 1 and values[0] != values[1]:
            found.append((name, next(iter(values[0])) or "none", next(iter(values[1])) or "none"))
    return found


def _key(row: Row, ignored: Iterable[str]) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in (*_GIVEN, *CHOSEN) if name not in ignored)


def _by_case(rows: Iterable[Row], ignored: Iterable[str]) -> dict[tuple[object, ...], Row]:
    """The newest run of every case, failed or not; one that was skipped is no run where there is another."""
    ordered = sorted(rows, key=lambda row: (row.status != "skipped", row.time))
    return {_key(row, ignored): row for row in ordered}


def _size(pair: Pair) -> float:
    """How far from 1 the ratio is, either way."""
    return 0.0 if pair.ratio is None else abs(math.log(pair.ratio.value))


def judged(a: Row, b: Row, margin: float = MARGIN, across_machines: bool = False) -> Pair:
    """Two runs of like cases with their verdict; without one where a run, the machine or the contract forbids it."""
    for side, row in (("B", b), ("A", a)):
        if not row.ok:
            why = f"{side} {row.status}: {row.reason or 'no reason given'}"
            return Pair(a, b, None, "failed" if side == "B" and row.status == "failed" else "not judged", why)
        if row.absurd:
            return Pair(a, b, None, "not judged", f"{side} holds a figure that cannot be: {row.absurd}")
    ratio = ratio_of(a, b)
    if a.machine_key != b.machine_key and not across_machines:
        return Pair(a, b, ratio, "not judged", "measured on different machines")
    differing = [name for name in _CONTRACT if a.contract.get(name) != b.contract.get(name)]
    if differing:
        parts = (f"{n} {a.contract.get(n, 'not stated')} → {b.contract.get(n, 'not stated')}" for n in differing)
        return Pair(a, b, ratio, "not judged", f"the contract differs: {'; '.join(parts)}")
    verdict = verdict_of(ratio, margin, unstable=bool(a.unstable or b.unstable))
    return Pair(a, b, ratio, verdict, _why(a, b, ratio) if verdict == "inconclusive" else "")


def _why(a: Row, b: Row, ratio: Ratio) -> str:
    if ratio.interval is None:
        counts = " and ".join("1" if row.one_process else str(len(row.medians_ms)) for row in (a, b))
        return f"an interval needs two processes or more on each side; there are {counts}"
    if a.unstable or b.unstable:
        return f"{'both sides are' if a.unstable and b.unstable else 'one side is'} unstable"
    return "the interval is too wide to tell"


def _unmatched(
    rows: Iterable[Row],
    used: set[str],
    own: dict[tuple[object, ...], Row],
    other: dict[tuple[object, ...], Row],
    ignored: Iterable[str],
) -> list[tuple[Row, str]]:
    found = []
    for row in rows:
        if row.id in used:
            continue
        key = _key(row, ignored)
        if own.get(key) is not row:
            reason = "a later run of the same case stands in its place"
        elif not row.ok:
            reason = f"{row.status}: {row.reason}"
        elif key in other:
            reason = "the same run is on both sides"
        else:
            reason = _NO_PARTNER
        found.append((row, reason))
    return found


def _concerned(a: Sequence[Row], b: Sequence[Row], used: set[str]) -> tuple[Sequence[Row], Sequence[Row]]:
    """The rows that stand in pairs; all of them where there are none, for then one wants to know why."""
    return ([r for r in a if r.id in used], [r for r in b if r.id in used]) if used else (a, b)


def _differences(a: Sequence[Row], b: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Facts whose set of values is not the same on both sides: machine, versions, contract, commit, pictures."""
    found = []
    for kind in ("machine", "versions", "contract"):
        names = dict.fromkeys(name for row in (*a, *b) if row.ok for name in getattr(row, kind))
        for name in names:
            values = [_values(getattr(row, kind).get(name, "none") for row in rows if row.ok) for rows in (a, b)]
            if values[0] != values[1]:
                found.append((f"{kind}: {name}", values[0], values[1]))
    for name in ("commit", "weights"):
        values = [_values(getattr(row, name) or "unknown" for row in rows if row.ok) for rows in (a, b)]
        if values[0] != values[1]:
            found.append((name, values[0], values[1]))
    values = [_values(row.pictures for row in rows if row.ok) for rows in (a, b)]
    return [*found, ("input pictures", values[0], values[1])] if values[0] != values[1] else found


def _values(values: Iterable[str]) -> str:
    return " | ".join(sorted(set(values))) or "nothing measured"

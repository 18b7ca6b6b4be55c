"""Two lists of rows → pairs of like cases with ratios, intervals and verdicts, and what else differs. Prints nothing.

A ratio is always B over A: below 1, B is faster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

from bench.stats import CONFIDENCE
from reports.row import Row

MARGIN = 0.05
"""A change of less than this share is called the same."""
Verdict = Literal["faster", "same", "slower", "inconclusive", "not judged"]
VERDICTS: Sequence[Verdict] = ("slower", "faster", "same", "inconclusive", "not judged")

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
    ratio: Ratio
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


def ratio_of(a: Row, b: Row) -> Ratio:
    """Ratio of the medians, with a 95 % interval over processes.

    Welch's t interval of the difference of the mean logarithms of the processes' medians, which need neither be
    equally many nor equally spread on both sides; widened to hold the ratio of the medians where the means lie apart.

    Raises:
        ValueError: a side has no latency (our bug).
    Source: B. L. Welch, "The generalization of Student's problem", Biometrika 34, 1947.
    """
    if not a.latency_ms or not b.latency_ms:
        raise ValueError(f"no latency to compare: {a.title}, {b.title}")
    point = b.latency_ms / a.latency_ms
    logs = [[math.log(sample) for sample in row.medians_ms] for row in (a, b)]
    if min(map(len, logs)) < 2:
        return Ratio(point, None)
    centre = fmean(logs[1]) - fmean(logs[0])
    half = _welch_half_width(*logs)
    return Ratio(point, (min(point, math.exp(centre - half)), max(point, math.exp(centre + half))))


def _welch_half_width(a: Sequence[float], b: Sequence[float]) -> float:
    """Half the 95 % interval of the difference of two means."""
    from scipy.stats import t

    shares = [variance(side) / len(side) for side in (a, b)]
    total = sum(shares)
    if total <= 0:
        return 0.0
    degrees = total**2 / sum(s**2 / (len(side) - 1) for s, side in zip(shares, (a, b), strict=True))
    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees)) * math.sqrt(total)


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
        _judged(sides[0][key], row, margin, across_machines)
        for key, row in sides[1].items()
        if key in sides[0] and sides[0][key].id != row.id
    ]
    rank = {verdict: place for place, verdict in enumerate(VERDICTS)}
    pairs.sort(key=lambda pair: (rank[pair.verdict], -abs(math.log(pair.ratio.value)), pair.b.title))
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
    """The last result by time of every case."""
    ordered = sorted((row for row in rows if row.ok), key=lambda row: row.time)
    return {_key(row, ignored): row for row in ordered}


def _judged(a: Row, b: Row, margin: float, across_machines: bool) -> Pair:
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
        counts = f"{len(a.medians_ms)} and {len(b.medians_ms)}"
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
        if not row.ok:
            reason = f"{row.status}: {row.reason}"
        elif own.get(key) is not row:
            reason = "a later run of the same case stands in its place"
        elif key in other:
            reason = "the same run is on both sides"
        else:
            reason = "no like case on the other side"
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
    return found


def _values(values: Iterable[str]) -> str:
    return " | ".join(sorted(set(values))) or "nothing measured"

"""Two lists of rows → pairs of like cases with ratios, intervals and verdicts, and what else differs. Prints nothing.

A ratio is always B over A: below 1, B is faster. The verdict is that of the gate (bench/gate.py), in other words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench import gate
from bench.judge import GUARD, Ratio
from bench.rules import FIGURES, Rule
from reports.row import Row

MARGIN = 0.05
"""Nothing slower by less than this share is called slower."""
Verdict = Literal["failed", "slower", "faster", "same", "inconclusive", "not judged"]
"""failed: the newest run of the case in B has no result; an older one does not take its place."""
VERDICTS: Sequence[Verdict] = ("failed", "slower", "faster", "same", "inconclusive", "not judged")

_GIVEN = ("model", "trained", "weights_sha256", "resolution", "input_shape", "output_shape")
CHOSEN = ("variant", "device", "precision", "recipe", "statistics", "tile")
"""What a comparison may be about."""
_CONTRACT = ("way", "pre_post_processing", "transfers", "threads", "in_flight", "batch")
"""Parts of the contract that decide what a latency contains, whatever the engine; of like cases all parts count."""
_WORDS: dict[str, Verdict] = {"worse": "slower", "better": "faster", "same": "same", "inconclusive": "inconclusive"}


@dataclass(frozen=True)
class Pair:
    """One case on both sides."""

    a: Row
    b: Row
    ratio: Ratio | None
    """None where a side has no result, or one that no clock can give."""
    verdict: Verdict
    why: str
    """What the verdict rests on or lacks; empty where nothing needs to be said."""


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

    @property
    def rule(self) -> str:
        """What the verdicts mean."""
        margin, guard = f"{100 * self.margin:g}", f"{100 * GUARD * self.margin:g}"
        return (
            "Ratios are B over A: below 1, B is faster. The rule is that of "
            f"`bench gate --max latency:{margin}%`. Slower or faster: the ratio lies beyond {margin} %, and its whole "
            f"95 % interval over processes beyond {guard} %. Same: nothing in the interval is slower by more than "
            f"{margin} %. All else is inconclusive, and so are fewer than 4 processes on a side. The interval is "
            "wider where a row is unstable, and reaches further where the machine's own rate changed between A and B. "
            "Failed: the newest run of the case in B has no result, whatever an older one says."
        )

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
    return row.judged_db is not None and row.judged_db >= floor_db


def _below(row: Row, floor_db: float) -> bool:
    return row.judged_db is not None and row.judged_db < floor_db


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
        judged(sides[0][key], row, margin, across_machines, bool(compared))
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
            plain = "the usual" if name == "recipe" else "none"
            found.append((name, next(iter(values[0])) or plain, next(iter(values[1])) or plain))
    return found


def _key(row: Row, ignored: Iterable[str]) -> tuple[object, ...]:
    return (*(getattr(row, name) for name in (*_GIVEN, *CHOSEN) if name not in ignored), row.contract.get("way", ""))


def _by_case(rows: Iterable[Row], ignored: Iterable[str]) -> dict[tuple[object, ...], Row]:
    """The newest run of every case, failed or not; one that was skipped is no run where there is another."""
    ordered = sorted(rows, key=lambda row: (row.status != "skipped", row.time))
    return {_key(row, ignored): row for row in ordered}


def _size(pair: Pair) -> float:
    """How far from 1 the ratio is, either way."""
    return 0.0 if pair.ratio is None else abs(math.log(pair.ratio.value))


def judged(a: Row, b: Row, margin: float = MARGIN, across_machines: bool = False, across_choices: bool = False) -> Pair:
    """Two runs with their verdict; without one where a run, the machine or the contract forbids it.

    Args:
        across_choices: the two differ in what they chose: what their engines' contracts need not share may differ.
    """
    for side, row in (("B", b), ("A", a)):
        if not row.ok:
            why = f"{side} {row.status}: {row.reason or 'no reason given'}"
            return Pair(a, b, None, "failed" if side == "B" and row.status == "failed" else "not judged", why)
        if row.absurd:
            return Pair(a, b, None, "not judged", f"{side} holds a figure that cannot be: {row.absurd}")
    said = gate.judge_latency(a.run, b.run, Rule(FIGURES[0], margin, relative=True), gate.Terms(sides=("A", "B")))
    if said.change is None:
        return Pair(a, b, None, "not judged", said.why)
    interval = None if said.interval is None else (1 + said.interval[0], 1 + said.interval[1])
    ratio = Ratio(1 + said.change, interval)
    if refused := _refusal(a, b, across_machines, across_choices):
        return Pair(a, b, ratio, "not judged", refused)
    return Pair(a, b, ratio, _WORDS[said.verdict], said.why)


def _refusal(a: Row, b: Row, across_machines: bool, across_choices: bool) -> str:
    """Why no verdict may be given, empty where nothing speaks against it; as the gate refuses (bench/pairing.py)."""
    if a.machine_key != b.machine_key and not across_machines:
        return "measured on different machines"
    names = _CONTRACT if across_choices else sorted(a.contract.keys() & b.contract.keys())
    apart = [(n, a.contract.get(n, "not stated"), b.contract.get(n, "not stated")) for n in names]
    if differing := [f"{name} {x} → {y}" for name, x, y in apart if x != y]:
        return f"the contract differs: {'; '.join(differing)}"
    return ""


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

"""Rows → what a reader must know before believing them: failures, instability, untrained weights, mixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from reports.answer import FLOOR_DB, Answer, answers, case_key
from reports.figures import milliseconds, rows_of
from reports.row import MACHINE_FACTS, Row

PEAKS_APART = 1.1
"""The largest rate of one machine over its smallest beyond which its runs were not made under equal conditions."""


@dataclass(frozen=True)
class Doubt:
    """One reason for care."""

    kind: str
    """One word: failed, broken, absurd, unstable, outdated, repeated, single, untrained, skipped, mixed, peaks,
    interrupted, seams, pictures or commit."""
    severe: bool
    """A number is missing or wrong, not only less certain."""
    text: str
    """A sentence."""
    cases: Sequence[str]
    """What it concerns: a case with its reason, or the values that are mixed."""


def doubts(rows: Sequence[Row], floor_db: float = FLOOR_DB) -> list[Doubt]:
    """All of them, the severe ones first.

    Args:
        floor_db: PSNR that an answer keeps: an unstable row that is an answer is a severe doubt.
    """
    found = [doubt for make in _MAKERS for doubt in make(rows)]
    chosen = answers(rows, floor_db)
    found += [*_unstable(rows, chosen), *_outdated(chosen)]
    return sorted(found, key=lambda doubt: not doubt.severe)


def _count(rows: Sequence[Row], all_rows: Sequence[Row], what: str) -> str:
    return f"{len(rows)} of {rows_of(len(all_rows))} {what}"


def _failed(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.status == "failed"]:
        yield Doubt("failed", True, _count(chosen, rows, "failed."), by_reason((row, row.reason) for row in chosen))


def _broken(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.broken]:
        text = _count(chosen, rows, "wrote NaN or infinity: the output is not usable.")
        yield Doubt("broken", True, text, [row.title for row in chosen])


def _untrained(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if not row.trained]:
        text = _count(chosen, rows, "untrained: PSNR and SSIM say only that engines agree, not what the network does.")
        text += " A device that saves power on zeros may look faster than with real weights."
        yield Doubt("untrained", True, text, sorted({row.model for row in chosen}))


def _absurd(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.absurd]:
        text = _count(chosen, rows, "with a figure that nothing can have: not drawn, not compared, no answer.")
        yield Doubt("absurd", True, text, by_reason((row, row.absurd) for row in chosen))


def _unstable(rows: Sequence[Row], found: Sequence[Answer]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.ok and row.unstable]:
        best = {answer.best.id for answer in found if answer.best}
        chosen.sort(key=lambda row: row.id not in best)
        hit = sum(row.id in best for row in chosen)
        text = _count(chosen, rows, "unstable: a difference between them may be the machine's.")
        text += f" {hit} of them {'is an answer' if hit == 1 else 'are answers'}." if hit else ""
        yield Doubt("unstable", hit > 0, text, [f"{row.title}: {'; '.join(row.unstable)}" for row in chosen])


def _outdated(found: Sequence[Answer]) -> Iterable[Doubt]:
    if chosen := [a.best for a in found if a.best and a.best.id in a.failed_since]:
        text = f"{len(chosen)} of {len(found)} answers from an older run: the newest run of the case failed."
        yield Doubt("outdated", True, text, [row.title for row in chosen])


def _repeated(rows: Sequence[Row]) -> Iterable[Doubt]:
    """Where a file has a case more than once; one run in each of two files is what files are compared for."""
    cases: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.ok:
            cases.setdefault(case_key(row), []).append(row)
    again = [found for found in cases.values() if len({row.place for row in found}) < len(found)]
    if again:
        count = sum(len(found) - 1 for found in again)
        text = (
            f"{count} of {rows_of(len(rows))} measured again later: answers and figures show the last run of each case."
        )
        lines = [f"{found[0].title}: {_in_order(found)}" for found in again]
        yield Doubt("repeated", False, text, lines)


def _in_order(rows: Sequence[Row]) -> str:
    ordered = sorted(rows, key=lambda row: (row.place, row.time))
    return ", then ".join(f"{milliseconds(row)} ({row.time})" for row in ordered)


def _single(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.one_process]:
        text = _count(chosen, rows, "measured by one process: the next may differ by more than any interval shown.")
        yield Doubt("single", False, text, [row.title for row in chosen])


def _peaks(rows: Sequence[Row]) -> Iterable[Doubt]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for name, rate in row.peaks.items() if row.ok and not row.absurd else ():
            found.setdefault((f"{row.machine_name} {row.device}", name), []).append(rate)
    apart = {key: rates for key, rates in found.items() if max(rates) > PEAKS_APART * min(rates)}
    if apart:
        lines = [f"{place}: {name} {min(rates):.0f} to {max(rates):.0f}" for (place, name), rates in apart.items()]
        text = "The measured peaks of one machine differ by more than 10 %: something slowed it in some runs."
        yield Doubt("peaks", False, text, lines)


def _interrupted(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.run.get("interrupted") is True]:
        yield Doubt("interrupted", False, _count(chosen, rows, "interrupted."), [row.title for row in chosen])


def _skipped(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.status == "skipped"]:
        text = _count(chosen, rows, "skipped: not measured.")
        yield Doubt("skipped", False, text, by_reason((row, row.reason) for row in chosen))


def _seams(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.seam]:
        text = _count(chosen, rows, "computed in tiles: the error at their borders against that elsewhere.")
        yield Doubt("seams", False, text, by_reason((row, row.seam) for row in chosen))


def _pictures(rows: Sequence[Row]) -> Iterable[Doubt]:
    if len(found := {row.pictures for row in rows if row.ok}) > 1:
        text = f"{len(found)} different sets of input pictures: PSNR and SSIM of different pictures do not compare."
        yield Doubt("pictures", False, text, sorted(found))


def _dirty(rows: Sequence[Row]) -> Iterable[Doubt]:
    if found := sorted({row.commit for row in rows if row.commit.endswith("+dirty")}):
        yield Doubt("commit", False, "Measured from a checkout with changes that were not committed.", found)


def _machines(rows: Sequence[Row]) -> Iterable[Doubt]:
    heads = {row.machine_key: row.machine for row in rows if row.ok}
    if len(heads) > 1:
        differing = [name for name in MACHINE_FACTS if len({m.get(name, "") for m in heads.values()}) > 1]
        lines = [
            ", ".join(f"{name.replace('_', ' ')} {m.get(name, 'none')}" for name in differing) for m in heads.values()
        ]
        yield Doubt("mixed", True, f"{len(heads)} different machines in one report.", sorted(lines))


def _mixed(rows: Sequence[Row]) -> Iterable[Doubt]:
    for name, severe, of in _MIXTURES:
        values = {of(row) for row in rows if row.ok} - {""}
        if len(values) > 1:
            yield Doubt("mixed", severe, f"{len(values)} different {name} in one report.", sorted(values))


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(row.versions.items()))


def _contract(row: Row) -> str:
    return ", ".join(f"{name} {row.contract[name]}" for name in _CONTRACT if name in row.contract)


_CONTRACT = ("way", "threads", "batch", "in_flight", "transfers", "pre_post_processing")
_MIXTURES: Sequence[tuple[str, bool, Callable[[Row], str]]] = (
    ("contracts", True, _contract),
    ("sets of library versions", False, _versions),
    ("commits", False, lambda row: row.commit.removesuffix("+dirty")),
)


def by_reason(rows: Iterable[tuple[Row, str]]) -> list[str]:
    """`case, case: reason`; cases with the same reason together, so that hundreds of rows stay readable."""
    groups: dict[str, list[str]] = {}
    for row, reason in rows:
        groups.setdefault(reason, []).append(row.title)
    return [f"{_listed(titles)}: {text or 'no reason given'}" for text, titles in groups.items()]


def _listed(titles: Sequence[str], most: int = 6) -> str:
    rest = len(titles) - most
    return ", ".join(titles[:most]) + (f" and {rest} more" if rest > 0 else "")


_MAKERS: Sequence[Callable[[Sequence[Row]], Iterable[Doubt]]] = (
    _failed, _broken, _absurd, _untrained, _machines, _mixed,
    _repeated, _single, _interrupted, _seams, _pictures, _peaks, _dirty, _skipped,
)  # fmt: skip

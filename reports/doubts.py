"""Rows → what a reader must know before believing them: failures, instability, untrained weights, mixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from reports.figures import rows_of
from reports.row import Row, clean


@dataclass(frozen=True)
class Doubt:
    """One reason for care."""

    kind: str
    """One word: failed, broken, unstable, untrained, skipped, mixed, interrupted, pictures or commit."""
    severe: bool
    """A number is missing or wrong, not only less certain."""
    text: str
    """A sentence."""
    cases: Sequence[str]
    """What it concerns: a case with its reason, or the values that are mixed."""


def doubts(rows: Sequence[Row]) -> list[Doubt]:
    """All of them, the severe ones first."""
    found = [doubt for make in _MAKERS for doubt in make(rows)]
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


def _unstable(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.ok and row.unstable]:
        text = _count(chosen, rows, "unstable: a difference between them may be the machine's.")
        yield Doubt("unstable", False, text, [f"{row.title}: {'; '.join(row.unstable)}" for row in chosen])


def _interrupted(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.run.get("interrupted") is True]:
        yield Doubt("interrupted", False, _count(chosen, rows, "interrupted."), [row.title for row in chosen])


def _skipped(rows: Sequence[Row]) -> Iterable[Doubt]:
    if chosen := [row for row in rows if row.status == "skipped"]:
        text = _count(chosen, rows, "skipped: not measured.")
        yield Doubt("skipped", False, text, by_reason((row, row.reason) for row in chosen))


def _pictures(rows: Sequence[Row]) -> Iterable[Doubt]:
    if len(found := {_picture_names(row) for row in rows if row.ok}) > 1:
        text = f"{len(found)} different sets of input pictures: PSNR and SSIM of different pictures do not compare."
        yield Doubt("pictures", False, text, sorted(found))


def _picture_names(row: Row) -> str:
    """Names, with what else a run says of each picture (its digest)."""
    found = row.run.get("pictures")
    if not isinstance(found, list):
        return "not named"
    return ", ".join(clean(" ".join(map(str, each)) if isinstance(each, list) else str(each)) for each in found[:20])


def _dirty(rows: Sequence[Row]) -> Iterable[Doubt]:
    if found := sorted({row.commit for row in rows if row.commit.endswith("+dirty")}):
        yield Doubt("commit", False, "Measured from a checkout with changes that were not committed.", found)


def _mixed(rows: Sequence[Row]) -> Iterable[Doubt]:
    for name, severe, of in _MIXTURES:
        values = {of(row) for row in rows if row.ok} - {""}
        if len(values) > 1:
            yield Doubt("mixed", severe, f"{len(values)} different {name} in one report.", sorted(values))


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(row.versions.items()))


def _contract(row: Row) -> str:
    return ", ".join(f"{name} {row.contract[name]}" for name in _CONTRACT if name in row.contract)


_CONTRACT = ("threads", "batch", "in_flight", "transfers", "pre_post_processing")
_MIXTURES: Sequence[tuple[str, bool, Callable[[Row], str]]] = (
    ("machines", True, lambda row: row.machine_name),
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
    _failed, _broken, _untrained, _mixed, _unstable, _interrupted, _pictures, _dirty, _skipped,
)  # fmt: skip

"""Rows → the answer first: per network, size and machine the fastest row that keeps a stated quality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.comparison import CHOSEN
from reports.row import Against, Row

FLOOR_DB = 45.0
"""PSNR that a row must keep to be an answer, unless another is asked for."""
YARDSTICK = "torch_eager"
"""The engine that others are compared with, where it was measured."""


CONDITIONS = ("threads", "batch", "in_flight", "way", "weights")
"""Besides network, size and machine what makes two answers two questions."""


@dataclass(frozen=True)
class Answer:
    """What to use for one network at one size on one machine."""

    rows: Sequence[Row]
    """All rows of this network, size and machine, the fastest first."""
    best: Row | None
    """None where no row keeps the floor."""
    close: Sequence[Row]
    """Rows that keep the floor too and whose intervals overlap that of the best: not told apart."""
    yardstick: Row | None
    """Of the same device as the best."""
    failed_since: frozenset[str] = frozenset()
    """Ids of rows whose case failed when it was last run."""

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def speed_up(self) -> float | None:
        """The yardstick's latency over the best row's."""
        if not (self.best and self.yardstick and self.best.latency_ms and self.yardstick.latency_ms):
            return None
        return self.yardstick.latency_ms / self.best.latency_ms

    @property
    def cautions(self) -> list[str]:
        """What a reader must see beside the name of the best row."""
        if self.best is None:
            return []
        since = ["its newest run failed"] if self.best.id in self.failed_since else []
        single = ["one process"] if self.best.one_process else []
        return [*since, *(["unstable"] if self.best.unstable else []), *single]

    @property
    def too_coarse(self) -> list[Row]:
        """Rows faster than the best that were judged and do not keep the floor: what the floor costs. Fastest first."""
        before = self.rows[: self.rows.index(self.best)] if self.best else ()
        return [row for row in before if row.judged_db is not None and not (row.broken or row.absurd)]

    @property
    def nearest(self) -> Row | None:
        """The row of the highest quality, where none keeps the floor."""
        judged = [row for row in self.rows if row.judged_db is not None]
        return max(judged, key=lambda row: row.judged_db or 0.0, default=None)


def case_key(row: Row) -> tuple[object, ...]:
    """Equal for two measurements of the same case on the same machine."""
    return (*subject_key(row), *(getattr(row, name) for name in CHOSEN))


def subject_key(row: Row) -> tuple[object, ...]:
    """What is given: network, weights, size, machine, threads and batch. The rest is what one chooses."""
    contract = tuple(row.contract.get(name, "") for name in ("threads", "in_flight", "batch", "way"))
    weights = row.weights_sha256 if row.trained else ""
    return row.model, row.trained, weights, row.resolution, row.input_shape, row.output_shape, row.machine_key, contract


def distinctions(rows: Iterable[Row]) -> list[str]:
    """Those of CONDITIONS that vary among these rows of one network on one machine: what lines must name to differ."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((row.model, row.trained, row.machine_key), []).append(row)
    groups = found.values()
    return [name for name in CONDITIONS if any(len({_condition(row, name) for row in group}) > 1 for group in groups)]


def distinction(row: Row, varied: Iterable[str]) -> str:
    """`threads 4, batch 1`: the row's values of these conditions."""
    return ", ".join(f"{name.replace('_', ' ')} {_condition(row, name)}" for name in varied)


def _condition(row: Row, name: str) -> str:
    if name == "weights":
        return f"{row.weights} {row.weights_sha256[:8]}".strip() if row.trained else "untrained"
    return row.contract.get(name, "back to back" if name == "way" else "not stated")


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of rows of the same case the one of the last file, and there the last by time; in the order given.

    A row with a result is not replaced by a later one without: that is a failure to tell of, not a new result.
    """
    found: dict[tuple[object, ...], Row] = {}
    for row in rows:
        other = found.get(case_key(row))
        if other is None or (row.ok, row.place, row.time) >= (other.ok, other.place, other.time):
            found[case_key(row)] = row
    return list(found.values())


def failed_since(rows: Iterable[Row]) -> frozenset[str]:
    """Ids of the rows of `latest` that have a result and whose case failed when it was run again."""
    rows = list(rows)
    chosen = {case_key(row): row for row in latest(rows)}
    return frozenset(
        chosen[case_key(row)].id
        for row in rows
        if row.status == "failed"
        and (other := chosen[case_key(row)]).ok
        and (row.place, row.time) > (other.place, other.time)
    )


def keeps(row: Row, floor_db: float) -> bool:
    """Whether the row has a result of the stated quality; one that was not judged has not shown it."""
    return row.ok and not row.broken and not row.absurd and row.judged_db is not None and row.judged_db >= floor_db


def answers(rows: Iterable[Row], floor_db: float = FLOOR_DB) -> list[Answer]:
    """One per network, size and machine that has a result; by model, then by size."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    rows = list(rows)
    since = failed_since(rows)
    for row in latest(rows):
        if row.ok:
            groups.setdefault(subject_key(row), []).append(row)
    found = [_answer(sorted(group, key=lambda r: r.latency_ms or 0.0), floor_db, since) for group in groups.values()]
    return sorted(found, key=lambda a: (natural(a.first.network), a.first.machine_key, a.first.megapixels))


def natural(name: str) -> tuple[object, ...]:
    """Sorts net2 before net10."""
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else part) for part in re.split(r"(\d+)", name))


def _answer(group: Sequence[Row], floor_db: float, since: frozenset[str]) -> Answer:
    able = [row for row in group if keeps(row, floor_db)]
    best = able[0] if able else None
    close = [row for row in able[1:] if not _told_apart(able[0], row)]
    return Answer(group, best, close, yardstick(group, (best or group[0]).device), since)


def yardstick(rows: Iterable[Row], device: str) -> Row | None:
    """The row of eager torch in fp32 with the network's first kind of statistics; None where it was not measured.

    Of the same device: another device's figure would say more of the devices than of the engines.
    """
    found = [
        row
        for row in rows
        if row.variant == YARDSTICK and row.precision == "fp32" and row.device == device and row.ok and not row.absurd
    ]
    return next((row for row in found if row.statistics in ("", "image")), found[0] if found else None)


def _told_apart(best: Row, other: Row) -> bool:
    """Whether the intervals lie apart, as in the table of `bench run`; that of one process says nothing of the next."""
    if best.interval_ms is None or other.interval_ms is None or best.one_process or other.one_process:
        return False
    return best.interval_ms[1] < other.interval_ms[0]


def pareto(rows: Iterable[Row], against: Against = "reference") -> list[Row]:
    """The rows that no other beats in both latency and quality, the fastest first; unjudged ones are left out."""
    judged = [(row, db) for row in rows if row.ok and row.latency_ms and (db := row.db(against)) is not None]
    front: list[tuple[Row, float]] = []
    for row, db in sorted(judged, key=lambda item: (item[0].latency_ms or 0.0, -item[1])):
        if not front or db > front[-1][1]:
            front.append((row, db))
    return [row for row, _ in front]

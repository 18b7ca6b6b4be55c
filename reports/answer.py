"""Rows → the answer first: per network, size and machine the fastest row that keeps a stated quality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.row import Row

FLOOR_DB = 45.0
"""PSNR against the reference that a row must keep to be an answer, unless another is asked for."""
YARDSTICK = "torch_eager"
"""The engine that others are compared with, where it was measured."""


@dataclass(frozen=True)
class Answer:
    """What to use for one network at one size on one machine."""

    rows: Sequence[Row]
    """All rows of this network, size and machine, the fastest first."""
    best: Row | None
    """None where no row keeps the floor."""
    close: Sequence[Row]
    """Rows that keep the floor too and whose intervals overlap that of the best: not told apart by these runs."""
    yardstick: Row | None

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
    def nearest(self) -> Row | None:
        """The row of the highest quality, where none keeps the floor."""
        judged = [row for row in self.rows if row.psnr_db is not None]
        return max(judged, key=lambda row: row.psnr_db or 0.0, default=None)


def case_key(row: Row) -> tuple[object, ...]:
    """Equal for two measurements of the same case on the same machine."""
    return (*subject_key(row), row.variant, row.device, row.precision, row.statistics, row.tile)


def subject_key(row: Row) -> tuple[object, ...]:
    """What is given: network, weights, size, machine, threads and batch. The rest is what one chooses."""
    contract = tuple(row.contract.get(name, "") for name in ("threads", "in_flight", "batch"))
    weights = row.weights_sha256 if row.trained else ""
    return row.model, row.trained, weights, row.resolution, row.input_shape, row.output_shape, row.machine_key, contract


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


def keeps(row: Row, floor_db: float) -> bool:
    """Whether the row has a result of the stated quality; one that was not judged has not shown it."""
    return row.ok and not row.broken and row.psnr_db is not None and row.psnr_db >= floor_db


def answers(rows: Iterable[Row], floor_db: float = FLOOR_DB) -> list[Answer]:
    """One per network, size and machine that has a result; by model, then by size."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in latest(rows):
        if row.ok:
            groups.setdefault(subject_key(row), []).append(row)
    found = [_answer(sorted(group, key=lambda r: r.latency_ms or 0.0), floor_db) for group in groups.values()]
    return sorted(found, key=lambda a: (natural(a.first.network), a.first.machine_key, a.first.megapixels))


def natural(name: str) -> tuple[object, ...]:
    """Sorts net2 before net10."""
    return tuple((not part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name))


def _answer(group: Sequence[Row], floor_db: float) -> Answer:
    able = [row for row in group if keeps(row, floor_db)]
    best = able[0] if able else None
    close = [row for row in able[1:] if _overlap(able[0], row)]
    return Answer(group, best, close, yardstick(group))


def yardstick(rows: Iterable[Row]) -> Row | None:
    """The row of eager torch in fp32 with the network's first kind of statistics; None where it was not measured."""
    found = [row for row in rows if row.variant == YARDSTICK and row.precision == "fp32" and row.ok]
    return next((row for row in found if row.statistics in ("", "image")), found[0] if found else None)


def _overlap(a: Row, b: Row) -> bool:
    if a.interval_ms is None or b.interval_ms is None:
        return True
    return a.interval_ms[0] <= b.interval_ms[1] and b.interval_ms[0] <= a.interval_ms[1]


def pareto(rows: Iterable[Row]) -> list[Row]:
    """The rows that no other beats in both latency and quality, the fastest first; unjudged ones are left out."""
    judged = [row for row in rows if row.ok and row.latency_ms is not None and row.psnr_db is not None]
    front: list[Row] = []
    for row in sorted(judged, key=lambda r: (r.latency_ms or 0.0, -(r.psnr_db or 0.0))):
        if not front or (row.psnr_db or 0.0) > (front[-1].psnr_db or 0.0):
            front.append(row)
    return front

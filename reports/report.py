"""Everything that the sections of a report are given, as one value. Loads, draws and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from reports.answer import FLOOR_DB, Answer, answers
from reports.comparison import Comparison
from reports.doubts import Doubt, doubts
from reports.markup import Html, data_block, region, tag
from reports.pictures import Gallery
from reports.plots import Figure
from reports.row import Row

MOST_BYTES = 15_000_000
"""Of a page."""


@dataclass(frozen=True)
class Report:
    """What is known when the page is written."""

    rows: Sequence[Row]
    files: Sequence[tuple[str, int]] = ()
    """Name of each runs file and how many runs it holds."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    comparison: Comparison | None = None
    gallery: Gallery = field(default_factory=Gallery)
    floor_db: float = FLOOR_DB
    room: int = MOST_BYTES
    """Bytes that the page has left for what a section can leave out."""

    @property
    def floor(self) -> str:
        """What an answer keeps, in words."""
        original = any(row.against == "original" for row in self.rows)
        return f"{self.floor_db:g} dB" + (" to the original" if original else "")

    @property
    def has_original(self) -> bool:
        """Whether a row was judged against what the network is to come close to."""
        return any(row.original_db is not None for row in self.rows)

    @cached_property
    def answers(self) -> Sequence[Answer]:
        return answers(self.rows, self.floor_db)

    @cached_property
    def doubts(self) -> Sequence[Doubt]:
        return doubts(self.rows, self.floor_db)

    def figure(self, name: str, text: str) -> str:
        """The figure with what one must know to read it, and its numbers; empty where there is nothing to draw."""
        found = self.figures.get(name)
        if found is None:
            return ""
        note = f" {found.series.note}" if found.series.note else ""
        copy = tag("button", "Copy numbers as CSV", type="button", class_="copy", data_csv=f"data-{name}")
        return tag(
            "figure",
            region(found.label, Html(found.svg)),
            tag("figcaption", text, note, " ", copy),
            data_block(f"data-{name}", found.series.table()),
            class_="wide" if found.wide else None,
        )

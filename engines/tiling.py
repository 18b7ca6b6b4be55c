"""Where tiles lie: what a graph's tiles need (export/receptive_field.py), a picture's size → windows, what is kept.

Pure functions. All windows of a picture are of one size, so that one plan of an engine serves; the last ones are moved
inwards until they end at the picture's border, where the network's own padding is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from export.receptive_field import Reach, Side
from reference_models.errors import UserError

Size = tuple[int, int]
"""Height and width."""
MOST_TILES = 64
"""Along one side: beyond, halos are nearly all that is computed."""


@dataclass(frozen=True)
class Cut:
    """One window along one side."""

    start: int
    """First input pixel."""
    first: int
    """First output pixel that is kept of it, in the picture's own coordinates."""
    last: int
    """One behind the last such pixel."""


@dataclass(frozen=True)
class Tiles:
    """All windows of one picture."""

    size: Size
    """Of the input tensor."""
    window: Size
    """Of the input of one inference."""
    rows: tuple[Cut, ...]
    columns: tuple[Cut, ...]
    out_size: Size

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def work_share(self) -> float:
        """Input pixels computed, in units of the picture's: what halos and shared edges cost."""
        return self.count * self.window[0] * self.window[1] / (self.size[0] * self.size[1])

    def cuts(self) -> Iterator[tuple[Cut, Cut]]:
        return ((row, column) for row in self.rows for column in self.columns)

    def seams(self) -> tuple[list[int], list[int]]:
        """Output rows and columns at which another tile begins."""
        return [cut.first for cut in self.rows[1:]], [cut.first for cut in self.columns[1:]]

    def to_dict(self, reach: Reach) -> dict[str, Any]:
        """For the run: sizes as width and height."""
        return {
            "count": self.count,
            "columns": len(self.columns),
            "rows": len(self.rows),
            "window": [self.window[1], self.window[0]],
            "halo": reach.halo_px,
            "work_share": round(self.work_share, 4),
        }


def least_window(side: Side, length: int) -> int:
    """Smallest window of a side with which a tiling comes to an end."""
    wanted = floor((side.before + side.after) / side.scale) + side.align
    return _fitting(side, length, wanted)


def _fitting(side: Side, length: int, wanted: int) -> int:
    """The least window of at least `wanted` pixels that leaves the picture's remainder; `length` at most."""
    return min(wanted + (length - wanted) % side.align, length)


def cuts(side: Side, length: int, window: int) -> tuple[Cut, ...]:
    """Windows of one size over `length` input pixels.

    Raises:
        ValueError: a window in which the halo leaves nothing to keep, or that does not leave the picture's remainder.
    """
    out_length = side.scale * length
    if window == length:
        return (Cut(0, 0, int(out_length)),)
    if window > length or (length - window) % side.align or window < least_window(side, length):
        raise ValueError(f"window of {window} over {length}: at least {least_window(side, length)} are needed")
    step = window - ceil((side.before + side.after) / side.scale)
    step -= step % side.align
    count = -(-(length - window) // step) + 1
    moves = (length - window) // side.align
    starts = [moves * i // (count - 1) * side.align for i in range(count)]
    bounds = [0]
    for old, new in itertools.pairwise(starts):
        # Anywhere between the two both tiles are right; half way both are as far from their ends as can be.
        bounds.append(int((new * side.scale + side.before + (old + window) * side.scale - side.after) // 2))
    bounds.append(int(out_length))
    return tuple(Cut(*three) for three in zip(starts, bounds, bounds[1:], strict=False))


def tiles_of(reach: Reach, size: Size, window: Size) -> Tiles:
    """Tiles of a picture in windows of at most this size.

    Raises:
        UserError: the window is smaller than its halo needs.
    """
    assert reach.height is not None
    assert reach.width is not None
    found = []
    sides = reach.height, reach.width
    for side, length, asked, name in zip(sides, size, window, ("high", "wide"), strict=True):
        least = least_window(side, length)
        if asked < least:
            before, after = side.halo
            both = max(map(least_window, sides, size))  # --tile N is both sides
            useful = max(both, min(2 * (before + after), max(size)))
            raise UserError(
                f"`--tile`: {asked} pixels {name}, and this network needs a halo of {before} and {after} around what "
                "a tile keeps",
                f"at least {both}, with which next to nothing is kept: the side of a tile counts its halo",
                f"Give --tile auto, or {useful} and more",
            )
        # Down to the picture's remainder; at least the least window, which has it.
        taken = length if asked >= length else max(asked - (asked - length) % side.align, least)
        found.append((taken, cuts(side, length, taken)))
    (height, rows), (width, columns) = found
    out = int(sides[0].scale * size[0]), int(sides[1].scale * size[1])
    return Tiles(size, (height, width), rows, columns, out)


def windows(reach: Reach, size: Size) -> Iterator[Size]:
    """The smallest window for every number of rows and columns: all that is worth considering."""
    assert reach.height is not None
    assert reach.width is not None
    heights, widths = (list(_lengths(side, n)) for side, n in zip((reach.height, reach.width), size, strict=True))
    return ((h, w) for h in heights for w in widths)


def _lengths(side: Side, length: int) -> Iterator[int]:
    lost = (side.before + side.after) / side.scale
    seen = 0
    for count in range(1, MOST_TILES + 1):
        wanted = ceil((length + (count - 1) * (lost + side.align - 1)) / count)
        window = _fitting(side, length, max(wanted, least_window(side, length)))
        if window != seen:
            yield window
        seen = window


def fastest_tiles(reach: Reach, size: Size, fits: Callable[[Size], bool], overhead_px: int = 0) -> Tiles | None:
    """The tiles with the least work among those that fit; of equal ones, the fewest. None: not even the smallest fits.

    Args:
        fits: whether an inference of this (height, width) has room.
        overhead_px: what a further tile costs besides its pixels, in pixels.
    """
    best: tuple[float, Tiles] | None = None
    for window in windows(reach, size):
        if not fits(window):
            continue
        found = tiles_of(reach, size, window)
        cost = found.count * (window[0] * window[1] + overhead_px)
        if best is None or cost < best[0]:
            best = cost, found
    return best[1] if best else None

"""What was asked of tiles, with all that is needed to answer it for any picture: `auto`, or a size; as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engines.tiling import Size, Tiles, fastest_tiles, tiles_of, windows
from export.network import Graph
from export.receptive_field import Reach, receptive_field
from reference_models.errors import UserError

FEWEST_SHARE = 0.9
"""Of what it had before, what a tile may take after it ran out of memory."""


@dataclass(frozen=True)
class Room:
    """Memory that a session may take, and what it takes: linear in the pixels of a picture and of a window."""

    limit_mib: float
    source: str
    """What sets the limit, in words."""
    fixed_mib: float
    ends_bytes_per_px: float
    """Of the input and what comes out of it, per pixel of the input."""
    live_bytes_per_px: float
    """What else one inference holds, per pixel of its input."""
    error: float
    """Share by which the prediction may err."""

    def peak_mib(self, size: Size, window: Size) -> float:
        """Predicted peak of the process."""
        taken = window[0] * window[1]
        copied = 0 if window == size else taken  # a tile's input and output are copies
        pixels = (size[0] * size[1] + copied) * self.ends_bytes_per_px + taken * self.live_bytes_per_px
        return self.fixed_mib + pixels / 2**20


@dataclass(frozen=True)
class Tiling:
    """How one network is to be tiled."""

    word: str
    """`auto`, `N` or `WxH`."""
    graph: Graph
    """What runs on tiles: the network's own, or the rest of it beside `branch`."""
    reach: Reach
    """For sizes that are multiples of `reach`'s alignment."""
    room: Room | None
    """None: whatever is asked for has room."""
    branch: Graph | None = None

    def tiles(self, size: Size, smaller_than: Tiles | None = None) -> Tiles:
        """Tiles for a picture of this (height, width).

        Args:
            smaller_than: those that ran out of memory.

        Raises:
            UserError: a halo that leaves nothing of what was asked for, or nothing that fits.
        """
        reach = self.reach_for(size)
        if self.word != "auto":
            return tiles_of(reach, size, window_from_word(self.word))
        most = float("inf") if smaller_than is None else FEWEST_SHARE * _pixels(smaller_than.window)

        def fits(window: Size) -> bool:
            room = self.room
            if room is not None and room.peak_mib(size, window) * (1 + room.error) > room.limit_mib:
                return False
            return _pixels(window) <= most

        found = fastest_tiles(reach, size, fits)
        if found is None:
            raise self._nothing_fits(reach, size)
        return found

    def reach_for(self, size: Size) -> Reach:
        """The graph's reach for pictures of this size: a remainder, where it divides by something, is looked at anew.

        Raises:
            UserError: nothing of such a size can be tiled.
        """
        sides = self.reach.height, self.reach.width
        if all(side is None or length % side.align == 0 for side, length in zip(sides, size, strict=True)):
            return self.reach
        found = receptive_field(self.graph.onnx_path, size)
        if found.height is None:
            raise not_tileable(found, f"{size[1]}x{size[0]}")
        return found

    def _nothing_fits(self, reach: Reach, size: Size) -> UserError:
        height, width = min(windows(reach, size), key=_pixels)
        need = f", predicted at {self.room.peak_mib(size, (height, width)):.0f} MiB" if self.room else ""
        limit = f" of {self.room.limit_mib:.0f} MiB ({self.room.source})" if self.room else ""
        return UserError(
            f"`--tile auto`: not even the smallest tile, {width}x{height}{need}, fits into what is free{limit}",
            "room for the picture, the library and one tile with its halo",
            "Free memory, choose a smaller --res, or a network with a smaller halo",
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "reach": self.reach.to_dict()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Tiling:
        return Tiling(
            data["word"],
            Graph(**data["graph"]),
            Reach.from_dict(data["reach"]),
            Room(**data["room"]) if data["room"] else None,
            Graph(**data["branch"]) if data["branch"] else None,
        )


def _pixels(window: Size) -> int:
    return window[0] * window[1]


def check_tile_word(word: str) -> str:
    """
    Raises:
        UserError: neither `auto`, `off`, a number nor a size.
    """
    if word in {"auto", "off"} or re.fullmatch(r"[1-9]\d{0,4}([xX×][1-9]\d{0,4})?", word):
        return word.lower().replace("×", "x")
    raise UserError(
        f"`--tile {word}`: not a size of tiles",
        "off, auto, N or WIDTHxHEIGHT: pixels of the network's input that run at once, halo included",
        "Try --tile auto",
    )


def tile_words(words: Sequence[str], memory_mib: float | None) -> list[str]:
    """What `--tile` names, each once.

    Raises:
        UserError: a word that is no tile, or memory granted to none.
    """
    found = list(dict.fromkeys(check_tile_word(word) for word in words))
    if memory_mib is not None and found == ["off"]:
        raise UserError("`--memory` without tiles: whole pictures take what they take", "--tile auto", "Add it")
    return found


def why_no_tiles(word: str, statistics: str | None) -> str | None:
    """Why a network with such statistics cannot be tiled; None where that alone is no reason."""
    if word == "off" or statistics != "image":
        return None
    return (
        f"`--tile {word}` with image statistics: every layer normalises with figures of the whole picture, which no "
        "tile can know; `--statistics frozen` or `thumbnail` makes tiles exact"
    )


def window_from_word(word: str) -> Size:
    """`512` or `1622x2160` → height and width."""
    width, _, height = word.partition("x")
    return int(height or width), int(width)


def not_tileable(reach: Reach, size: str = "") -> UserError:
    """The error for a graph that no halo makes exact."""
    return UserError(
        f"`--tile`: no tiling of this network{' at ' + size if size else ''} is exact: {reach.refusal}",
        "a network whose output pixels see a bounded part of the picture",
        "Use --tile off; for networks with --statistics, choose frozen or thumbnail",
    )

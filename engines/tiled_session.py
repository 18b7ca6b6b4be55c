"""A session that runs any engine's session tile by tile: whole pictures in and out, memory of one tile in between."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from engines.engine import Session
from engines.tile_choice import Tiling
from engines.tiling import Cut, Size, Tiles

if TYPE_CHECKING:
    import numpy as np


class TiledSession(Session):
    """The picture and what comes out exist once; a tile's input is copied out of the one, and what is kept of its
    output into the other, inside of `enqueue`.

    `read` hands over the output without a copy; the next inference makes a new one. With `auto`, tiles that run out of
    memory are followed by smaller ones; `too_large` says which did.
    """

    def __init__(self, inner: Session, tiling: Tiling, branch: Session | None = None) -> None:
        """
        Args:
            inner: of one tile; closed with this session.
            branch: makes the tensor `reach.branch` of the whole picture, with which `inner` is refitted; closed too.
        """
        # Not Session.__init__: what may be refitted is the inner session's to say.
        self.graph = inner.graph
        self._bound: tuple[int, ...] | None = None
        self._inner, self.tiling, self._branch = inner, tiling, branch
        self.tiles: Tiles | None = None
        self.too_large: list[str] = []
        self._x: np.ndarray | None = None
        self._y: np.ndarray | None = None
        self._tile: np.ndarray | None = None
        self.contract = dict(inner.contract)

    def _bind(self, x: np.ndarray) -> None:
        size: Size = (x.shape[2], x.shape[3])
        self._x = x
        if self._branch:
            self._branch.bind(x)
        if self.tiles is None or self.tiles.size != size:
            self._y = None
            self._take(self.tiling.tiles(size))
        elif self.tiles.count == 1:
            self._inner.bind(x)

    def _take(self, tiles: Tiles) -> None:
        import numpy as np

        assert self._x is not None
        self.tiles = tiles
        self._tile = None
        self.contract = {**self._inner.contract, "tile": in_words(tiles)}
        if self._branch:
            self.contract["branch"] = f"{', '.join(self.tiling.reach.branch)}: in every inference, once"
        if tiles.count > 1:
            self._tile = np.empty((1, self._x.shape[1], *tiles.window), np.float32)
        else:
            self._inner.bind(self._x)

    def _enqueue(self) -> None:
        assert self.tiles is not None
        if self._branch:
            self._branch.enqueue()
            self._branch.synchronize()
            self._inner.refit({self.tiling.reach.branch[0]: self._branch.peek()})
        while True:
            try:
                return self._run_all()
            except (MemoryError, RuntimeError) as error:
                if self.tiling.word != "auto" or not _is_shortage(error):
                    raise
                self.too_large.append(in_words(self.tiles))
                self._take(self.tiling.tiles(self.tiles.size, smaller_than=self.tiles))

    def _run_all(self) -> None:
        import numpy as np

        assert self.tiles is not None
        if self.tiles.count == 1:
            self._inner.enqueue()
            return
        if self._y is None:
            self._y = np.empty((1, self.graph.output_planes, *self.tiles.out_size), np.float32)
        for row, column in self.tiles.cuts():
            self._run(row, column)

    def _run(self, row: Cut, column: Cut) -> None:
        assert self.tiles is not None
        assert self._x is not None
        assert self._y is not None
        assert self._tile is not None
        height, width = self.tiles.window
        self._tile[:] = self._x[:, :, row.start : row.start + height, column.start : column.start + width]
        self._inner.bind(self._tile)
        self._inner.enqueue()
        self._inner.synchronize()
        made = self._inner.peek()
        top, left = (int(cut.start * scale) for cut, scale in zip((row, column), self.tiling.reach.scales, strict=True))
        self._y[:, :, row.first : row.last, column.first : column.last] = made[
            :, :, row.first - top : row.last - top, column.first - left : column.last - left
        ]

    def _synchronize(self) -> None:
        self._inner.synchronize()

    def _read(self) -> np.ndarray:
        return self._inner.peek() if self._y is None else self._y

    def read(self) -> np.ndarray:
        """The output, handed over: no second one in memory."""
        if self._y is None:
            return self._inner.read()
        y, self._y = self._y, None
        return y

    def refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._inner.refit(tensors)

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        raise AssertionError("refit() is passed on")

    def prepare(self) -> None:
        self._inner.prepare()

    def _close(self) -> None:
        with ExitStack() as stack:
            for session in filter(None, (self._branch, self._inner)):
                stack.callback(session.close)
        self._x = self._y = self._tile = None


def _is_shortage(error: Exception) -> bool:
    """Whether a library's error says that memory ran out; each has its own words for it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(word in text for word in _SHORTAGE)


_SHORTAGE = (
    "bad_alloc",
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "cannot allocate memory",
)


def in_words(tiles: Tiles) -> str:
    """`6 of 1622x2160`, for contracts and progress; `off` for a whole picture."""
    height, width = tiles.window
    return f"{tiles.count} of {width}x{height}, copied in and out" if tiles.count > 1 else "off"

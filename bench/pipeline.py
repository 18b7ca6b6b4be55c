"""Items through three stages that overlap: load, compute, save. Order is kept, and few items are in memory at a time.

Knows nothing of pictures or networks. One thread computes, since sessions belong to one; Pillow, PyAV and NumPy let
go of the interpreter's lock while they work, so that the other stages cost that thread next to nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Computed = TypeVar("Computed")
Saved = TypeVar("Saved")


@dataclass(frozen=True)
class Width:
    """How much may go on at once; the last of them is what bounds the memory."""

    loaders: int = 1
    savers: int = 1
    in_flight: int = 4
    """Items that were begun and are not yet saved: one in each stage, and one that waits."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Saved]):
    """What became of one item."""

    item: Item
    value: Saved | None
    error: BaseException | None
    """What one of the stages raised; the stages after it were not run then."""


@dataclass(frozen=True)
class Stages(Generic[Item, Loaded, Computed, Saved]):
    """What is done with every item. `load` and `save` see the items in order where they have one thread each."""

    load: Callable[[Item], Loaded]
    compute: Callable[[Loaded], Computed]
    save: Callable[[Computed], Saved]


def overlapped(
    items: Iterable[Item], stages: Stages[Item, Any, Any, Saved], computing: Executor, width: Width
) -> Generator[Outcome[Item, Saved], None, None]:
    """The outcomes, in the order of the items; an item that fails does not end the others.

    To be closed (`contextlib.closing`) where it is not read to its end: what was begun is finished, the rest never
    begins.

    Args:
        computing: an executor of one thread, in which the session was made.
    """
    waiting: deque[tuple[Item, tuple[Future[Any], ...]]] = deque()
    loading, saving = ThreadPoolExecutor(width.loaders), ThreadPoolExecutor(width.savers)
    try:
        for item in items:
            loaded = loading.submit(stages.load, item)
            computed = computing.submit(_after, loaded, stages.compute)
            waiting.append((item, (loaded, computed, saving.submit(_after, computed, stages.save))))
            del loaded, computed  # they hold pictures
            if len(waiting) >= width.in_flight:
                yield _outcome(*waiting.popleft())
        while waiting:
            yield _outcome(*waiting.popleft())
    finally:
        # The last first: what could not be stopped any more is then the beginning of what was left, without a gap.
        for _, futures in reversed(waiting):
            for future in reversed(futures):
                future.cancel()
        loading.shutdown()
        saving.shutdown()


def one_by_one(
    items: Iterable[Item], stages: Stages[Item, Any, Any, Saved], computing: Executor
) -> Generator[Outcome[Item, Saved], None, None]:
    """The same with one item at a time: what `overlapped` is compared with."""
    return overlapped(items, stages, computing, Width(in_flight=1))


def _after(before: Future[Any], stage: Callable[[Any], Any]) -> Any:
    """A stage on what the stage before it gives; raises what that one raised."""
    return stage(before.result())


def _outcome(item: Item, futures: tuple[Future[Any], ...]) -> Outcome[Item, Any]:
    error = futures[-1].exception()
    return Outcome(item, None if error else futures[-1].result(), error)

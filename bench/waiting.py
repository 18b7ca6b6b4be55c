"""What the samples of a process waited for a core → their own time: the wall clock's, less that waiting.

On a machine with more runnable programs than cores the wall clock of an inference is mostly the scheduler's: it comes
in whole time slices, and says little about the program. Linux counts, per thread, how long it was ready to run and was
not let. Exact for a thread that computes alone; where several share the work nobody can say which waiting was in vain,
and there is no own time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.measure import Clock, Series

SCHEDSTAT = "/proc/thread-self/schedstat"
ALONE = 0.95
"""Share of the process's processor time that the calling thread must have used to count as computing alone."""
BEST = 1e-3
"""An own time is never below this share of its wall clock: counters and clock are read one after the other."""


class Waiting:
    """Called before and after every inference, outside of what is timed: two reads of an open file, some µs each.

    Read in the thread that computes. Source: Linux Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
    """

    def __init__(
        self,
        read_ns: Callable[[], int] | None = None,
        thread_time: Clock = time.thread_time,
        process_time: Clock = time.process_time,
    ) -> None:
        self._read = read_ns or reader()
        self._times = thread_time, process_time
        self._start: tuple[float, ...] = ()
        self._mark = 0
        self._seen = 0
        self._waited_ms: list[float] = []

    def before(self, series: Series) -> None:
        """The next inference begins."""
        if not self._start:
            self._start = tuple(read() for read in self._times)
        if self._read:
            self._mark = self._read()

    def after(self, series: Series) -> None:
        """An inference is done, and stands in `series`."""
        if self._read and len(series.samples) > self._seen:
            self._waited_ms.append((self._read() - self._mark) / 1e6)
        self._seen = len(series.samples)

    def told(self, series: Series) -> dict[str, Any]:
        """`own_ms`: median of the samples' own times; `waited_share` of their wall clock; both None with `why`."""
        if self._read is None:
            return _nothing("this system does not tell what a thread waits for a core")
        if len(self._waited_ms) != len(series.samples) or not series.samples:
            return _nothing("several inferences were under way at once")
        thread_s, process_s = (read() - start for read, start in zip(self._times, self._start, strict=True))
        if thread_s < ALONE * process_s:
            return _nothing("several threads share an inference")
        own = [max(ms - waited, BEST * ms) for ms, waited in zip(series.samples, self._waited_ms, strict=True)]
        return {"own_ms": median(own), "waited_share": 1 - sum(own) / sum(series.samples), "why": None}


def _nothing(why: str) -> dict[str, Any]:
    return {"own_ms": None, "waited_share": None, "why": why}


def reader() -> Callable[[], int] | None:
    """Reads the nanoseconds that this thread has waited for a core so far, from a file that stays open; None where the
    system does not count them."""
    try:
        file = os.open(SCHEDSTAT, os.O_RDONLY)
    except OSError:
        return None

    def read() -> int:
        return int(os.pread(file, 64, 0).split()[1])

    try:
        # Kernels that were built without these counters show zeros, or no second field.
        return read if int(os.pread(file, 64, 0).split()[0]) > 0 else None
    except (OSError, IndexError, ValueError):
        os.close(file)
        return None

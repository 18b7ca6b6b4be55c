"""Progress on standard error: one live line in a terminal, one line a stage in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

QUIET_S = 10
"""A log is told what is being done when it has heard nothing for so long."""
REFRESHES_PER_S = 2
"""The display runs while cases are measured, and may not take a share of a core that shows."""


TIME_WIDTH, BAR_WIDTH, DOING_WIDTH = len("⠋ title 0:00:00") - len("title"), 24, 30
"""Columns of a line: spinner and time, which always show, bar, and what is being done."""


class TerminalReporter:
    """A bench.run.Reporter over a rich console."""

    def __init__(self, console: Console) -> None:
        self._live = console.is_terminal
        self._console = console
        self._progress = Progress(
            console=console,
            transient=True,
            refresh_per_second=REFRESHES_PER_S,
            disable=not self._live,
        )

    def __enter__(self) -> TerminalReporter:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    @contextmanager
    def stage(self, title: str, total: float | None = None) -> Iterator[Callable[[float, str], None]]:
        """One stage; without a total its bar only says that something goes on."""
        if not self._live:
            self._console.print(title, markup=False, emoji=False)
        room = self._console.width - TIME_WIDTH - cell_len(title)
        self._progress.columns = _columns(room)
        task = self._progress.add_task(set_cell_size(title, cell_len(title) + min(room, 0)), total=total, doing="")

        said, last = time.monotonic(), ""

        def show(done: float, doing: str) -> None:
            nonlocal said, last
            self._progress.update(task, completed=min(done, total) if total else 0, doing=doing)
            if not self._live and doing not in {"", last} and time.monotonic() - said > QUIET_S:
                self._console.print(f"  {doing}", markup=False, emoji=False)
                said, last = time.monotonic(), doing

        try:
            yield show
        finally:
            self._progress.remove_task(task)


def _columns(room: int) -> tuple[ProgressColumn, ...]:
    """Of a line that has room for so many characters beside its title and its time: rich would drop the time first."""
    bar = [BarColumn(bar_width=BAR_WIDTH)] if room >= BAR_WIDTH + DOING_WIDTH + 2 else []
    doing = [TextColumn("{task.fields[doing]}", style="dim", markup=False)] if room >= DOING_WIDTH + 1 else []
    return (SpinnerColumn(), TextColumn("{task.description}", markup=False), *bar, TimeElapsedColumn(), *doing)

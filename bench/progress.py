"""Progress on standard error: one live line in a terminal, one line a stage in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

REFRESHES_PER_S = 2
"""The display runs while cases are measured, and may not take a share of a core that shows."""


class TerminalReporter:
    """A bench.run.Reporter over a rich console."""

    def __init__(self, console: Console) -> None:
        self._live = console.is_terminal
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}", style="dim", markup=False),
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
        task = self._progress.add_task(title, total=total, doing="")

        def show(done: float, doing: str) -> None:
            self._progress.update(task, completed=min(done, total) if total else 0, doing=doing)

        try:
            yield show
        finally:
            self._progress.remove_task(task)

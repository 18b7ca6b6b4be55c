"""The terminal: consoles of the right width, lines of progress, and output that nobody reads to its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def drop_output() -> None:
    """Sends the rest of standard output nowhere: its reader has closed it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console_for(stderr: bool = False) -> Console:
    """A rich console on standard output or error; 160 columns wide where that is no terminal."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would exit with 1, which here means a bug

    console = Piped(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Piped(stderr=stderr, highlight=False, width=160)  # a file or a CI log has no width: do not fold
    return console


@contextmanager
def progress_on(console: Console) -> Iterator[Any]:
    """A reporter that shows stages as lines of progress (bench/progress.py)."""
    from bench.progress import TerminalReporter

    with TerminalReporter(console) as reporter:
        yield reporter

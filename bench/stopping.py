"""A worker that is asked to stop (SIGTERM) and ends its file first, instead of being ended in the middle of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_request() -> Iterator[threading.Event]:
    """An event that is set once this process is asked to stop. For the main thread, which must not be in a long call
    of a library: Python runs its signal handlers between two steps of that thread."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)

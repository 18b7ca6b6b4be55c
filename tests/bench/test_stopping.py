"""A process that is asked to stop goes on until it looks, and is itself again afterwards."""

from __future__ import annotations

import os
import signal

from bench.stopping import stop_request


def test_a_request_sets_the_event_and_ends_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_request() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before

"""Whether TensorRT-RTX builds with TF32 where nobody passes its builder flag on. Imports no library."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Environment variable; `0` is its only value. The provider has no option for TF32, which the library allows by
default. Read by it whenever it builds: with `0`, a plan is the one that is built with TF32 cleared (a test)."""


_ONE_AT_A_TIME = threading.RLock()
"""The environment is the process's: two sessions that are opened at once would build with each other's word."""


def tf32_missing() -> str | None:
    """None where TF32 can be had, else the sentence that says why not. Waits while another thread is in `tf32`."""
    with _ONE_AT_A_TIME:  # what the user has set is seen outside alone
        return f"{OVERRIDE}=0 in the environment forbids TF32" if os.environ.get(OVERRIDE) == "0" else None


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """What is built meanwhile may compute in TF32, or may not; the environment is as before afterwards.

    One thread at a time: a second one waits until the first is through. Whoever does not come through here is not kept
    out: a plan that another engine of NVIDIA's (`tensorrt`, `tensorrt_rtx`, torch) builds in this process meanwhile
    sees the variable too, and so does a process that is started meanwhile.
    """
    with _ONE_AT_A_TIME:
        before = os.environ.pop(OVERRIDE, None)
        if not allowed:
            os.environ[OVERRIDE] = "0"
        try:
            yield
        finally:
            os.environ.pop(OVERRIDE, None)
            if before is not None:
                os.environ[OVERRIDE] = before

"""Whether TensorRT-RTX builds with TF32 where nobody passes its builder flag on. Imports no library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Environment variable; `0` is its only value. The provider has no option for TF32, which the library allows by
default. Read by it whenever it builds: with `0`, a plan is the one that is built with TF32 cleared (a test)."""


def tf32_missing() -> str | None:
    """None where TF32 can be had, else the sentence that says why not."""
    return f"{OVERRIDE}=0 in the environment forbids TF32" if os.environ.get(OVERRIDE) == "0" else None


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """What is built meanwhile may compute in TF32, or may not; the environment is as before afterwards."""
    before = os.environ.pop(OVERRIDE, None)
    if not allowed:
        os.environ[OVERRIDE] = "0"
    try:
        yield
    finally:
        os.environ.pop(OVERRIDE, None)
        if before is not None:
            os.environ[OVERRIDE] = before

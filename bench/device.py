"""What a worker asks of a session on a device besides time: its parts for the clock, copies, and memory three ways.

Memory is told by the driver for the whole device, by NVML for this process, and by the library for what it took itself;
none of them holds what another one does, so that all are kept. Knows no engine.
"""

from __future__ import annotations

import os
import subprocess
from statistics import median
from typing import Any

import numpy as np

from bench.measure import Parts
from bench.nvml_id import nvml_id
from engines.engine import Session

COPIES = 10
"""Of the input and of the output, whose times are taken after one that is not."""


def parts_of(session: Session) -> Parts:
    """The session's inference, as the clock takes it."""
    return Parts(session.enqueue, session.synchronize, session.prepare, session.device_ms, session.asynchronous)


def transfers_of(session: Session, x: np.ndarray) -> dict[str, float] | None:
    """Median ms on the device's clock of copying the input in (`h2d`) and the output out (`d2h`); None where the
    device has no such clock.

    Args:
        x: what is bound; bound again.
    """
    if not session.device_ms():
        return None
    found: dict[str, list[float]] = {"h2d": [], "d2h": []}
    for number in range(COPIES + 1):
        session.bind(x)
        session.enqueue()
        session.synchronize()
        session.read()
        told = session.device_ms()
        for part, times in found.items():
            if number and part in told:
                times.append(told[part])
    return {part: median(times) for part, times in found.items() if times}


def memory_of(session: Session, device: str, before_mib: float | None) -> dict[str, Any]:
    """`device_peak_mib`, and `device_memory`: MiB by each of those who count.

    Args:
        before_mib: what the driver said before the session was made.
    """
    after = used_mib(device)
    grown = None if before_mib is None or after is None else after - before_mib
    if not device.startswith("cuda"):
        return {"device_peak_mib": grown, "device_memory": None}
    own = {name: None if size is None else size / 2**20 for name, size in session.memory_bytes().items()}
    return {
        "device_peak_mib": grown,
        "device_memory": {"driver_growth": grown, "nvml_process": process_mib(device), "library": own},
    }


def used_mib(device: str) -> float | None:
    """Memory in use on a CUDA device by everybody, MiB, from its driver; None for the CPU or where it does not say."""
    return _asked(device, "--query-gpu=memory.used", lambda line: line)


def process_mib(device: str) -> float | None:
    """Memory of this process on a CUDA device by NVML, MiB, its context and kernels included; None for the CPU or where
    NVML does not know it (in a container it may know the host's process numbers only)."""

    def own(line: str) -> str | None:
        process, _, size = line.partition(",")
        return size if process.strip() == str(os.getpid()) else None

    return _asked(device, "--query-compute-apps=pid,used_memory", own)


def _asked(device: str, query: str, pick: Any) -> float | None:
    """The first number that `pick` finds in the lines that nvidia-smi, which reads NVML, answers."""
    if not device.startswith("cuda"):
        return None
    command = ["nvidia-smi", f"--id={nvml_id(device)}", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return next((float(found) for line in done.stdout.splitlines() if (found := pick(line)) is not None), None)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None

"""Counters of energy → joules per picture, in a pass of its own after the timing; or the reason why there are none.

RAPL counts what the processor packages take (and the memory, where it shows it), NVML what a GPU does: everybody's
share, not this process's alone. So the pass states what the same counters show at rest, before it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Clock
from bench.nvml_id import nvml_handle, nvml_id

POWERCAP = Path("/sys/class/powercap")
PASS_S = 2.0
"""Of inferences, at least: RAPL counts up every millisecond, NVML every 20 to 100."""
REST_S = 0.5
MOST_S = 10.0
"""The pass ends after this, after one inference at least."""


@dataclass(frozen=True)
class Counter:
    """One counter that only goes up, and begins anew at `range_j`."""

    name: str
    read_j: Callable[[], float]
    range_j: float | None = None
    """None: does not wrap within anybody's lifetime."""

    def between(self, before: float, after: float) -> float:
        """Joules from one reading to a later one; a counter that has wrapped has done so once."""
        if after >= before:
            return after - before
        if self.range_j is None:
            raise ValueError(f"{self.name} went back from {before} J to {after} J")
        return after - before + self.range_j


def measure_energy(
    step: Callable[[], None], device: str, clock: Clock = time.perf_counter, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Joules per picture, of every counter that is there.

    Returns:
        `joules` per inference, all counters together; `by` counter; `rest_w` what they show at rest; `inferences` and
        `seconds` of the pass; `reason` why there is none (then everything else is None).
    """
    counters, reason = counters_of(device)
    if not counters:
        return {"joules": None, "by": None, "rest_w": None, "inferences": None, "seconds": None, "reason": reason}
    try:
        at_rest, rest_s = _spent(counters, lambda: sleep(REST_S), clock)
        count = 0

        def many() -> None:
            nonlocal count
            start = clock()
            while count == 0 or clock() - start < PASS_S:
                step()
                count += 1
                if clock() - start > MOST_S:
                    break

        joules, seconds = _spent(counters, many, clock)
    except (OSError, ValueError) as error:
        return {"joules": None, "by": None, "rest_w": None, "inferences": None, "seconds": None, "reason": str(error)}
    return {
        "joules": sum(joules) / count,
        "by": {counter.name: found / count for counter, found in zip(counters, joules, strict=True)},
        "rest_w": sum(at_rest) / rest_s,
        "inferences": count,
        "seconds": seconds,
        "reason": None,
    }


def _spent(counters: Sequence[Counter], call: Callable[[], None], clock: Clock) -> tuple[list[float], float]:
    """Joules of each counter and seconds that a call took; a RAPL counter wraps after some minutes, never twice."""
    before, start = [counter.read_j() for counter in counters], clock()
    call()
    seconds = clock() - start
    after = [counter.read_j() for counter in counters]
    return [c.between(x, y) for c, x, y in zip(counters, before, after, strict=True)], seconds


def counters_of(device: str) -> tuple[list[Counter], str | None]:
    """The counters of the CPU, or of one CUDA device and the CPU beside it; and why there are none.

    Where a CUDA device has no counter there is no answer at all: the processor's share alone would look like one.
    """
    rapl, why_not = rapl_counters()
    if not device.startswith("cuda"):
        return rapl, why_not
    gpu, reason = nvml_counter(device)
    return ([gpu, *rapl], None) if gpu else ([], reason)


def rapl_counters(root: Path = POWERCAP) -> tuple[list[Counter], str | None]:
    """Package and memory counters of all sockets. Cores and graphics are part of their package, and `psys` is more than
    the processor: neither is counted.

    Source: Linux Documentation/power/powercap/powercap.rst (energy_uj, max_energy_range_uj, in µJ).
    """
    found: list[Counter] = []
    denied = None
    for zone in sorted(root.glob("intel-rapl:*")):
        name = _text(zone / "name")
        if name is None or not (name.startswith("package") or name == "dram"):
            continue
        try:
            int((zone / "energy_uj").read_text())
            most = int((zone / "max_energy_range_uj").read_text()) / 1e6
        except PermissionError:
            denied = f"{zone / 'energy_uj'} may only be read by root"
            continue
        except (OSError, ValueError) as error:
            denied = f"{zone.name}: {error}"
            continue
        found.append(Counter(f"rapl {name} {zone.name.split(':')[1]}", _microjoules(zone / "energy_uj"), most))
    if found:
        return found, None
    return [], denied or f"no RAPL counter below {root}"


def nvml_counter(device: str) -> tuple[Counter | None, str | None]:
    """What one GPU has taken since its driver was loaded, or why that is not known.

    Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption (mJ; Volta and newer).
    """
    try:
        import pynvml
    except ImportError:
        return None, "Python package `nvidia-ml-py` is not installed"
    try:
        pynvml.nvmlInit()
        handle = nvml_handle(pynvml, device)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"

    def read_j() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except pynvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    return Counter(f"nvml gpu {nvml_id(device)}", read_j), None


def _microjoules(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return None

"""What the machine did while samples were taken: clocks, temperature, throttling, power, others on the GPU.

Read between inferences, never inside what is timed, and at most every PERIOD_S; `bench doctor` shows what that costs.
What a system does not show is missing, never guessed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import Clock, Series
from bench.nvml_id import nvml_handle

PERIOD_S = 0.5
CPU = Path("/sys/devices/system/cpu")
THERMAL = Path("/sys/class/thermal")
PROC = Path("/proc")
MAX_CORES = 8
"""Whose frequency is read: on a machine of 128 cores reading all would take milliseconds."""
REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of NVML's clocks event reasons that mean that the device is kept from its clocks. Source: nvml.h."""

Reading = dict[str, float]
Errors = tuple[type[Exception], ...]


class Telemetry:
    """Called between inferences; keeps a reading from every PERIOD_S."""

    def __init__(self, device: str, period_s: float = PERIOD_S, clock: Clock = time.perf_counter) -> None:
        self._sources = [source for source in (cpu_source(), gpu_source(device)) if source]
        self._period_s, self._clock = period_s, clock
        self._next = -float("inf")
        self.readings: list[Reading] = []

    def __call__(self, series: Series) -> None:
        now = self._clock()
        if now >= self._next:
            self._next = now + self._period_s
            self.readings.append(self.read())

    def read(self) -> Reading:
        found: Reading = {}
        for source in self._sources:
            found |= source()
        return found


def summary(readings: Sequence[Reading]) -> dict[str, dict[str, float]]:
    """Name of a reading → its `least`, `median` and `most`."""
    names = dict.fromkeys(name for reading in readings for name in reading)
    found = {name: [reading[name] for reading in readings if name in reading] for name in names}
    return {
        name: {"least": min(values), "median": median(values), "most": max(values)} for name, values in found.items()
    }


def throttling(told: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Clauses for the user: what kept the device from its clocks, or counted up, while samples were taken."""
    found = []
    for name in dict.fromkeys(name for each in told for name in each):
        each = [summary[name] for summary in told if name in summary]
        if name == "cpu_throttled" and any(s["most"] > s["least"] for s in each):
            found.append("the processor was throttled by its temperature")
        if name in REASONS.values() and any(s["most"] > 0 for s in each):
            found.append(f"the GPU was kept from its clocks: {name}")
        if name == "gpu_others" and any(s["most"] > 0 for s in each):
            most = max(int(s["most"]) for s in each)
            found.append(f"{most} other processes computed on the GPU")
    return found


# The processor


def cpu_source(cpu: Path = CPU, thermal: Path = THERMAL, proc: Path = PROC) -> Callable[[], Reading] | None:
    """Reads the clock of the usable cores, the hottest zone, throttle events since boot, and the load.

    Source: Linux Documentation/admin-guide/pm/cpufreq.rst (scaling_cur_freq, kHz), driver-api/thermal/sysfs-api.rst
    (temp, m°C), thermal_throttle/package_throttle_count of the x86 machine check.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    clocks = [cpu / f"cpu{core}" / "cpufreq" / "scaling_cur_freq" for core in cores[:MAX_CORES]]
    throttled = [cpu / f"cpu{core}" / "thermal_throttle" / "package_throttle_count" for core in cores[:MAX_CORES]]
    zones = sorted(thermal.glob("thermal_zone*/temp"))
    load = proc / "loadavg"
    known = [(name, [p for p in paths if _number(p) is not None], scale, of) for name, paths, scale, of in (
        ("cpu_mhz", clocks, 1e-3, median), ("cpu_c", zones, 1e-3, max), ("cpu_throttled", throttled, 1.0, max),
        ("load", [load], 1.0, max),
    )]  # fmt: skip
    if not any(paths for _, paths, _, _ in known):
        return None

    def read() -> Reading:
        found: Reading = {}
        for name, paths, scale, of in known:
            values = [v for v in map(_number, paths) if v is not None]
            if values:
                found[name] = float(of(values)) * scale
        return found

    return read


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


# The GPU


def gpu_source(device: str) -> Callable[[], Reading] | None:
    """Reads a CUDA device by NVML; None for the CPU, or where NVML does not answer.

    A reading that the device does not know is missing. Source: NVML API reference.
    """
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = nvml_handle(pynvml, device)
    except pynvml.NVMLError:  # no driver: telemetry is not worth a measurement
        return None
    calls: dict[str, Callable[[], float]] = {
        "gpu_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "gpu_memory_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "gpu_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "gpu_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "gpu_others": lambda: len(_others(pynvml, handle)),
    }
    unknown = (pynvml.NVMLError, AttributeError)  # to the device, or to an older package
    return lambda: {**dict(_answers(calls, unknown)), **_reasons(pynvml, handle, unknown)}


def _answers(calls: Mapping[str, Callable[[], float]], unknown: Errors) -> Iterator[tuple[str, float]]:
    for name, call in calls.items():
        with contextlib.suppress(*unknown):
            yield name, float(call())


def _reasons(pynvml: Any, handle: Any, unknown: Errors) -> Reading:
    """Each of REASONS as 0 or 1; nothing where the device does not say."""
    with contextlib.suppress(*unknown):
        bits = int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        return {word: float(bool(bits & bit)) for bit, word in REASONS.items()}
    return {}


def _others(pynvml: Any, handle: Any) -> list[int]:
    """Process numbers that compute on the device besides ours. Inside a container NVML shows those of the host, of
    which ours cannot be told: then one of them counts as ours."""
    running = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    others = [pid for pid in running if pid != os.getpid()]
    return others if len(others) < len(running) else others[1:]

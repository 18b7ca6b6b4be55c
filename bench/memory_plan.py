"""Predicted peak memory of one inference process, and how much there is: what `--tile auto` decides by.

The prediction is a sum: the process with its library, weights, activations that live at once (export/live_tensors.py)
and the picture itself. What each library makes of these is fitted; `python -m bench.memory_fit` measures and fits anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reference_models.errors import UserError

MIB = 1 << 20


@dataclass(frozen=True)
class Habits:
    """What a library needs beyond the tensors of a graph."""

    base_mib: float
    """The process when everything is imported and nothing loaded."""
    weights: float
    """Copies of the weights."""
    activations: float
    """Bytes that it holds per byte of live activations."""
    block: int
    """Channels are stored in multiples of this; 1: as they are."""
    error: float
    """Largest share by which predictions missed what was measured when these were fitted."""


HABITS: dict[str, Habits] = {
    "onnxruntime": Habits(75, 4.15, 1.39, 16, 0.35),
    "openvino": Habits(123, 2.67, 1.29, 16, 0.35),
    "torch_eager": Habits(420, 1.0, 1.05, 1, 0.5),
}
"""Engine → its habits on the CPU."""
UNKNOWN = Habits(500, 3.0, 1.5, 16, 0.5)
"""Of an engine that nobody fitted: more than any of the others."""


@dataclass(frozen=True)
class Footprint:
    """What a graph needs, per pixel of its input, so that any size can be planned without the graph."""

    engine: str
    weights_mib: float
    live_bytes_per_px: float
    """Activations."""
    in_bytes_per_px: float
    out_bytes_per_px: float
    beside_mib: float = 0.0
    """What runs beside the tiles: a thumbnail's or a branch's graph, at any size."""

    @property
    def habits(self) -> Habits:
        return HABITS.get(self.engine, UNKNOWN)

    def peak_mib(self, size: tuple[int, int], window: tuple[int, int] | None = None) -> float:
        """Predicted peak of the process for a picture of this (height, width), in windows of this one or whole."""
        habits = self.habits
        picture = size[0] * size[1] * (self.in_bytes_per_px + self.out_bytes_per_px)
        taken = size[0] * size[1] if window is None or window == size else window[0] * window[1]
        tile = 0.0 if window is None or window == size else taken * (self.in_bytes_per_px + self.out_bytes_per_px)
        variable = picture + tile + habits.activations * self.live_bytes_per_px * taken
        return habits.base_mib + habits.weights * self.weights_mib + self.beside_mib + variable / MIB


def footprint(
    graph_path: str, engine: str, planes: tuple[int, int], upscale: int, beside_mib: float = 0.0
) -> Footprint:
    """
    Raises:
        ValueError: the size of a tensor cannot be inferred.
    """
    import onnx

    from export.live_tensors import live_tensors

    model = onnx.load(graph_path)
    side = _REFERENCE_SIDE
    live = live_tensors(model, (1, planes[0], side, side), HABITS.get(engine, UNKNOWN).block)
    return Footprint(
        engine, live.weights / MIB, live.peak / side**2, 4 * planes[0], 4 * planes[1] * upscale**2, beside_mib
    )


_REFERENCE_SIDE = 512
"""Large enough that borders do not count, and a multiple of what networks divide by."""


def free_mib(limit_mib: float | None = None) -> tuple[float, str]:
    """How large this process may become, and what says so.

    Args:
        limit_mib: what the user grants; None: all there is.
    """
    own = _resident_mib()
    found = [(own + _meminfo_mib("MemAvailable"), "free memory")]
    found += [(own + free, "the control group's limit") for free in _cgroup_free_mib()]
    found += [(left, word) for word, left in _rlimits_mib()]
    if limit_mib is not None:
        found.append((limit_mib, "--memory"))
    return min(found)


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def _meminfo_mib(name: str) -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB


def _cgroup_free_mib(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[float]:
    """Of version 2 (memory.max) and version 1 (memory.limit_in_bytes), of the group and all groups around it."""
    found: list[float] = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            found += _free_along(root, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            found += _free_along(root / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return found


def _free_along(root: Path, path: str, most: str, used: str) -> list[float]:
    folder, found = root / path.lstrip("/"), []
    while True:
        try:
            limit, taken = (folder / most).read_text().strip(), int((folder / used).read_text())
            if limit != "max" and int(limit) < 1 << 60:
                found.append((int(limit) - taken) / MIB)
        except (OSError, ValueError):
            pass
        if folder == root or root not in folder.parents:
            return found
        folder = folder.parent


def _rlimits_mib() -> list[tuple[str, float]]:
    """RLIMIT_DATA and RLIMIT_AS count address space, of which a part is never touched: that part is taken off."""
    import resource

    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Vm")
    )
    found = []
    for name, counted in (("RLIMIT_DATA", "VmData"), ("RLIMIT_AS", "VmSize")):
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft != resource.RLIM_INFINITY and counted in status:
            untouched = max(0.0, int(status[counted].split()[0]) / 1024 - _resident_mib())
            found.append((name, soft / MIB - untouched - _THREADS_MIB))
    return found


_THREADS_MIB = 48
"""Stacks of threads that a library starts later; RLIMIT_DATA counts them whole."""


def parse_memory(word: str | None) -> float | None:
    """`1536`, `1536MiB` or `1.5GiB` → MiB.

    Raises:
        UserError: another form.
    """
    import re

    if word is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MiB|GiB)?", word, re.IGNORECASE)
    mib = float(match[1]) * (1024 if match and (match[2] or "").lower() == "gib" else 1) if match else 0
    if not 64 <= mib <= 1 << 24:
        raise UserError(f"`--memory {word}`: not an amount of memory", "64 MiB or more", "Try --memory 1536 or 1.5GiB")
    return mib

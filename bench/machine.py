"""This machine → facts that belong to a number: processor, limits, GPUs, library versions, commit, load by others.

Facts that cannot be had are None or missing, never guessed. No host name, serial number or user: runs get published.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from export import processor
from reference_models.errors import UserError

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
CPUFREQ = Path("/sys/devices/system/cpu")
SOURCE = Path(__file__).resolve()
TIMEOUT_S = 5

ISA_FLAGS = {
    flag: flag
    for flag in (
        *("avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
        *("amx_int8", "amx_bf16", "amx_fp16", "sve", "sve2", "i8mm", "bf16", "fphp"),
    )
} | {"asimd": "neon", "asimddp": "dotprod"}
"""Linux flag → our word, for the instruction sets that decide how fast a network runs. Source: Linux cpufeatures.h."""

DISTRIBUTIONS = (
    *("fullres", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu13", "polygraphy"),
    *("onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnxruntime-ep-nv-tensorrt-rtx-cu12"),
    *("cuda-python", "cuda-bindings", "pycuda", "triton", "numpy", "scipy", "scikit-image", "pillow"),
)


def describe() -> dict[str, Any]:
    """Facts about processor, memory, system and GPUs; strict JSON.

    `cores_usable` counts the logical cores this process may run on, `cpu_quota` the cores' worth of time that its
    control group grants (None: no limit), `memory_mib` is what it may use; `virtualised` and `governor` are None where
    unknown.
    """
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores_usable": len(_usable_cores()),
        "cpu_quota": _cpu_quota(),
        "isa": _isa(),
        "memory_mib": _memory_mib(),
        "os": _os_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "governor": _governor(),
        "virtualised": _virtualised(),
        "gpus": _gpus(),
    }


def usable_cores() -> int:
    """Cores' worth of time that this process can have: its affinity, cut by its control group's quota, at least 1."""
    quota = _cpu_quota()
    cores = len(_usable_cores())
    return cores if quota is None else max(1, min(cores, int(quota)))


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; False where that cannot be read."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(_isa())


def versions() -> dict[str, str]:
    """Distribution name → version, of those that can change a number and are installed."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Git commit of the checkout this package runs from, "+dirty" after changes to tracked files; None without one.

    A package installed into an environment that lies inside somebody's checkout is not of that checkout.
    """
    # Asked first: fails unless this very file is tracked.
    if _git("ls-files", "--error-unmatch", SOURCE.name) is None:
        return None
    head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if not head or changes is None:
        return None
    return head.strip() + ("+dirty" if changes.strip() else "")


def chosen_threads(given: int | None) -> int:
    """CPU threads that compute: all usable cores where none is given.

    Raises:
        UserError: more than there are.
    """
    cores = usable_cores()
    if given is None:
        return cores
    if not 1 <= given <= cores:
        raise UserError(
            f"`--threads {given}`: out of range", f"1 to {cores} (cores usable here)", "Choose a number of these"
        )
    return given


@dataclass(frozen=True)
class Load:
    """Processor counters at one moment, all cores together, in jiffies since boot; None elsewhere than on Linux."""

    wall_s: float
    """A monotonic clock, in seconds."""
    total: int | None = None
    idle: int | None = None
    iowait: int | None = None
    steal: int | None = None


def sample_load() -> Load:
    """The counters now.

    Source: proc_stat(5), line `cpu`: user nice system idle iowait irq softirq steal; user and nice include the guests'.
    """
    wall_s = time.monotonic()
    fields = (_read(PROC / "stat") or "").partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return Load(wall_s)
    jiffies = [int(field) for field in fields[1:9]]
    return Load(wall_s, total=sum(jiffies), idle=jiffies[3], iowait=jiffies[4], steal=jiffies[7])


def load_between(before: Load, after: Load, own_cpu_s: float) -> dict[str, float | None]:
    """`steal_share`, `foreign_share` and `wall_s` of the time between two snapshots.

    Shares are of all cores' capacity, 0 to 1: taken away by the hypervisor, and used by other processes than ours.
    None where the system has no counters or none has ticked (they tick 100 times a second and core).

    Args:
        own_cpu_s: processor time in seconds that the measured process and its children used in between. It is counted
            more finely than the machine's own ticks, so a small negative rest is normal and cut to 0.
    """
    wall_s = after.wall_s - before.wall_s
    total = _ticks(before.total, after.total)
    if not total:
        return {"steal_share": None, "foreign_share": None, "wall_s": wall_s}
    steal = _ticks(before.steal, after.steal)
    unused = _ticks(before.idle, after.idle) + _ticks(before.iowait, after.iowait) + steal
    own = own_cpu_s * os.sysconf("SC_CLK_TCK")
    foreign = max(0.0, total - unused - own)
    return {"steal_share": min(1.0, steal / total), "foreign_share": foreign / total, "wall_s": wall_s}


def _ticks(before: int | None, after: int | None) -> int:
    """Jiffies between; 0 where unknown, or where the kernel took some back, as it may for iowait (proc_stat(5))."""
    return 0 if before is None or after is None else max(0, after - before)


def _read(path: Path) -> str | None:
    """The file's text; None where there is none to be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _isa() -> list[str]:
    flags = processor.flags(PROC)
    return [word for flag, word in ISA_FLAGS.items() if flag in flags]


def _cpu_model() -> str:
    """The maker's name of the processor; on ARM, where Linux has none, the numbers of its maker and part."""
    info = processor.cpuinfo(PROC)
    if "CPU part" in info and "model name" not in info:
        return f"implementer {info.get('CPU implementer')} part {info['CPU part']}"
    return info.get("model name") or platform.processor() or platform.machine()


def _virtualised() -> bool | None:
    """Whether the processor says that a hypervisor runs it; None where it says nothing (ARM, other systems)."""
    info = processor.cpuinfo(PROC)
    return "hypervisor" in info["flags"].split() if "flags" in info else None


def _usable_cores() -> set[int]:
    """Numbers of the logical cores this process may run on; all where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cgroup_folders(controller: str) -> Iterator[Path]:
    """Folders of this process's control group for a controller, up to the root: each of them may set a limit.

    Version 2 has one tree for all controllers, version 1 a tree for each, and both may be mounted at once. A container
    may see the host's name of its group, which it does not have; the root is then its own group, and among the folders.
    """
    for line in (_read(PROC / "self" / "cgroup") or "").splitlines():
        _, names, group = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = CGROUP / controller if names else CGROUP
        folder = root / group.lstrip("/")
        yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(root)))


def _cpu_quota() -> float | None:
    """The smallest quota of any group above this process, in cores' worth of time; None for no limit.

    Source: Linux admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_quota_us, -1 is no limit).
    """
    quotas = []
    for folder in _cgroup_folders("cpu"):
        text = _read(folder / "cpu.max")
        if text is None:
            text = f"{_read(folder / 'cpu.cfs_quota_us') or ''} {_read(folder / 'cpu.cfs_period_us') or ''}"
        fields = text.split()
        if len(fields) == 2 and fields[0] not in ("max", "-1"):
            quotas.append(int(fields[0]) / int(fields[1]))
    return min(quotas, default=None)


def _memory_mib() -> int:
    """Memory of the machine, or of the tightest control group above this process, in MiB."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for folder in _cgroup_folders("memory"):
        text = (_read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or "max").strip()
        if text != "max":
            limits.append(int(text))
    return int(min(limits)) >> 20


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _governor() -> str | None:
    """Frequency governor of the usable cores, several joined by commas; None where the system shows none."""
    texts = (_read(CPUFREQ / f"cpu{core}" / "cpufreq" / "scaling_governor") for core in _usable_cores())
    return ",".join(sorted({text.strip() for text in texts if text})) or None


def _gpus() -> list[dict[str, Any]]:
    """Name, memory_mib (None if hidden) and driver of each NVIDIA GPU; empty where `nvidia-smi` is absent or fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    gpus = []
    for line in (_output(query) or "").splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3:
            memory = int(fields[1]) if fields[1].isdigit() else None
            gpus.append({"name": fields[0], "memory_mib": memory, "driver": fields[2]})
    return gpus


def _git(*arguments: str) -> str | None:
    """Output of a git command in the folder of this file; None where it fails."""
    return _output(["git", "--no-optional-locks", "-C", str(SOURCE.parent), *arguments])


def _output(command: list[str]) -> str | None:
    """What a command prints; None where it is absent, fails or takes longer than TIMEOUT_S."""
    # Inside a git hook GIT_DIR and others name the user's repository, not ours.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

"""What the processor here says of itself, where an engine's choice hangs on it."""

from __future__ import annotations

import platform
from pathlib import Path

_PROC = Path("/proc")
_X86 = ("x86_64", "amd64", "i386", "i686")
_WIDE_SUMS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})


def cpuinfo(proc: Path = _PROC) -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty elsewhere than on Linux."""
    try:
        text = (proc / "cpuinfo").read_text(errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): text.strip() for name, _, text in lines}


def flags(proc: Path = _PROC) -> set[str]:
    """Processor flags by their Linux names; x86 calls the line `flags`, ARM `Features`."""
    info = cpuinfo(proc)
    return set((info.get("flags") or info.get("Features") or "").split())


def exact_weight_bits(proc: Path = _PROC) -> int:
    """With how many bits int8 weights are multiplied exactly here: 8, or 7 (levels of -64 to 64).

    x86 without VNNI adds two products of uint8 and int8 in 16 bits (VPMADDUBSW), which saturates: 2 x 255 x 127 does
    not fit, 2 x 255 x 64 does. An x86 that does not tell its flags is taken for one without.
    """
    if platform.machine().lower() not in _X86 or flags(proc) & _WIDE_SUMS:
        return 8
    return 7

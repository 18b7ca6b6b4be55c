"""Own kernels compiled for devices that are not here: registers, spills, shared memory, theoretical occupancy.

What Triton and the assembler say of the PTX that a plan embeds; no device, and no time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.kernel_cases import KernelCase
from engines.plugins.ptx import CAPABILITIES, compile_ptx


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor holds at most."""

    warps: int
    blocks: int
    shared_bytes: int
    reserved_bytes: int = 1024
    """Of shared memory, by the system, for every block."""


LIMITS = {
    75: Limits(32, 16, 64 << 10, 0),
    80: Limits(64, 32, 164 << 10),
    86: Limits(48, 16, 100 << 10),
    89: Limits(48, 24, 100 << 10),
    90: Limits(64, 32, 228 << 10),
    100: Limits(64, 32, 228 << 10),
    120: Limits(48, 24, 100 << 10),
}
"""By capability, as an `sm_` number. Source: CUDA C++ programming guide, technical specifications per compute
capability; reserved_bytes: the guide's section on shared memory of 8.x."""
PARTITIONS, REGISTERS = 4, 16384
"""Of a multiprocessor, each with a scheduler and so many registers of 32 bits."""
REGISTER_UNIT, SHARED_UNIT = 256, 128
"""Registers of a warp, and bytes of a block, are given out in multiples of these. Source: cuda_occupancy.h."""


def occupancy(capability: int, threads: int, registers: int, shared_bytes: int) -> float:
    """Share of a multiprocessor's warps that blocks of such a kernel can fill.

    Args:
        threads, shared_bytes: of one block.
        registers: of one thread.
    """
    limits, warps = LIMITS[capability], -(-threads // 32)
    of_a_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = PARTITIONS * (REGISTERS // of_a_warp) // warps if registers else limits.blocks
    taken = -(-(shared_bytes + limits.reserved_bytes) // SHARED_UNIT) * SHARED_UNIT
    by_shared = limits.shared_bytes // taken if taken else limits.blocks
    blocks = min(limits.blocks, limits.warps // warps, by_registers, by_shared)
    return blocks * warps / limits.warps


def assembler_missing() -> str | None:
    """None where there is an assembler, else the sentence that says what is missing."""
    if shutil.which("ptxas"):
        return None
    return "no `ptxas` on the PATH (CUDA toolkit): registers, spills and occupancy are left out"


def code_of(case: KernelCase, capability: int) -> dict[str, Any]:
    """What the assembler makes of the kernel.

    Returns:
        kernel, precision, planes, capability; registers (of a thread), spilled_bytes (stored and loaded), shared_bytes
        (of a block, in all), threads (of a block), occupancy (share of 1).

    Raises:
        RuntimeError: the assembler refuses the PTX.
    """
    made = compile_ptx(case.variant, capability)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(made.ptx)
        command = ["ptxas", "-v", f"-arch=sm_{capability}", str(source), "-o", str(source.with_suffix(".cubin"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ptxas refuses {case.title} for sm_{capability}: {done.stderr[-400:]}")
    told = read_report(done.stderr)
    shared = made.shared_bytes + told["shared_bytes"]
    return {
        "kernel": case.kernel, "precision": case.precision, "planes": case.planes, "r": case.r,
        "capability": capability, **told, "shared_bytes": shared, "threads": made.threads,
        "occupancy": occupancy(capability, made.threads, told["registers"], shared),
    }  # fmt: skip


def read_report(text: str) -> dict[str, int]:
    """registers, spilled_bytes and shared_bytes (those that the code itself fixes) of what `ptxas -v` prints.

    Raises:
        ValueError: it says nothing of registers.
    """
    registers = re.findall(r"Used (\d+) registers", text)
    if not registers:
        raise ValueError(f"ptxas says nothing of registers: {text[-400:]}")
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill (?:stores|loads)", text)))
    shared = sum(map(int, re.findall(r"(\d+) bytes smem", text)))
    return {"registers": max(map(int, registers)), "spilled_bytes": spilled, "shared_bytes": shared}


def examine_code(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """The worker's job: every kernel for every capability that runs it.

    Args:
        job: cases (as KernelCase.to_dict), one for each kernel to be compiled.
    """
    rows = []
    pairs = [(KernelCase(**case), capability) for case in job["cases"] for capability in CAPABILITIES]
    for number, (case, capability) in enumerate(pairs):
        emit("phase", name=f"{case.kernel} {case.precision} sm_{capability}", done=number)
        if case.why_not(capability) is None:
            rows.append(code_of(case, capability))
    return {"code": rows}

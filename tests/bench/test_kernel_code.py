"""Occupancy by hand, what the assembler prints, and one kernel through both where they are installed."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from bench import kernel_code
from bench.kernel_cases import cases
from bench.kernel_code import LIMITS, occupancy, read_report
from engines.plugins.ptx import CAPABILITIES, triton_missing

REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'pixel_dcl_maps' for 'sm_90'
ptxas info    : Function properties for pixel_dcl_maps
    8 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 144 registers, used 1 barriers, 512 bytes smem
"""


@pytest.mark.parametrize(
    ("capability", "threads", "registers", "shared_bytes", "share"),
    [
        (80, 128, 32, 0, 1.0),  # 16 blocks of 4 warps: all 64
        (90, 128, 47, 0, 40 / 64),  # 47 -> 1536 a warp; 10 warps in a partition, 40 in all
        (86, 128, 40, 0, 1.0),  # 12 warps in each partition: 48, all of them
        (89, 128, 154, 16384, 12 / 48),  # 5120 a warp: 3 in a partition
        (80, 128, 32, 40 << 10, 16 / 64),  # 41 KiB with the system's: 4 blocks of 164
        (75, 128, 32, 32 << 10, 8 / 32),  # nothing reserved: 2 blocks of 64 KiB
        (86, 32, 16, 0, 16 / 48),  # 16 blocks, of one warp each
    ],
)
def test_occupancy_by_hand(capability: int, threads: int, registers: int, shared_bytes: int, share: float) -> None:
    assert occupancy(capability, threads, registers, shared_bytes) == pytest.approx(share)


def test_every_capability_that_kernels_are_made_for_has_its_limits() -> None:
    assert set(LIMITS) == set(CAPABILITIES)


def test_the_assembler_s_report() -> None:
    assert read_report(REPORT) == {"registers": 144, "spilled_bytes": 32, "shared_bytes": 512}
    with pytest.raises(ValueError, match="nothing of registers"):
        read_report("ptxas info    : 0 bytes gmem")


def test_where_there_is_no_assembler_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no `ptxas` on the PATH" in str(kernel_code.assembler_missing())
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert kernel_code.assembler_missing() is None


def test_what_no_device_of_a_capability_runs_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def code_of(case: Any, capability: int) -> dict[str, Any]:
        asked.append((case.kernel, capability))
        return {}

    monkeypatch.setattr(kernel_code, "code_of", code_of)
    chosen = cases(["pixel_interleave", "pixel_dcl"], [("small", 20, 10)], ["fp16"])[:2]
    told: list[int] = []
    job = {"cases": [case.to_dict() for case in chosen]}
    found = kernel_code.examine_code(job, lambda event, name, done: told.append(done))
    assert asked == [
        *(("pixel_interleave", c) for c in CAPABILITIES), *(("pixel_dcl", c) for c in CAPABILITIES if c != 75)
    ]  # fmt: skip
    assert len(found["code"]) == len(asked)
    assert told == [*range(2 * len(CAPABILITIES))]


@pytest.fixture
def compiler(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := triton_missing() or kernel_code.assembler_missing():
        pytest.skip(reason)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("compiler")
def test_a_real_kernel_s_registers_are_counted() -> None:
    case = cases(["pixel_interleave"], [("small", 20, 10)], ["fp16"])[0]
    found = kernel_code.code_of(case, 80)
    assert (found["kernel"], found["precision"], found["capability"], found["threads"]) == (
        "pixel_interleave", "fp16", 80, 128,
    )  # fmt: skip
    assert 16 <= found["registers"] <= 128
    assert found["spilled_bytes"] == 0
    assert 0 < found["occupancy"] <= 1


@pytest.mark.usefixtures("compiler")
def test_ptx_that_the_assembler_refuses_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.plugins.ptx import CompiledKernel

    monkeypatch.setattr(kernel_code, "compile_ptx", lambda variant, capability: CompiledKernel("k", "no PTX", 128, 0))
    case = cases(["pixel_interleave"], [("small", 20, 10)], ["fp16"])[0]
    with pytest.raises(RuntimeError, match="ptxas refuses pixel_interleave"):
        kernel_code.code_of(case, 80)

"""Kernels run by Triton's interpreter, which has to be chosen before triton is imported: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.plugins.ptx import triton_missing

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def all_equal() -> Callable[[str], None]:
    """`all_equal(program)`: the program, interpreted, prints `all equal`; skips without triton."""

    def run(program: str) -> None:
        if reason := triton_missing():
            pytest.skip(reason)
        environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.split() == ["all", "equal"]

    return run

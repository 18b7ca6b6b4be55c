"""Memory: limits of all kinds are read, and the least counts; test_memory_fit.py measures what is predicted here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.memory_plan import Footprint, _cgroup_free_mib, free_mib, parse_memory
from reference_models.errors import UserError

FOOT = Footprint("onnxruntime", 1.0, 256.0, 12.0, 12.0)


def test_a_prediction_grows_with_what_runs_at_once_and_with_the_picture() -> None:
    whole = FOOT.peak_mib((2160, 3840))
    tiled = FOOT.peak_mib((2160, 3840), (2160, 1622))
    smaller = FOOT.peak_mib((1080, 1920), (1080, 1622))
    assert smaller < tiled < whole
    assert FOOT.peak_mib((2160, 3840), (2160, 3840)) == whole


def test_what_the_user_grants_is_a_limit() -> None:
    assert free_mib(70.0) == (70.0, "--memory")
    free, source = free_mib(1e9)
    assert 10 < free < 1e8
    assert source != "--memory"


@pytest.mark.parametrize(
    ("word", "mib"), [(None, None), ("1536", 1536), ("1.5GiB", 1536), ("900 MiB", 900), ("2gib", 2048)]
)
def test_amounts(word: str | None, mib: float | None) -> None:
    assert parse_memory(word) == mib


@pytest.mark.parametrize("word", ["", "none", "-5", "1.5TB", "3"])
def test_what_is_no_amount_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="--memory"):
        parse_memory(word)


def test_control_groups_of_both_versions_and_of_parents_count(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("4:cpu,memory:/a/b\n0::/x/y\n")
    files = {
        "memory/a/memory.limit_in_bytes": 300 << 20,
        "memory/a/memory.usage_in_bytes": 100 << 20,
        "memory/a/b/memory.limit_in_bytes": 1 << 62,  # what version 1 says for none
        "memory/a/b/memory.usage_in_bytes": 100 << 20,
        "x/y/memory.max": "max",
        "x/y/memory.current": 5 << 20,
        "x/memory.max": 512 << 20,
        "x/memory.current": 12 << 20,
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    assert sorted(_cgroup_free_mib(tmp_path, own)) == [200.0, 500.0]
    assert _cgroup_free_mib(tmp_path, tmp_path / "absent") == []


def test_a_limit_of_the_process_is_seen_and_is_real() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (400 << 20,) * 2)\n"
        "from bench.memory_plan import free_mib\n"
        "free, source = free_mib()\n"
        "print(free < 400, source)\n"
        "try: bytearray(500 << 20)\n"
        "except MemoryError: print('refused')\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "RLIMIT_DATA", "refused"]

""".ci/gpu with a stand-in for Python: which steps it takes, and that none ends the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in
    *usable_on*) echo "onnxruntime:capture=on,torch_eager:graph=on" ;;
    *"$FAILS"*) exit 3 ;;
esac
"""


def run(folder: Path, *steps: str, fails: str = "nothing fails") -> tuple[int, str, list[str]]:
    """Exit code, what was printed, and the stand-in's arguments, call by call."""
    python = folder / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    given = {"PYTHON": str(python), "CALLS": str(folder / "calls"), "FAILS": fails}
    command = ["bash", str(ROOT / ".ci" / "gpu"), "out", *steps]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    calls = folder / "calls"
    return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines() if calls.exists() else []


def words(calls: list[str]) -> list[str]:
    """What was run, a word each; the list of packages and of engines goes into machine.txt."""
    found = {"-m pytest": "pytest", "bench.cli kernels": "kernels", "bench.cli sweep": "sweep", "cli report": "report"}
    return [word for call in calls for part, word in found.items() if part in call]


def test_all_steps_are_taken_and_write_into_the_folder_that_is_given(tmp_path: Path) -> None:
    code, _, calls = run(tmp_path)
    assert code == 0
    assert words(calls) == ["pytest", "kernels", "sweep", "report"]
    out = tmp_path / "out"
    assert {"machine.txt", "tests.log", "kernels.log", "sweep.log", "report.log"} <= {p.name for p in out.iterdir()}
    sweep = next(call for call in calls if "cli sweep" in call)
    assert "--engine onnxruntime:capture=on,torch_eager:graph=on --model" in sweep
    assert f"--within 9min --output {out}/sweep" in sweep


def test_a_step_that_fails_ends_no_other_and_is_named(tmp_path: Path) -> None:
    code, printed, calls = run(tmp_path, fails="cli kernels")
    assert code == 1
    assert words(calls) == ["pytest", "kernels", "sweep", "report"]
    assert printed.endswith("failed: kernels (3)\n")


@pytest.mark.parametrize(("steps", "taken"), [(["kernels"], ["kernels"]), (["sweep"], ["sweep", "report"])])
def test_steps_can_be_chosen(tmp_path: Path, steps: list[str], taken: list[str]) -> None:
    code, _, calls = run(tmp_path, *steps)
    assert (code, words(calls)) == (0, taken)


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    code, printed, _ = run(tmp_path, "everything")
    assert code == 2
    assert "no step is called everything" in printed

"""The script by which this project gates itself: its words are those of `bench ab`, its exit code the worst of both."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from bench.cli import _parser

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """.ci/gate in a checkout of its own, with a `bench` that notes its words and leaves with the codes of a file."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "gate").write_text((ROOT / ".ci" / "gate").read_text())
    (tmp_path / "bench").write_text(
        '#!/usr/bin/env bash\nprintf "%q " "$@" >> said; echo >> said\n'
        "code=$(head -n 1 codes); sed -i 1d codes; exit $code\n"
    )
    (tmp_path / "bench").chmod(0o755)
    return tmp_path


def run(folder: Path, *codes: int) -> int:
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    environment = {**os.environ, "BENCH": "./bench"}
    return subprocess.run(
        ["bash", ".ci/gate", "abc123"], cwd=folder, env=environment, check=False, capture_output=True
    ).returncode


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ((0, 0), 0),
        ((0, 4), 4),
        ((4, 0), 4),
        ((4, 5), 5),
        ((5, 3), 3),
        ((3, 4), 3),
        ((2, 4), 2),
        ((1, 0), 1),
        ((127, 0), 1),
        ((0, 137), 1),
    ],
)
def test_the_worst_verdict_decides(script: Path, codes: tuple[int, int], worst: int) -> None:
    assert run(script, *codes) == worst


def test_both_engines_are_measured_by_words_that_the_command_takes(script: Path) -> None:
    run(script, 0, 0)
    lines = [shlex.split(line) for line in (script / "said").read_text().splitlines()]
    parsed = [_parser().parse_args(words) for words in lines]
    assert [words.engine for words in parsed] == ["null:delay_ms=5", "onnxruntime"]
    assert {(words.a, words.b, words.threads) for words in parsed} == {("rev:abc123", "rev:HEAD", 1)}


def test_the_workflow_runs_it_against_the_base() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "gate.yml").read_text())
    steps = " ".join(step.get("run", "") for step in workflow["jobs"]["gate"]["steps"])
    assert ".ci/gate ${{ github.event.pull_request.base.sha }}" in steps

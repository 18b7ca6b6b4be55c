"""`bench compare`: what it prints of two files, and what it refuses; the judging is tested in tests/reports."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The same cases twice; in B every sample is twice as long."""
    document = json.loads((DATA / "table_pair.json").read_text())
    slower = copy.deepcopy(document)
    for run in slower["runs"]:
        run["id"] += "-b"
        latency = run["latency_ms"]
        latency["samples"] = [[2 * sample for sample in process] for process in latency["samples"]]
        latency["p50"] *= 2
        latency["ci95"] = [2 * end for end in latency["ci95"]]
    for name, content in (("a.json", document), ("b.json", slower)):
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path / "a.json", tmp_path / "b.json"


def test_folders_stand_for_the_runs_files_in_them(command: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    for file in pair:
        (tmp_path / file.stem).mkdir()
        (tmp_path / file.stem / "runs.json").write_bytes(file.read_bytes())
    outcome = command("compare", tmp_path / "a", tmp_path / "b")
    assert outcome.code == 0, outcome
    assert "slower" in outcome.out
    assert f"A: {tmp_path / 'a'}" in outcome.out  # both are called runs.json: the folders tell them apart


def test_nothing_to_compare_is_no_success(command: Command, pair: tuple[Path, Path]) -> None:
    a, b = pair
    document = json.loads(b.read_text())
    for run in document["runs"]:
        run["case"]["model"] = "red10"
    b.write_text(json.dumps(document))
    outcome = command("compare", a, b)
    assert outcome.code == 5
    assert "no case was measured on both sides" in outcome.out


@pytest.mark.parametrize("change", [{"status": "failed", "reason": "out of memory"}, {"machine": {"cpu": "Another"}}])
def test_pairs_that_nobody_can_judge_are_no_success(
    change: dict[str, Any], command: Command, pair: tuple[Path, Path]
) -> None:
    a, b = pair
    document = json.loads(b.read_text())
    for run in document["runs"]:
        for key, value in change.items():
            run[key] = {**run[key], **value} if isinstance(value, dict) else value
    b.write_text(json.dumps(document))
    outcome = command("compare", a, b)
    assert outcome.code == 5, outcome


def test_twice_the_time_is_slower_and_the_other_way_faster(command: Command, pair: tuple[Path, Path]) -> None:
    a, b = pair
    there, back = command("compare", a, b), command("compare", b, a)
    assert (there.code, there.err) == (0, "")
    assert "slower" in there.out
    assert "2.0" in there.out
    assert "faster" in back.out
    assert "0.5" in back.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["a.json"], "B.json"),
        (["a.json", "none.json"], "none.json"),
        (["a.json", "b.json", "--margin", "0"], "--margin 0"),
        (["a.json", "b.json", "--margin", "100%"], "--margin 100%"),
        (["a.json", "b.json", "--margin", "5dB"], "Try --margin 5%"),
    ],
)
def test_wrong_words_and_files(
    words: list[str], named: str, command: Command, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair[0].parent)
    outcome = command("compare", *words)
    assert outcome.code == 2
    assert named in outcome.err
    assert "Traceback" not in outcome.err

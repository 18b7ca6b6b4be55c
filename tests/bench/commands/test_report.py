"""`bench report` and what it refuses; the page itself is tested in tests/reports."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
DATA = Path(__file__).parents[2] / "data"


def test_it_writes_page_summary_and_figures_and_says_the_verdict_first(command: Command, tmp_path: Path) -> None:
    outcome = command("report", DATA / "table_pair.json", "--output", tmp_path / "report")
    assert outcome.code == 0, outcome
    assert outcome.out.split("\n")[0] == (tmp_path / "report" / "summary.md").read_text().split("\n")[0]
    assert (tmp_path / "report" / "index.html").read_text().startswith("<!DOCTYPE html>")
    assert list((tmp_path / "report" / "figures").glob("*.svg"))
    assert "2 runs" in outcome.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["report", "RUNS"]),
        (["none.json"], ["--output"]),
        (["none.json", "--output", "out"], ["none.json", "no such file"]),
        (["cut.json", "--output", "out"], ["cut.json"]),
        (["good.json", "--output", "out", "--floor", "high"], ["--floor high", "a number"]),
        (["good.json", "--output", "out", "--margin", "2"], ["--margin 2"]),
        (["good.json", "--output", "out", "--baseline", "none.json"], ["none.json"]),
        (["good.json", "--output", "/proc/report"], ["/proc/report"]),
    ],
)
def test_wrong_words_and_files(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "table_pair.json", "good.json")
    (tmp_path / "cut.json").write_bytes((DATA / "table_pair.json").read_bytes()[:200])
    outcome = command("report", *words)
    assert outcome.code == 2, outcome
    for word in named:
        assert word in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out" / "index.html").exists()

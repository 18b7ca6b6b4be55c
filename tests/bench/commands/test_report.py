"""`bench report` and what it refuses; the page itself is tested in tests/reports."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.commands.report import plain

Command = Callable[..., Any]
DATA = Path(__file__).parents[2] / "data"


def test_it_writes_page_summary_and_figures_and_says_the_verdict_first(command: Command, tmp_path: Path) -> None:
    outcome = command("report", DATA / "table_pair.json", "--output", tmp_path / "report")
    assert outcome.code == 0, outcome
    assert outcome.out.split("\n")[0] == plain((tmp_path / "report" / "summary.md").read_text().split("\n")[0])
    assert not re.search(r"\*\*|&#?\w+;|\u200b", outcome.out)
    assert (tmp_path / "report" / "index.html").read_text().startswith("<!DOCTYPE html>")
    assert list((tmp_path / "report" / "figures").glob("*.svg"))
    assert "2 runs" in outcome.out


def test_a_line_of_markdown_is_printed_as_what_it_shows() -> None:
    """What a runs file says is escaped there; stars and references that it holds itself are kept."""
    from reports.summary import inert

    text = "net_1 @me ** <b> &amp; https://x.org `a`"
    assert plain(f"**{inert(text)}: 3 ms**.") == f"{text}: 3 ms."


def test_a_folder_stands_for_the_runs_file_in_it_and_its_pictures_are_found(command: Command, tmp_path: Path) -> None:
    from PIL import Image

    document = json.loads((DATA / "table_pair.json").read_text())
    names = {kind: f"{kind}.png" for kind in ("input", "reference", "output")}
    document["runs"][0]["picture_files"] = names
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "out" / "runs.json").write_text(json.dumps(document))
    for name in names.values():
        Image.new("RGB", (64, 48)).save(tmp_path / "out" / "pictures" / name)
    outcome = command("report", f"{tmp_path / 'out'}/", "--output", tmp_path / "report")
    assert outcome.code == 0, outcome
    assert "2 runs" in outcome.out
    by_file = command("report", tmp_path / "out" / "runs.json", "--output", tmp_path / "other")
    assert by_file.code == 0
    pages = [(tmp_path / folder / "index.html").read_text() for folder in ("report", "other")]
    assert [page.count("data:image") for page in pages] == [pages[1].count("data:image")] * 2
    for words in (["--baseline", tmp_path / "out"], []):
        assert command("report", tmp_path / "out", "--output", tmp_path / "again", *words).code == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["report", "RUNS"]),
        (["none.json"], ["--output"]),
        (["none.json", "--output", "out"], ["none.json", "no such file"]),
        (["cut.json", "--output", "out"], ["cut.json"]),
        ([".", "--output", "out"], ["folder without runs.json"]),
        (["good.json", "--output", "out", "--floor", "high"], ["--floor high", "not a PSNR"]),
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

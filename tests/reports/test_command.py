"""From runs files to a folder: every kind of file gives a sensible page or a clear error."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench import store
from reference_models.errors import UserError
from reports import plots
from reports.command import compare_files, load_rows, write_report

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\u202e$x_1$"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the figures out, which take a second and are not what the test is about."""
    monkeypatch.setattr(plots, "draw", lambda rows: {})


class Seen(HTMLParser):
    """What a browser would find: executable scripts, handlers, references to elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self.scripts.append(given.get("type"))
        self.ids += [given["id"] or ""] if "id" in given else []
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href"):
                assert (value or "").startswith(("#", "data:image/"))

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(index: Path) -> Seen:
    seen = Seen(index.read_text())
    assert seen.scripts.count(None) == 1  # the page's own
    assert set(seen.scripts) <= {None, "application/json", "text/plain"}
    assert len(set(seen.ids)) == len(seen.ids)
    return seen


def test_everything_is_written(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    result = write_report([write_runs([make_run("a"), make_run("b", 50, case={"variant": "y"})])], tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"latency.svg", "latency.png", "latency-dark.png", "memory.svg", "roofline.png"} <= names
    assert {path.name for path in result.figures} == names
    assert result.size_bytes == result.index.stat().st_size
    assert result.summary.read_text().splitlines()[0] == result.verdict
    assert result.runs == 2
    assert "can24" in checked(result.index).text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("count", [0, 1])
def test_few_runs(make_run: Make, write_runs: Write, tmp_path: Path, count: int) -> None:
    result = write_report([write_runs([make_run()] * count)], tmp_path / "out")
    text = checked(result.index).text
    assert ("hold no runs" in text) is (count == 0)
    assert result.runs == count


def test_only_failed_runs(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    run = make_run(
        status="failed", reason="the worker died of SIGSEGV", latency_ms=None, work=None, throughput_fps=None
    )
    result = write_report([write_runs([run])], tmp_path / "out")
    text = checked(result.index).text
    assert "the worker died of SIGSEGV" in text
    assert "No row has a result" in text
    assert result.figures == []


def test_stored_runs_of_the_table(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = request.config.rootpath / "tests" / "data"
    text = checked(write_report([data / "table_mixed.json"], tmp_path).index).text
    assert "the worker died of SIGSEGV" in text
    assert "5679" in text


def test_hostile_words_stay_words(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    words = {"model": HOSTILE, "weights": HOSTILE, "resolution": HOSTILE, "variant": HOSTILE, "device": HOSTILE}
    words |= {"precision": HOSTILE, "statistics": HOSTILE, "tile": HOSTILE}
    facts = {HOSTILE: HOSTILE}
    runs = [
        make_run(HOSTILE, case=words, machine=facts, versions=facts, contract=facts, unstable=[HOSTILE], commit=HOSTILE,
                 pictures=[HOSTILE], time=HOSTILE, layers=[{"layer": HOSTILE, "kind": HOSTILE, "ms": 1}]),
        make_run("f", case=words, status="failed", reason=HOSTILE, latency_ms=None, commit="other"),
        make_run("g", 20, case=words | {"precision": "fp32"}, commit="other", machine={"cpu": HOSTILE + "2"}),
    ]  # fmt: skip
    path = write_runs(runs, name="<img src=x>.json")
    result = write_report([path], tmp_path / "out", baseline=write_runs(runs[2:], name="base.json"))
    assert "onerror=alert(2)" in checked(result.index).text
    for figure in result.figures:
        if figure.suffix == ".svg":
            assert "<script" not in figure.read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_page_needs_nothing_from_elsewhere(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    text = write_report([write_runs([make_run()])], tmp_path / "out").index.read_text()
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert found
    assert "default-src &#x27;none&#x27;" in found[1]
    assert "unsafe" not in found[1]
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)


@pytest.mark.usefixtures("undrawn")
def test_the_runs_come_out_of_the_page_as_they_went_in(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    runs = [make_run("a"), make_run("b", case={"model": HOSTILE})]
    text = write_report([write_runs(runs)], tmp_path / "out").index.read_text()
    found = re.search(r'<script type="text/plain" id="raw-runs">([A-Za-z0-9+/=]*)</script>', text)
    assert found
    saved = tmp_path / "saved.json"
    saved.write_bytes(gzip.decompress(base64.b64decode(found[1])))
    assert store.load(saved) == runs


BROKEN = [
    ('{"schema": 1, "runs": [\n{"id": "a", "ca', "ends in the middle"), ("", "ends in the middle"),
    ("hello", "not JSON"),
    ('{"schema": 99, "runs": []}', "newer"), ('{"schema": 0, "runs": []}', "schema"), ("[]", "not a runs file"),
    ('{"schema": 1, "runs": [{"id": "a"}]}', "run a: `case`"), ('{"schema": 1, "runs": [5]}', "runs"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_broken_file_is_a_clear_error_that_names_it(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        write_report([path], tmp_path / "out")
    assert "broken.json" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_a_folder_that_is_none(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        write_report([tmp_path / "none.json"], tmp_path / "out")
    path = write_runs([make_run()])
    with pytest.raises(UserError, match="--output"):
        write_report([path], path)


@pytest.mark.usefixtures("undrawn")
def test_runs_of_two_schemas_are_one_report(
    make_run: Make, write_runs: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SCHEMA", 2)
    monkeypatch.setitem(store.UPGRADES, 1, lambda document: {"schema": 2, "runs": document["runs"]})
    old = write_runs([make_run("a")], name="old.json")
    new = tmp_path / "new.json"
    new.write_text(json.dumps({"schema": 2, "runs": [make_run("b", 50)]}))
    assert write_report([old, new], tmp_path / "out").runs == 2


def test_a_run_in_two_files_counts_once(make_run: Make, write_runs: Write) -> None:
    one = write_runs([make_run("a"), make_run("b")], name="1.json")
    two = write_runs([make_run("a", 7.0)], name="2.json")
    rows = load_rows([one, two])
    assert [(row.id, row.source, row.latency_ms) for row in rows] == [("b", "1.json", 100.0), ("a", "2.json", 7.0)]


def test_figures_of_an_earlier_report_do_not_stay(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    write_report([write_runs([make_run()])], tmp_path / "out")
    (tmp_path / "out" / "figures" / "mine.svg").write_text("x")
    write_report([write_runs([])], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "figures").iterdir()] == ["mine.svg"]


@pytest.mark.usefixtures("undrawn")
def test_two_files_are_compared_where_they_hold_like_cases(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    a, b = write_runs([make_run("a")], name="a.json"), write_runs([make_run("b", 150)], name="b.json")
    c = write_runs([make_run("c", case={"model": "can32"})], name="c.json")
    assert "1 slower" in write_report([a, b], tmp_path / "1").verdict
    assert "slower" not in write_report([a, c], tmp_path / "2").verdict
    assert "1 faster" in write_report([a], tmp_path / "3", baseline=b).verdict


def test_options_out_of_range(make_run: Make, write_runs: Write, tmp_path: Path) -> None:
    path = write_runs([make_run()])
    for margin in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="--margin"):
            compare_files([path], [path], margin)
    with pytest.raises(UserError, match="--floor"):
        write_report([path], tmp_path / "out", floor_db=float("nan"))


@pytest.mark.slow
def test_a_thousand_runs(many_runs: Callable[..., list[dict[str, Any]]], write_runs: Write, tmp_path: Path) -> None:
    """Processor time, since others may use the machine that tests run on."""
    path = write_runs(many_runs(1000))
    start = time.process_time()
    result = write_report([path], tmp_path / "out")
    assert time.process_time() - start < 20
    assert result.size_bytes < 15_000_000
    assert result.runs == 1000


def test_samples_without_end_do_not_swell_the_page(
    many_runs: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reports.row import row_from_run
    from reports.sections import raw

    runs = many_runs(20, 50)
    whole, all_of_it = raw.pack(runs)
    assert all_of_it
    monkeypatch.setattr(raw, "MOST_BYTES", len(whole) // 2)
    packed, all_of_it = raw.pack(runs)
    assert not all_of_it
    assert len(packed) < len(whole) / 2
    kept = json.loads(gzip.decompress(base64.b64decode(packed)))["runs"]
    for before, after in zip(runs, kept, strict=True):
        assert row_from_run(after).medians_ms == row_from_run(before).medians_ms
        assert after["samples_left_out"] is True


def test_the_original_is_shown_beside_the_reference_and_a_floor_may_be_against_it(
    make_run: Make, write_runs: Callable[..., Path], tmp_path: Path
) -> None:
    quality = {"vs_original": {"psnr_db": 31.5, "ssim": 0.9, "baseline": {"name": "the input", "psnr_db": 26.04}}}
    original = {"task": "l0_smoothing", "operator": "l0_smoothing", "samples_ms": [812.0], "p50_ms": 812.0}
    path = write_runs([make_run("a", 100.0, quality=quality, original=original)])
    found = write_report([path], tmp_path / "r", floor_db=30, against="original")
    page, summary = found.index.read_text(), found.summary.read_text()
    for text in (page, summary):
        assert "to the original" in text
        assert "31.5 dB; the input 26.0 dB; l0_smoothing itself 812 ms, 8.12×" in text
    assert "orig. dB" in page
    assert 'id="data-original"' in page
    with pytest.raises(UserError, match="no run was judged against an original"):
        write_report([write_runs([make_run("b")], "b.json")], tmp_path / "s", against="original")

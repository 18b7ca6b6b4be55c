"""The table of all runs: every figure, sortable by its value, with its contract."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from bench.metrics import METRICS
from reports.report import Report
from reports.row import row_from_run
from reports.sections import runs

Make = Callable[..., dict[str, Any]]


def cells(text: str) -> list[list[tuple[str, str]]]:
    """Per row of the body: sort value and text of every cell."""
    body = text.partition("<tbody>")[2]
    found = []
    for line in body.split("<tr")[1:]:
        parts = re.findall(r"<td([^>]*)>(.*?)</td>", line, re.DOTALL)
        found.append([((re.findall('data-v="(.*?)"', a) or [""])[0], re.sub("<[^>]*>", "", t)) for a, t in parts])
    return found


def test_every_figure_is_the_runs_own(make_run: Make) -> None:
    run = make_run(ms=123.456)
    (line,) = cells(runs.render(Report([row_from_run(run)])))
    assert ("123.456", "123") in line
    assert ("500.0", "500") in line
    assert ("60.0", "60.0") in line
    assert ("0.5", "50%") in line
    assert any(text == "±2.0%" for _, text in line)


def test_columns_are_those_of_the_metrics(make_run: Make) -> None:
    text = runs.render(Report([row_from_run(make_run())]))
    heads = re.findall(r'<th[^>]*><button type="button">(.*?)</button>', text)
    absent = ("memory.device_peak_mib", "quality.vs_original.psnr_db", "quality.vs_original.ssim")
    expected = [metric.column for metric in METRICS if metric.key not in absent]
    assert [head for head in heads if head not in (*runs.CHOICES, "95 %")] == expected


def test_rows_without_a_result_have_their_reason(make_run: Make) -> None:
    text = runs.render(Report([row_from_run(make_run(status="failed", reason="no <memory>", latency_ms=None))]))
    assert "no &lt;memory&gt;" in text
    assert '<span class="mark failed">failed</span>' in text


def test_identical_sorts_above_every_number(make_run: Make) -> None:
    run = make_run()
    run["quality"]["vs_reference"] |= {"psnr_db": None, "identical": True}
    (line,) = cells(runs.render(Report([row_from_run(run)])))
    assert ("1e+300", "∞") in line


def test_the_contract_of_a_number_is_in_its_row(make_run: Make) -> None:
    text = runs.render(Report([row_from_run(make_run(unstable=["drift"]))]))
    for word in ("threads", "transfers", "5 processes", "abababababab", "0123456789ab", "Some CPU, 8 cores", "drift"):
        assert word in text.partition("<details>")[2]


def test_files_are_named_where_there_are_two(make_run: Make) -> None:
    rows = [row_from_run(make_run("a"), "a.json"), row_from_run(make_run("b"), "b.json")]
    assert "b.json" in runs.render(Report(rows))
    assert "a.json" not in runs.render(Report(rows[:1]))
    assert runs.render(Report([])) == ""


def test_one_process_is_said_in_the_contract(make_run: Make) -> None:
    run = make_run(latency_ms={"ci95_of": "median within one process", "p50": 100.0})
    text = runs.render(Report([row_from_run(run)]))
    assert "1 process; the interval lies within it" in text
    assert 'data-name="network"' in text


def test_what_all_rows_share_is_hidden_but_kept(make_run: Make) -> None:
    rows = [row_from_run(make_run("a")), row_from_run(make_run("b", case={"precision": "int8", "tile": "512"}))]
    text = runs.render(Report(rows))
    assert "The same in all rows, and therefore not shown: statistics image, device cpu, status ok." in text
    hidden = re.findall('<th[^>]*data-name="([^"]*)"[^>]* hidden>', text)
    assert hidden == ["statistics", "device", "status"]
    assert [line[i][1] for line in cells(text) for i in (3, 4, 5, 6)] == [
        "fp32",
        "image",
        "cpu",
        "–",
        "int8",
        "image",
        "cpu",
        "512",
    ]
    assert text.count("<td hidden>") == 2 * 3
    assert "hidden" not in runs.render(Report(rows[:1]))


def test_a_table_too_long_for_the_page_ends_with_a_word(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row_from_run(make_run(f"r{i}")) for i in range(20)]
    whole = runs.render(Report(rows))
    monkeypatch.setattr(runs, "MOST_BYTES", len(whole) // 2)
    text = runs.render(Report(rows))
    shown = len(cells(text))
    assert 5 < shown < 15
    assert f"The first {shown} of 20 runs; the runs files have the rest." in text
    assert f"{shown} of {shown} rows" in text

"""summary.md: the verdict in the first line, short, and inert whatever the runs say."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest

from reports.comparison import compare_rows
from reports.report import Report
from reports.row import row_from_run
from reports.summary import inert, summary

Make = Callable[..., dict[str, Any]]


def of(*runs: dict[str, Any], **keys: Any) -> str:
    return summary(Report([row_from_run(run) for run in runs], **keys))


def test_the_first_line_names_the_answer(make_run: Make) -> None:
    torch = make_run("t", 300, case={"engine": "torch_eager", "variant": "torch_eager"})
    lines = of(make_run("a"), torch).splitlines()
    assert lines[0] == "**can24 720p: onnxruntime fp32 image, 100 ms** (±2.0%, 60.0 dB)."
    assert "| can24 | 720p | onnxruntime fp32 image | 100 ms | 10.0 | 60.0 dB | 3.00× |" in lines


def test_the_first_line_names_failures_and_floors(make_run: Make) -> None:
    failed = make_run("f", status="failed", reason="no memory", latency_ms=None)
    assert of(make_run("a"), failed).splitlines()[0].endswith("1 row failed.")
    assert of(make_run("a"), floor_db=99).startswith("**No row keeps 99 dB**")
    assert of(failed).startswith("**No result:** 1 run, none could be measured.")
    assert of().startswith("**No result:** 0 runs")
    assert "no memory" in of(failed)


@pytest.mark.parametrize(
    ("factor", "start"),
    [
        (1.2, "**Slower: 1 slower**"), (0.8, "**Faster: 1 faster**"), (1.0, "**No slower case: 1 same**"),
        (None, "**Nothing to compare"),
    ],
)  # fmt: skip
def test_the_first_line_of_a_comparison_is_its_verdict(make_run: Make, factor: float | None, start: str) -> None:
    a = [row_from_run(make_run("a", spread=0.002))]
    case = {} if factor else {"model": "can32"}
    b = [row_from_run(make_run("b", 100 * (factor or 1), spread=0.002, case=case))]
    assert summary(Report(b, comparison=compare_rows(a, b, ("main", "change")))).startswith(start)


def test_it_is_under_sixty_lines_whatever_the_runs(
    many_runs: Callable[..., list[dict[str, Any]]], make_run: Make
) -> None:
    runs = many_runs(300, 2)
    for i, run in enumerate(runs):
        run["machine"] = run["machine"] | {"cpu": f"CPU {i % 40}"}
        run["commit"] = f"{i:08x}+dirty"
        run["unstable"] = ["noise"]
    rows = [row_from_run(run) for run in runs]
    other = [row_from_run(run | {"id": f"b{i}", "versions": {f"v{i}": "1"}}) for i, run in enumerate(runs)]
    text = summary(Report(rows, comparison=compare_rows(other, rows)))
    assert len(text.splitlines()) < 60
    assert text.splitlines()[-1].endswith("`index.html`.")


HOSTILE = ["<img src=x>", "a|b", "[x](https://evil.example)", "@everyone", "`code`", "# head", "*b* _i_ ~s~", "$x$",
           "http://evil.example", "www.evil.example", "a\nb", "&lt;", "![i](x)", "<!-- -->", "#12"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_words_of_a_run_do_nothing(make_run: Make, text: str) -> None:
    shown = of(make_run("a", case={"model": text}), make_run("f", status="failed", reason=text, latency_ms=None))
    body = "\n".join(line for line in shown.splitlines() if "`index.html`" not in line)
    assert not any(sign in body for sign in "<>@[]`~$")
    assert "http:" not in body
    assert "https:" not in body
    assert "www." not in body
    tables = [line for line in body.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {8}


def test_inert_text_reads_as_it_was() -> None:
    for text in HOSTILE:
        assert html.unescape(inert(text)) == text
    assert inert("") == "–"
    assert len(html.unescape(inert("x" * 500))) == 90

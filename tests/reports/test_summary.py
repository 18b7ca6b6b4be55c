"""summary.md: the verdict in the first line, short, and inert whatever the runs say."""

from __future__ import annotations

import html
import re
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
        (None, "**Broken: 1 missing**"),
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
        assert html.unescape(inert(text)).replace("\u200b", "") == text
    assert inert("") == "–"
    assert inert("l0_smoothing _x_ a_") == "l0_smoothing &#95;x&#95; a&#95;"
    assert len(html.unescape(inert("x" * 500))) == 90


def against(a: list[dict[str, Any]], b: list[dict[str, Any]], **keys: Any) -> str:
    rows = [[row_from_run(run) for run in runs] for runs in (a, b)]
    return summary(Report(rows[1], comparison=compare_rows(rows[0], rows[1], ("main", "change")), **keys))


def test_the_first_line_leads_with_what_makes_the_candidate_no_result(make_run: Make) -> None:
    models = ("m0", "m1", "m2", "m3", "m4")
    a = [make_run(f"a{m}", spread=0.002, case={"model": m}) for m in models]
    b = [make_run(f"b{m}", 50.0, spread=0.002, case={"model": m}) for m in models[:4]]
    b[0] |= {"status": "failed", "reason": "no memory", "latency_ms": None}
    b[1]["quality"]["vs_reference"] |= {"psnr_db": None, "finite": False}
    b[2]["quality"]["vs_reference"]["psnr_db"] = 20.0
    first = against(a, b).splitlines()[0]
    assert first.startswith("**Broken: 1 failed, 1 missing, 1 wrote NaN, 1 fell below 45 dB; 3 faster**")
    assert against(a, b, floor_db=10).startswith("**Broken: 1 failed, 1 missing, 1 wrote NaN; 3 faster**")


def test_good_news_only_where_every_pair_was_judged(make_run: Make) -> None:
    a = [make_run(f"a{m}", spread=0.002, case={"model": m}) for m in ("m0", "m1")]
    b = [make_run(f"b{m}", spread=s, case={"model": m}) for m, s in (("m0", 0.002), ("m1", 0.3))]
    assert against(a, b).startswith("**Cannot tell: 1 inconclusive; 1 same**")
    b[1]["machine"]["cpu"] = "Other"
    assert against(a, b).startswith("**Cannot tell: 1 not judged; 1 same**")


def test_the_pairs_show_both_qualities_unless_of_other_pictures(make_run: Make) -> None:
    b = make_run("b")
    b["quality"]["vs_reference"]["psnr_db"] = 52.0
    assert "| 60.0 dB → 52.0 dB |" in against([make_run("a")], [b])
    b["pictures"] = ["other.png"]
    assert "52.0 dB |\n\n- " not in against([make_run("a")], [b])
    assert "| other pictures |" in against([make_run("a")], [b])


def test_the_headline_says_what_weakens_it(make_run: Make) -> None:
    runs = [make_run("a", unstable=["drift"]), make_run("b", 101.0, case={"variant": "openvino"})]
    first = of(*runs).splitlines()[0]
    assert "(unstable; not told apart from openvino fp32 image)" in first


def test_threads_are_named_where_they_vary(make_run: Make) -> None:
    text = of(make_run("a"), make_run("b", contract={"threads": 1}))
    assert "| can24, threads 1 |" in text
    assert "| can24, threads 8 |" in text


@pytest.mark.parametrize(
    ("text", "torn"),
    [
        ("me@evil.example", "@\u200b"), ("@org/team", "@\u200b"), ("#12", "#\u200b12"), ("GH-12", "GH\u200b-"),
        ("xhttp://evil.example", "p\u200b://"), ("see_www.evil.example", "www\u200b."), ("a.com", "a\u200b.com"),
    ],
)  # fmt: skip
def test_links_and_mentions_are_torn_even_after_references_are_read(text: str, torn: str) -> None:
    """GitHub looks for them in the text as rendered: no pattern of its own may hold there."""
    rendered = html.unescape(inert(text))
    assert torn in rendered
    patterns = (r"[\w.+-]+@[\w-]", r"@\w", r"#\d", r"(?i)\bgh-\d", r"\w://", r"(?i)www\.", r"\w\.[a-z]")
    assert not any(re.search(pattern, rendered) for pattern in patterns)


def test_versions_and_figures_stay_whole() -> None:
    assert inert("torch 2.13.0, 0.82×, 60.0 dB") == "torch 2.13.0, 0.82×, 60.0 dB"

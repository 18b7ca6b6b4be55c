"""The page as a browser has it: policy, no request, sorting, filtering, slider, saving, print, two widths."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reports.command import write_report
from reports.page import page, policy, subject
from reports.report import Report
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]


def test_the_policy_names_the_very_script_and_style(make_run: Make) -> None:
    text = page(Report([row_from_run(make_run())]))
    style, script = (re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in ("style", "script"))
    assert style
    assert script
    for found in (style[1], script[1]):
        assert base64.b64encode(hashlib.sha256(found.encode()).digest()).decode() in text
    assert policy("a", "b") != policy("a", "c")


def test_the_script_builds_no_markup_from_text(make_run: Make) -> None:
    script = page(Report([])).rpartition("<script>")[2]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|fetch\(", script)


def test_the_head_says_what_was_measured_on_what(make_run: Make) -> None:
    rows = [row_from_run(make_run()), row_from_run(make_run("b", case={"model": "can32", "resolution": "1080p"}))]
    assert subject(Report(rows)) == "can24, can32 at 1080p, 720p on Some CPU, 8 cores"
    rows += [row_from_run(make_run(str(i), case={"model": f"m{i}"})) for i in range(5)]
    assert subject(Report(rows)).startswith("7 networks at")
    assert "2 runs, 2 with a result, measured 2026-03-01." in page(Report(rows[:2]))


def test_serious_warnings_are_counted_at_the_top(make_run: Make) -> None:
    text = page(Report([row_from_run(make_run(case={"trained": False}))]))
    assert '<a href="#caution" class="alarm">1 serious warning</a>' in text.partition("</header>")[0]


# In a real browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium by playwright; skips with the reason where one of the two is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium found; set CHROMIUM to one")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section that runs can fill, and hostile words."""
    folder = tmp_path_factory.mktemp("report")
    bad = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    runs = []
    for commit in ("aaaa", "bbbb"):
        for engine, ms in (("torch_eager", 300.0), ("onnxruntime", 90.0), ("openvino", 10.0)):
            for precision, gain in (("fp32", 1.0), ("bf16", 0.5)):
                case = {"engine": engine, "variant": engine, "precision": precision}
                runs.append(make_run(f"{commit}{engine}{precision}", ms * gain, case=case, commit=commit))
    runs.append(make_run("bad", status="failed", reason=bad, case={"model": bad}, latency_ms=None))
    runs.append(make_run("=1+1", 33.0, case={"model": "=HYPERLINK(1)|x", "variant": bad}, unstable=[bad]))
    path = folder / "runs.json"
    path.write_text(json.dumps({"schema": 1, "runs": runs}))
    base = folder / "base.json"
    base.write_text(json.dumps({"schema": 1, "runs": [run for run in runs if run["commit"] == "aaaa"]}))
    pixels = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    for name, change in (("input", 9), ("reference", 0), ("openvino-bf16-image", 3)):
        Image.fromarray(pixels // 2 + np.uint8(change)).save(folder / f"can24-720p-{name}.png")
    return write_report([path], folder / "out", baseline=base).index


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """The report in a window of 1600 pixels; whatever it complained about or asked for is a failure."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, accept_downloads=True)
    window = context.new_page()
    complaints: list[str] = []
    window.on("console", lambda message: complaints.append(message.text))
    window.on("pageerror", lambda error: complaints.append(str(error)))
    window.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    window.goto(report.as_uri())
    yield window
    assert window.title().startswith("FullRes report")
    assert complaints == []
    context.close()


@pytest.mark.slow
def test_tables_sort_by_figure_and_by_word(opened: Any) -> None:
    column = "[...document.querySelectorAll('.runs tbody tr')].map(r => r.cells[7].textContent)"
    head = opened.locator(".runs th", has_text="median ms").get_by_role("button")
    head.click()
    up = opened.evaluate(column)
    numbers = [float(text) for text in up if text != "–"]
    assert numbers == sorted(numbers)
    assert up[-1] == "–"
    head.click()
    down = opened.evaluate(column)
    assert [float(text) for text in down if text != "–"] == numbers[::-1]
    assert down[-1] == "–"
    assert opened.locator(".runs th[aria-sort=descending]").count() == 1


@pytest.mark.slow
def test_the_filter_keeps_rows_with_all_words(opened: Any) -> None:
    opened.locator(".filter").fill("openvino bf16")
    assert opened.locator(".runs tbody tr:visible").count() == 2
    assert opened.locator(".count").text_content() == "2 of 14 rows"
    opened.locator(".filter").fill("-can24")
    assert opened.locator(".runs tbody tr:visible").count() == 2
    opened.locator(".filter").fill("")
    assert opened.locator(".runs tbody tr:visible").count() == 14


@pytest.mark.slow
def test_copies_are_markdown_and_csv_that_no_spreadsheet_executes(opened: Any) -> None:
    opened.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    opened.get_by_role("button", name="Copy as Markdown").click()
    lines = opened.evaluate("copied").splitlines()
    assert len(lines) == 16
    assert len({line.count("|") for line in lines}) == 1
    assert not any("<" in line for line in lines)
    opened.get_by_role("button", name="Copy as CSV").click()
    assert "'=HYPERLINK(1)|x" in opened.evaluate("copied")
    opened.locator("#latency .copy").click()
    opened.wait_for_function("copied.startsWith('id,panel')")


@pytest.mark.slow
def test_the_slider_moves_the_border_between_the_pictures(opened: Any) -> None:
    clip = "getComputedStyle(document.querySelector('.above')).clipPath"
    assert "50%" in opened.evaluate(clip)
    opened.locator(".slider input").first.fill("10")
    assert "90%" in opened.evaluate(clip)


@pytest.mark.slow
def test_the_runs_are_saved_as_a_runs_file(opened: Any, report: Path, tmp_path: Path) -> None:
    with opened.expect_download() as waiting:
        opened.locator("#save-runs").click()
    assert waiting.value.suggested_filename == "runs.json"
    waiting.value.save_as(tmp_path / "saved.json")
    stored = json.loads((report.parent.parent / "runs.json").read_text())
    assert json.loads((tmp_path / "saved.json").read_text()) == stored


@pytest.mark.slow
def test_each_number_has_its_contract_one_click_away(opened: Any) -> None:
    row = opened.locator(".runs tbody tr").first
    assert not row.get_by_text("in flight").is_visible()
    row.locator("summary").click()
    assert row.get_by_text("in flight").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_of_the_window(browser: Any, report: Path, width: int, scheme: str) -> None:
    window = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    window.goto(report.as_uri())
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    window.close()


@pytest.mark.slow
def test_it_prints(opened: Any) -> None:
    data = opened.pdf(prefer_css_page_size=True)
    assert data.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 40


def test_on_paper_heads_are_text_and_all_is_open() -> None:
    text = page(Report([]))
    paper = text.partition("@media print")[2].partition("</style>")[0]
    assert "th button{display:none}" in paper
    assert "content:attr(data-name)" in paper
    assert ".runs th:last-child,.runs td:last-child{display:none}" in paper
    assert '"beforeprint"' in text


@pytest.mark.slow
def test_the_median_of_the_answer_is_on_the_first_screen_of_a_phone(browser: Any, report: Path) -> None:
    window = browser.new_page(viewport={"width": 390, "height": 900})
    window.goto(report.as_uri())
    box = window.locator("#verdict tbody tr td:nth-child(2)").first.bounding_box()
    assert box["x"] + box["width"] <= 390
    window.close()


@pytest.mark.slow
def test_details_open_for_the_print_and_close_after_it(opened: Any) -> None:
    closed = "document.querySelectorAll('details:not([open])').length"
    before = opened.evaluate(closed)
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.evaluate(closed) == 0
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.evaluate(closed) == before > 0

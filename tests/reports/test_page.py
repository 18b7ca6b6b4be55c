"""The page as a browser has it: policy, no request, sorting, filtering, slider, saving, print, widths, accessibility.

What needs a browser is slow and runs with `pytest -m slow tests/reports/test_page.py` where the extra `browser` and a
Chromium are installed (found on the PATH, or named by CHROMIUM); each test says what it misses where it is skipped.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
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

from reports import page as pages
from reports.command import write_report
from reports.page import page, policy, subject
from reports.pictures import Gallery, PictureSet, Shown
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
    large = {"model": "can32", "resolution": "1080p", "output_shape": [1, 3, 1080, 1920]}
    rows = [row_from_run(make_run("b", case=large)), row_from_run(make_run())]
    assert subject(Report(rows)) == "can24, can32 at 720p, 1080p on Some CPU, 8 cores"
    rows += [row_from_run(make_run(str(i), case={"model": f"m{i}"})) for i in range(5)]
    assert subject(Report(rows)).startswith("7 networks at")
    assert "2 runs, 2 with a result, measured 2026-03-01." in page(Report(rows[:2]))


def test_serious_warnings_are_counted_at_the_top(make_run: Make) -> None:
    text = page(Report([row_from_run(make_run(case={"trained": False}))]))
    assert '<a href="#caution" class="alarm">1 serious warning</a>' in text.partition("</header>")[0]


def test_on_paper_heads_are_text_and_all_is_open() -> None:
    text = page(Report([]))
    paper = text.partition("@media print")[2].partition("</style>")[0]
    assert "th button{display:none}" in paper
    assert "content:attr(data-name)" in paper
    assert ".runs th:last-child,.runs td:last-child{display:none}" in paper
    assert '"beforeprint"' in text


def test_the_page_never_grows_beyond_its_measure(
    make_run: Make, many_runs: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of the measure, so that few runs and pictures fill it."""
    rows = [row_from_run(run) for run in many_runs(100, 100)]
    large = "data:image/png;base64," + "A" * 500_000
    sets = [PictureSet(row, [Shown("output", large, 64, 36)], None, 0, (), (0, 0), None, "") for row in rows[:9]]
    report = Report(rows, gallery=Gallery(sets))
    assert len(page(report).encode()) < 15_000_000
    monkeypatch.setattr(pages, "MOST_BYTES", 3_000_000)
    text = page(report)
    assert 2_200_000 < len(text.encode()) <= 3_000_000
    assert text.count("<img") == 4
    assert "cases without pictures" in text
    monkeypatch.setattr(pages, "FIXED_BYTES", 100_000)
    short = page(report)
    assert "Left out: 0 MB" in short
    assert 'id="verdict"' in short


# In a real browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium by playwright; skips with the reason where one of the two is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: extra `browser`")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium found on the PATH; set CHROMIUM to one")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


BAD = (
    "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><svg onload=owned()>"
)
COUNT = 2 * 3 * 4 + 2


def runs_of_all_kinds(make_run: Make) -> list[dict[str, Any]]:
    """Two commits, three engines, four precisions, a profile; one failed, one with hostile words everywhere."""
    runs = []
    for commit in ("aaaa", "bbbb"):
        for engine, ms in (("torch_eager", 300.0), ("onnxruntime", 90.0), ("openvino", 10.0)):
            for precision, gain, psnr in (
                ("fp32", 1, 110.0),
                ("bf16", 0.5, 58.0),
                ("int8", 0.3, 41.0),
                ("int8+fp16", 0.4, 47.0),
            ):
                case = {"engine": engine, "variant": engine, "precision": precision}
                slower = 1.0 if commit == "aaaa" else 1.2
                run = make_run(f"{commit}{engine}{precision}", ms * gain * slower, case=case, commit=commit)
                run["quality"]["vs_reference"]["psnr_db"] = psnr
                run["time"] = f"2026-0{1 if commit == 'aaaa' else 2}-01T00:00:00+00:00"
                runs.append(run)
    runs[-1]["layers"] = [{"layer": BAD, "kind": BAD, "ms": 2.0}, {"layer": "conv", "kind": "Conv", "ms": 1.0}]
    runs.append(make_run("bad", status="failed", reason=BAD, case={"model": BAD}, latency_ms=None))
    words = dict.fromkeys(("resolution", "weights", "precision", "statistics", "tile"), BAD)
    odd = make_run("=1+1", 33.0, case={"model": "=HYPERLINK(1)|x", "variant": BAD, **words}, unstable=[BAD])
    runs.append(odd | {"machine": odd["machine"] | {BAD: BAD}, "pictures": [BAD], "commit": BAD})
    return runs


@pytest.fixture(scope="module")
def report(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section, and hostile words, names of pictures among them."""
    folder = tmp_path_factory.mktemp("report")
    runs = runs_of_all_kinds(make_run)
    picture = BAD.replace("/", "") + ".png"
    runs[-1]["picture_files"] = {"output": picture}
    (folder / picture).write_bytes(b"no picture")
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
    own = (report.as_uri(), "data:image/", f"blob:{report.as_uri()[:7]}")
    window.on("console", lambda message: complaints.append(message.text))
    window.on("pageerror", lambda error: complaints.append(str(error)))
    window.on("request", lambda request: None if request.url.startswith(own) else complaints.append(request.url))
    window.on("dialog", lambda dialog: complaints.append(dialog.message))
    window.goto(report.as_uri())
    yield window
    assert window.title().startswith("FullRes report")
    assert complaints == []
    context.close()


@pytest.mark.slow
def test_all_sections_are_there_and_no_word_became_markup(opened: Any) -> None:
    found = opened.evaluate("[...document.querySelectorAll('main>section')].map(s => s.id)")
    sections = ["verdict", "caution", "comparison", "latency", "memory", "quality", "speedup", "roofline", "coldstart",
                "layers", "history", "runs", "pictures", "conditions", "raw"]  # fmt: skip
    assert found == sections
    assert opened.evaluate("[...document.querySelectorAll('script:not([type])')].length") == 1
    assert opened.evaluate("[...document.querySelectorAll('img')].every(i => i.src.startsWith('data:image/'))")
    assert opened.evaluate("[...document.querySelectorAll('img')].every(i => i.complete && i.naturalWidth > 0)")
    handlers = (
        "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on/.test(a.name)).length"
    )
    assert opened.evaluate(handlers) == 0
    assert BAD in opened.locator("#caution").text_content()


@pytest.mark.slow
def test_tables_sort_by_figure_and_by_word(opened: Any) -> None:
    place = opened.evaluate("document.querySelector('.runs th[data-name=\"median ms\"]').cellIndex")
    column = f"[...document.querySelectorAll('.runs tbody tr')].map(r => r.cells[{place}].textContent)"
    head = opened.locator(".runs th", has_text="median ms").get_by_role("button")
    head.click()
    up = opened.evaluate(column)
    numbers = [float(text) for text in up if text != "–"]
    assert len(numbers) == COUNT - 1
    assert numbers == sorted(numbers)
    assert up[-1] == "–"
    head.click()
    down = opened.evaluate(column)
    assert [float(text) for text in down if text != "–"] == numbers[::-1]
    assert down[-1] == "–"
    assert opened.locator(".runs th[aria-sort=descending]").count() == 1
    opened.locator(".runs th[data-name=engine] button").press("Enter")
    engines = opened.evaluate("[...document.querySelectorAll('.runs tbody tr')].map(r => r.cells[2].textContent)")
    assert engines[0].startswith("</script>")
    assert [e for e in engines if e[0] != "<"] == sorted(e for e in engines if e[0] != "<")


@pytest.mark.slow
def test_the_filter_keeps_rows_with_all_words(opened: Any) -> None:
    opened.locator(".filter").fill("openvino bf16")
    assert opened.locator(".runs tbody tr:visible").count() == 2
    assert opened.locator(".count").text_content() == f"2 of {COUNT} rows"
    opened.locator(".filter").fill("-can24")
    assert opened.locator(".runs tbody tr:visible").count() == 2
    opened.locator(".filter").fill("")
    assert opened.locator(".runs tbody tr:visible").count() == COUNT


@pytest.mark.slow
def test_copies_are_markdown_and_csv_that_no_spreadsheet_executes(opened: Any) -> None:
    opened.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    opened.get_by_role("button", name="Copy as Markdown").click()
    lines = opened.evaluate("copied").splitlines()
    assert len(lines) == COUNT + 2
    assert len({line.count("|") for line in lines}) == 1
    assert not any("<" in line for line in lines)
    opened.get_by_role("button", name="Copy as CSV").click()
    assert "'=HYPERLINK(1)|x" in opened.evaluate("copied")
    opened.locator("#latency .copy").click()
    opened.wait_for_function("copied.startsWith('id,panel')")


@pytest.mark.slow
def test_the_table_is_saved_as_csv_as_it_is_filtered(opened: Any, tmp_path: Path) -> None:
    opened.locator(".filter").fill("openvino int8+fp16")
    with opened.expect_download() as waiting:
        opened.get_by_role("button", name="Save runs.csv").click()
    assert waiting.value.suggested_filename == "runs.csv"
    waiting.value.save_as(tmp_path / "runs.csv")
    lines = list(csv.DictReader((tmp_path / "runs.csv").open(newline="")))
    assert [(line["engine"], line["precision"], line["median ms"]) for line in lines] == [
        ("openvino", "int8+fp16", "4.00"),
        ("openvino", "int8+fp16", "4.80"),
    ]


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
    row.get_by_text("in flight").wait_for(state="visible", timeout=5000)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_of_the_window(browser: Any, report: Path, width: int, scheme: str) -> None:
    window = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    window.goto(report.as_uri())
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert outside(window, width, but=".scroll *") == []
    window.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    window.close()


def outside(window: Any, width: int, but: str) -> list[str]:
    """Visible elements that reach beyond the window, or whose text is cut by themselves."""
    script = """([width, but]) => [...document.querySelectorAll('body *')].filter(e => !e.matches(but))
        .filter(e => e.checkVisibility()).map(e => [e, e.getBoundingClientRect()])
        .filter(([, box]) => box.right > width + 1 || box.left < -1)
        .map(([e]) => e.tagName + ' ' + e.textContent.slice(0, 40))"""
    return list(window.evaluate(script, [width, but]))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1600, "light"), (1600, "dark"), (390, "light")])
def test_axe_finds_nothing_serious(browser: Any, report: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    window = context.new_page()
    window.goto(report.as_uri())
    window.evaluate(axe())
    found = window.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []
    context.close()


def axe() -> str:
    """The source of axe-core: the file that AXE names, or the one that axe-playwright-python brings."""
    if path := os.environ.get("AXE"):
        return Path(path).read_text()
    package = pytest.importorskip("axe_playwright_python", reason="no axe-core: extra `browser`, or AXE=axe.min.js")
    return (Path(package.__file__).parent / "axe.min.js").read_text()


PAPER_PX = 1031
"""Width of what is printed on A4, landscape, between margins of 12 mm, at 96 dpi."""


@pytest.mark.slow
def test_nothing_sticks_out_of_the_paper(browser: Any, report: Path) -> None:
    window = browser.new_page(viewport={"width": PAPER_PX, "height": 700})
    window.goto(report.as_uri())
    window.emulate_media(media="print")
    window.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert window.evaluate("document.documentElement.scrollWidth") <= PAPER_PX
    assert outside(window, PAPER_PX, but="defs *") == []
    seen = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility())"
    cut = seen.format(".scroll") + ".filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert window.evaluate(cut) == 0
    drawn = (
        seen.format("text")
        + ".map(e => parseFloat(e.getAttribute('font-size')) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b))"
    )
    written = seen.format("td,th,p,li,dd") + ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert window.locator("#history svg.strip").count() > 0  # its panels fill more than a sheet
    assert min(window.evaluate(drawn)) > 6.5  # pixels: 5 points
    assert min(window.evaluate(written)) > 9
    window.close()


@pytest.mark.slow
def test_the_print_holds_all_words(opened: Any) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed: extra `browser`")
    data = opened.pdf(prefer_css_page_size=True)
    pages = pypdf.PdfReader(io.BytesIO(data)).pages
    assert 4 <= len(pages) <= 40
    beyond: list[str] = []
    width = float(pages[0].mediabox.width)

    def look(text: str, cm: list[float], tm: list[float], *_: Any) -> None:
        x = tm[4] * cm[0] + tm[5] * cm[2] + cm[4]
        if text.strip() and not 0 <= x <= width:
            beyond.append(text)

    text = " ".join(each.extract_text(visitor_text=look) for each in pages)
    squeezed = re.sub(r"\s+", "", text)
    for word in (
        "The answer",
        "median ms",
        "PSNR dB",
        "openvino int8+fp16 image",
        "24 fps",
        "Copy numbers",
        "Some CPU",
    ):
        assert (re.sub(r"\s+", "", word) in squeezed) is (word != "Copy numbers"), word
    assert squeezed.count("can24") > COUNT
    assert beyond == []


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
    height = "document.querySelector('#history svg').getBoundingClientRect().height"
    whole = opened.evaluate(height)
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.evaluate(closed) == 0
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.evaluate(closed) == before > 0
    assert opened.evaluate(height) == whole
    assert opened.locator("svg.strip").count() == 0

"""Pictures in the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.pictures import Gallery, PictureSet, Shown
from reports.report import Report
from reports.row import Row, row_from_run
from reports.sections import pictures

Make = Callable[..., dict[str, Any]]


def shown(label: str) -> Shown:
    return Shown(label, "data:image/png;base64,AAAA", 64, 36)


def whole(row: Row) -> PictureSet:
    overview = [shown("input"), shown("reference"), shown("output")]
    return PictureSet(row, overview, shown("difference × 8"), 8, [shown("reference")], (10, 20), shown("SSIM map"), "")


def test_a_set_has_overview_slider_and_crops(make_run: Make) -> None:
    row = row_from_run(make_run(case={"model": "<m>"}))
    text = pictures.render(Report([row], gallery=Gallery([whole(row)])))
    assert text.count("<img") == 5 + 2 + 1
    assert 'type="range"' in text
    assert "from (10, 20)" in text
    assert "<m>" not in text
    assert 'alt="difference × 8 of &lt;m&gt; 720p onnxruntime fp32 image"' in text


def test_without_a_difference_there_is_no_slider(make_run: Make) -> None:
    row = row_from_run(make_run())
    plain = PictureSet(row, [shown("output")], None, 0, (), (0, 0), None, "No reference.")
    text = pictures.render(Report([row], gallery=Gallery([plain])))
    assert "No reference." in text
    assert "range" not in text


def test_what_was_left_out_is_listed(make_run: Make) -> None:
    left_out = [(f"case {i}", "too <large>") for i in range(40)]
    text = pictures.render(Report([], gallery=Gallery((), left_out)))
    assert "40 cases without pictures" in text
    assert "case 0: too &lt;large&gt;" in text
    assert "and 10 more" in text


def test_no_pictures_no_section() -> None:
    assert pictures.render(Report([])) == ""


def test_one_of_several_pictures_is_said_to_be_the_first(make_run: Make) -> None:
    row = row_from_run(make_run(pictures=["a.png", "b.png"]))
    found = PictureSet(row, [shown("output")], None, 0, (), (0, 0), None, "")
    text = pictures.render(Report([row], gallery=Gallery([found])))
    assert "The first of 2 pictures; the dB are the worst of all." in text


def test_it_keeps_to_the_room_that_it_is_given(make_run: Make) -> None:
    rows = [row_from_run(make_run(f"{i}", case={"variant": f"e{i}"})) for i in range(4)]
    large = "data:image/png;base64," + "A" * 100_000
    sets = [PictureSet(row, [Shown("output", large, 64, 36)], None, 0, (), (0, 0), None, "") for row in rows]
    room = pictures.LIST_BYTES + 250_000
    text = pictures.render(Report(rows, gallery=Gallery(sets, [("x", "broken")]), room=room))
    assert text.count("<img") == 2
    assert len(text) < room
    assert "3 cases without pictures" in text
    assert "can24 720p e3 fp32 image: the page holds 15 MB at most" in text

"""An SVG that may stand in a page of strict policy, beside others."""

from __future__ import annotations

from xml.etree import ElementTree

from reports.svg import INK, inlined, standalone

DRAWING = f"""<?xml version="1.0"?><!DOCTYPE svg><svg xmlns="http://www.w3.org/2000/svg"
 xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" height="5pt" viewBox="0 0 10 5"><metadata>x</metadata>
 <defs><style type="text/css">*{{stroke-linejoin: round}}</style></defs>
 <g id="axes_1" clip-path="url(#clip)" style="fill: none; stroke: {INK}; stroke-width: 2"><use xlink:href="#m1"
 x="1"/></g>
 <text style="font: bold 9.5px 'DejaVu Sans'; text-anchor: middle; fill: {INK}">a &lt; b</text></svg>"""


def test_no_inline_style_no_foreign_id_and_the_texts_own_ink() -> None:
    root = ElementTree.fromstring(inlined(DRAWING, "f1", "a label"))
    everything = ElementTree.tostring(root, encoding="unicode")
    assert "style" not in everything
    assert "metadata" not in everything
    group, text = root[0], root[1]
    assert group.attrib == {
        "id": "f1-axes_1", "clip-path": "url(#f1-clip)", "fill": "none", "stroke": "currentColor", "stroke-width": "2",
    }  # fmt: skip
    assert group[0].attrib == {"href": "#f1-m1", "x": "1"}
    assert text.attrib == {"font-size": "9.5", "font-weight": "bold", "text-anchor": "middle", "fill": "currentColor"}
    assert text.text == "a < b"
    assert (root.get("role"), root.get("aria-label"), root.get("viewBox")) == ("img", "a label", "0 0 10 5")
    assert root.get("width") is None


def test_alone_it_follows_the_viewers_light() -> None:
    text = standalone(inlined(DRAWING, "f1", "a > label"))
    root = ElementTree.fromstring(text)
    assert "prefers-color-scheme" in (root[0].text or "")
    assert len(root) == 3


def test_marks_get_their_titles_and_halves_of_one_mark_the_same() -> None:
    source = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 5">
 <g id="mark-0-0"><use xlink:href="#m"/><use xlink:href="#m"/><use xlink:href="#h"/><use xlink:href="#h"/></g>
 <g id="mark-0-1"><text>2x</text></g><g id="mark-0-2"><use xlink:href="#m"/></g></svg>"""
    hints = {"mark-0-0": ["a<b", "c"], "mark-0-1": ["d"], "mark-0-2": ["of", "two"]}
    text = inlined(source, "f", "label", hints)
    titles = [title.text for title in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["a<b", "c", "a<b", "c", "d"]  # where their number is not that of the marks none is right


def test_rows_of_panels_are_noted_for_the_print() -> None:
    assert 'data-rows="0.0 223.2"' in inlined(DRAWING, "f", "label", rows=[0, 223.2])
    assert "data-rows" not in inlined(DRAWING, "f", "label")

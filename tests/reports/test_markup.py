"""HTML in which only our own tags are tags."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from reports.markup import Html, data_block, facts, joined, region, simple_table, tag

HOSTILE = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&"


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all(not name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_children_and_attributes_are_text() -> None:
    seen = Seen(tag("p", HOSTILE, title=HOSTILE))
    assert seen.tags == ["p"]
    assert seen.text == HOSTILE


def test_markup_stays_markup_and_is_not_doubly_escaped() -> None:
    assert tag("p", tag("b", "<"), " & ") == "<p><b>&lt;</b> &amp; </p>"
    assert joined(["<", Html("<br>")], between="&") == "&lt;&amp;<br>"


def test_attributes_are_named_as_in_html() -> None:
    assert (
        tag("a", class_="x", data_v=1.5, hidden=True, title=None, open=False) == '<a class="x" data-v="1.5" hidden></a>'
    )
    assert tag("img", alt="") == '<img alt="">'


def test_data_is_json_that_no_parser_takes_for_markup() -> None:
    block = data_block("d", {"name": HOSTILE, "n": [1, None]})
    seen = Seen(block)
    assert seen.tags == ["script"]
    assert json.loads(seen.text) == {"name": HOSTILE, "n": [1, None]}


def test_tables_and_lists_escape_every_cell() -> None:
    seen = Seen(simple_table((HOSTILE, "b"), [(HOSTILE, 3)], HOSTILE) + facts([(HOSTILE, HOSTILE)]))
    assert set(seen.tags) == {"div", "table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd"}


def test_figures_stand_to_the_right() -> None:
    assert [
        cell in simple_table(("a",), [(v,)], "t") for v, cell in (("3 ms", 'class="n"'), ("∞ dB", 'class="n"'))
    ] == [True] * 2
    assert 'class="n"' not in simple_table(("a",), [("net3",)], "t")


def test_a_scrolling_box_can_be_reached_by_keyboard() -> None:
    assert region("what", "x", tall=True) == (
        '<div class="scroll tall" tabindex="0" role="region" aria-label="what">x</div>'
    )

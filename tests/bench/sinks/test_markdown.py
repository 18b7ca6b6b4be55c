"""Markdown that a pull request shows: exact text, and nothing in a name becomes markup."""

from __future__ import annotations

from bench.gate import Gate, Outcome
from bench.rules import parse_rules
from bench.sinks.markdown import SHOWN, render

RULES = parse_rules(["latency:5%"], [])


def test_exact_text() -> None:
    outcomes = [
        Outcome("can24 720p", RULES[0], "worse", 100, 108, 0.08, (0.061, 0.099)),
        Outcome("can32 720p", None, "could not measure", why="killed"),
    ]
    gate = Gate(("main", "mine"), RULES, outcomes, [("commit", "1a", "2b")])
    assert render(gate).splitlines() == [
        "**✗ Regression: 1 worse, 1 could not measure**",
        "",
        "| verdict | case | figure | main | mine | change (95 %) | remark |",
        "| --- | --- | --- | ---: | ---: | ---: | --- |",
        "| ✗ worse | can24 720p | latency | 100 ms | 108 ms | +8.0 % (+6.1 to +9.9 %) |  |",
        r"| \! could not measure | can32 720p | case |  |  |  | killed |",
        "",
        "Rules: `--max latency:5%`.",
        "",
        "<details><summary>What differs besides</summary>",
        "",
        "| | main | mine |",
        "| --- | --- | --- |",
        "| commit | 1a | 2b |",
        "",
        "</details>",
    ]


def test_nothing_in_a_name_becomes_markup_or_mentions_anybody() -> None:
    wild = "a|b\n<img src=x> `c` **d** [e](http://f) @user"
    text = render(Gate((wild, "b"), RULES, [Outcome(wild, None, "could not measure", why=wild)], []))
    row = text.splitlines()[4]
    assert row.replace(r"\|", "").count("|") == 8
    for bad in ("<img", " `c`", "**d", "[e]", "@user"):
        assert bad not in row


def test_a_long_table_is_cut_and_says_so() -> None:
    text = render(Gate(("a", "b"), RULES, [Outcome("x", RULES[0], "same", 1, 1, 0.0)] * (SHOWN + 7), []))
    assert text.count("| ✓ same") == SHOWN
    assert "7 more rows are not shown." in text

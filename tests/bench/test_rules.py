"""Margins: what may be written, what it means, and what is refused with the right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.rules import FIGURES, parse_rules
from reference_models.errors import UserError


def margins(maxima: list[str], minima: list[str], config: Path | None = None) -> dict[str, tuple[float, bool]]:
    return {r.figure.name: (r.margin, r.relative) for r in parse_rules(maxima, minima, config)}


def test_shares_and_units() -> None:
    found = margins(["memory:10%", "latency:5%", "plan_size:2.5MiB"], ["psnr:0.1dB", "ssim:0.001"])
    assert found == {
        "latency": (0.05, True), "memory": (0.1, True), "plan_size": (2.5, False),
        "psnr": (0.1, False), "ssim": (0.001, False),
    }  # fmt: skip
    assert list(found) == ["latency", "memory", "plan_size", "psnr", "ssim"]


def test_units_may_be_apart_and_in_any_case() -> None:
    assert margins(["latency:0.5 MS"], ["psnr:.5db"]) == {"latency": (0.5, False), "psnr": (0.5, False)}


def test_without_any_rule_all_figures_have_their_default() -> None:
    rules = parse_rules([], [])
    assert [rule.figure for rule in rules] == list(FIGURES)
    assert not any(rule.asked for rule in rules)
    assert rules[0].text == "--max latency:5%"
    assert rules[4].text == "--min psnr:0.1dB"


def test_a_rule_says_itself_as_it_would_be_written() -> None:
    words = ["latency:5%", "memory:12MiB"]
    assert [rule.text for rule in parse_rules(words, ["ssim:0.002"])] == [
        "--max latency:5%", "--max memory:12MiB", "--min ssim:0.002",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("maxima", "minima", "named"),
    [
        (["latancy:5%"], [], ["latancy", "Did you mean latency?"]),
        (["latency"], [], ["no margin", "latency:5%"]),
        (["latency:"], [], ["latency", "5%"]),
        (["latency:5"], [], ["'5'", "a number and %"]),
        (["latency:5dB"], [], ["5dB"]),
        (["latency:-5%"], [], ["-5%"]),
        (["latency:nan%"], [], ["nan%"]),
        (["latency:0%"], [], ["margin of 0"]),
        ([], ["latency:5%"], ["less is better", "--max latency:5%"]),
        (["psnr:0.1dB"], [], ["more is better", "--min psnr:0.1dB"]),
        ([], ["psnr:1%"], ["1%", "dB"]),
        ([], ["ssim:1%"], ["1%", "a number"]),
        (["latency:5%", "latency:6%"], [], ["latency", "two rules"]),
    ],
)
def test_wrong_rules_are_refused_with_what_was_expected(maxima: list[str], minima: list[str], named: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_rules(maxima, minima)
    for word in named:
        assert word in str(caught.value)


def test_a_file_gives_what_the_command_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text('[max]\nlatency = "3%"\nmemory = "7%"\n[min]\nssim = 0.01\n')
    assert margins(["latency:5%"], [], path) == {"latency": (0.05, True), "memory": (0.07, True), "ssim": (0.01, False)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[max", "not TOML"),
        ("[maximum]\nlatency='5%'", "maximum"),
        ("max = 5", "max"),
        ("[max]\nlatency = true", "latency is True"),
        ("[max]\nlatency = '5'", "no margin of latency"),
        ("[min]\nlatency = '5%'", "less is better"),
        ("", "no rule"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=named.replace("[", r"\[")):
        parse_rules([], [], path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml"):
        parse_rules([], [], tmp_path / "none.toml")

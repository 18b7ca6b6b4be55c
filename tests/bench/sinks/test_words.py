"""Words: exact, with units, signs and intervals."""

from __future__ import annotations

import math

import pytest

from bench.gate import Gate, Outcome
from bench.rules import Rule, parse_rules
from bench.sinks.words import change_text, figure_text, headline, sentence, subject

LATENCY, MEMORY, PSNR, SSIM = parse_rules(["latency:5%", "memory:12MiB"], ["psnr:0.1dB", "ssim:0.001"])


def test_headline_counts_every_kind() -> None:
    outcomes = [Outcome("x", LATENCY, v) for v in ("same", "worse", "same", "inconclusive")]
    assert headline(Gate(("a", "b"), [LATENCY], outcomes, [])) == "Regression: 1 worse, 1 inconclusive, 2 same"
    assert headline(Gate(("a", "b"), [LATENCY], [], [])) == "Could not measure: no rows"
    assert headline(Gate(("a", "b"), [], [Outcome("x", None, "not judged")], [])) == "Could not measure: 1 not judged"
    assert headline(Gate(("a", "b"), [], [Outcome("x", LATENCY, "better")], [])) == "Pass: 1 better"


@pytest.mark.parametrize(
    ("rule", "number", "text"),
    [
        (LATENCY, 12.3456, "12.35 ms"), (LATENCY, 4389.2, "4389 ms"), (LATENCY, 0.00026, "0.00026 ms"),
        (LATENCY, None, ""), (MEMORY, 499.7, "500 MiB"), (PSNR, math.inf, "∞ dB"), (PSNR, 59.123, "59.12 dB"),
        (SSIM, 0.99912, "0.99912"),
    ],
)  # fmt: skip
def test_figures(rule: Rule, number: float | None, text: str) -> None:
    assert figure_text(rule.figure, number) == text


@pytest.mark.parametrize(
    ("rule", "change", "interval", "text"),
    [
        (LATENCY, 0.08, (0.061, 0.099), "+8.0 % (+6.1 to +9.9 %)"),
        (LATENCY, -0.0001, None, "+0.0 %"),
        (MEMORY, 13.0, None, "+13 MiB"),
        (PSNR, -0.25, None, "-0.25 dB"),
        (PSNR, -math.inf, None, "−∞ dB"),
        (SSIM, -0.0015, None, "-0.00150"),
        (LATENCY, None, None, ""),
    ],
)
def test_changes(rule: Rule, change: float | None, interval: tuple[float, float] | None, text: str) -> None:
    assert change_text(Outcome("x", rule, "same", 1, 1, change, interval)) == text


def test_sentences() -> None:
    one = Outcome("x", LATENCY, "worse", 100, 108, 0.08, (0.061, 0.099), "why")
    assert sentence(one) == "worse: latency 100 ms → 108 ms; +8.0 % (+6.1 to +9.9 %); why [--max latency:5%]"
    assert sentence(Outcome("x", None, "could not measure", why="killed")) == "could not measure: killed"
    assert (
        sentence(Outcome("x", PSNR, "could not measure", why="NaN"))
        == "could not measure: psnr; NaN [--min psnr:0.1dB]"
    )
    assert (subject(one), subject(Outcome("x", None, "not judged"))) == ("latency", "case")

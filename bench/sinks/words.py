"""A gate's outcomes → the words that every output shares: headline, figures, changes. Escapes nothing."""

from __future__ import annotations

import math

from bench.gate import Gate, Outcome
from bench.rules import Figure, Rule

HEADLINES = {
    "worse": "Regression",
    "could not measure": "Could not measure",
    "inconclusive": "Inconclusive",
    "better": "Pass",
    "same": "Pass",
}
MARKS = {"worse": "✗", "could not measure": "!", "inconclusive": "?", "better": "✓", "same": "✓", "not judged": "·"}


def headline(gate: Gate) -> str:
    """The verdict of the whole, and how many rows of each kind it rests on."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in gate.counts.items()) or "no rows"
    return f"{HEADLINES[gate.verdict]}: {counts}"


def subject(outcome: Outcome) -> str:
    """The figure's name, or `case` where the case as a whole could not be judged."""
    return outcome.rule.figure.name if outcome.rule else "case"


def figure_text(figure: Figure, number: float | None) -> str:
    """A figure with its unit; "" for none."""
    if number is None:
        return ""
    if math.isinf(number):
        text = "∞"
    elif figure.digits is None:
        text = f"{number:.4g}" if abs(number) < 1000 else f"{number:.0f}"
    else:
        text = f"{number:.{figure.digits}f}"
    return f"{text} {figure.unit}".strip()


def change_text(outcome: Outcome) -> str:
    """The change with its interval: `+8.0 % (+6.1 to +9.9 %)`; "" where there is none."""
    if outcome.rule is None or outcome.change is None:
        return ""
    if outcome.interval is None:
        return _signed(outcome.rule, outcome.change, True)
    low, high = outcome.interval
    bounds = f"{_signed(outcome.rule, low, False)} to {_signed(outcome.rule, high, True)}"
    return f"{_signed(outcome.rule, outcome.change, True)} ({bounds})"


def _signed(rule: Rule, number: float, with_unit: bool) -> str:
    share = rule.relative or rule.figure.measured  # a measured figure's change is a ratio whatever its margin is in
    unit = (" %" if share else f" {rule.figure.unit}".rstrip()) if with_unit else ""
    if math.isinf(number):
        return f"{'+' if number > 0 else '−'}∞{unit}"
    digits = 1 if share else rule.figure.digits or 0
    rounded = round(number * 100 if share else number, digits) + 0.0  # no −0
    return f"{rounded:+.{digits}f}{unit}"


def sentence(outcome: Outcome) -> str:
    """One line that says all of an outcome: for a log, a test report, an annotation."""
    if outcome.rule is None:
        return f"{outcome.verdict}: {outcome.why}"
    figure = outcome.rule.figure
    values = f"{figure_text(figure, outcome.baseline)} → {figure_text(figure, outcome.candidate)}".strip(" →")
    parts = (f"{outcome.verdict}: {figure.name} {values}".rstrip(), change_text(outcome), outcome.why)
    return "; ".join(part for part in parts if part) + f" [{outcome.rule.text}]"

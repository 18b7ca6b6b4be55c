"""A gate's candidate → Bencher Metric Format, and what github-action-benchmark reads: JSON for other people's history.

Only figures that were measured stand in them: a case that could not be measured is missing, never 0.
Source: bencher.dev, reference "Bencher Metric Format"; benchmark-action/github-action-benchmark, README, "Using custom
benchmark tool" (customSmallerIsBetter, customBiggerIsBetter).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from bench.gate import Gate, Outcome
from bench.rules import Direction, Figure
from bench.sinks.words import sentence

MEASURES = {"latency": ("latency", 1e6)}
"""Figure → Bencher's own measure and the factor to its unit: its built-in `latency` is in nanoseconds."""


def metric_format(gate: Gate) -> str:
    """{case: {measure: {value, lower_value, upper_value}}}; bounds are the 95 % interval of the candidate's median."""
    document: dict[str, dict[str, Any]] = {}
    for outcome, figure, number in _measured(gate):
        measure, factor = MEASURES.get(figure.name, (figure.name.replace("_", "-"), 1.0))
        metric = {"value": number * factor}
        if bounds := _bounds(outcome, figure):
            metric |= {"lower_value": bounds[0] * factor, "upper_value": bounds[1] * factor}
        document.setdefault(outcome.title, {})[measure] = metric
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def action_benchmark(gate: Gate, direction: Direction) -> str:
    """[{name, unit, value, range, extra}] of the figures that less (`max`) or more (`min`) is better of."""
    entries = []
    for outcome, figure, number in _measured(gate):
        if figure.direction != direction:
            continue
        entry = {"name": f"{outcome.title} {figure.name}", "unit": figure.unit or "1", "value": number}
        if bounds := _bounds(outcome, figure):
            entry["range"] = f"{bounds[0]:.4g} to {bounds[1]:.4g}"
        entries.append({**entry, "extra": sentence(outcome)})
    return json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _measured(gate: Gate) -> Iterator[tuple[Outcome, Figure, float]]:
    for outcome in gate.outcomes:
        if outcome.rule and outcome.candidate is not None and math.isfinite(outcome.candidate):
            yield outcome, outcome.rule.figure, outcome.candidate


def _bounds(outcome: Outcome, figure: Figure) -> tuple[float, float] | None:
    run = outcome.runs[1]
    interval = run["latency_ms"].get("ci95") if run and figure.name == "latency" else None
    # Judged by own time, the figure is another than the wall clock's, whose interval this is.
    held = interval and outcome.candidate is not None and interval[0] <= outcome.candidate <= interval[1]
    return (float(interval[0]), float(interval[1])) if interval and held else None

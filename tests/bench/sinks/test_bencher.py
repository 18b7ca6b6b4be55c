"""Other people's history files: the documented shapes, the right units, and nothing that was not measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from bench.gate import Gate, Outcome, judge_runs
from bench.rules import parse_rules
from bench.sinks.bencher import action_benchmark, metric_format

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def gate(gate_run: Make) -> Gate:
    rules = parse_rules(["latency:5%", "memory:10%", "plan_size:10%"], ["psnr:0.1dB", "ssim:0.001"])
    changes = {"memory": {"plan_mib": 4.0}, "latency_ms": {"ci95": [99.0, 102.5]}}
    return judge_runs([gate_run("a", **changes)], [gate_run("b", **changes)], rules)


def test_bencher_metric_format(gate: Gate) -> None:
    document = json.loads(metric_format(gate))
    assert document == {
        "can24 720p onnxruntime fp32 image": {
            "latency": {"value": 1e8, "lower_value": 9.9e7, "upper_value": 1.025e8},
            "memory": {"value": 500.0},
            "plan-size": {"value": 4.0},
            "psnr": {"value": 60.0},
            "ssim": {"value": 0.999},
        }
    }
    for measures in document.values():  # value is required, bounds are optional, and lie around it
        for metric in measures.values():
            assert {"value"} <= set(metric) <= {"value", "lower_value", "upper_value"}
            assert metric.get("lower_value", -math.inf) <= metric["value"] <= metric.get("upper_value", math.inf)


def test_github_action_benchmark_has_a_file_for_each_direction(gate: Gate) -> None:
    smaller, bigger = (json.loads(action_benchmark(gate, direction)) for direction in ("max", "min"))
    assert [(e["name"].split()[-1], e["unit"], e["value"]) for e in smaller] == [
        ("latency", "ms", 100.0), ("memory", "MiB", 500.0), ("plan_size", "MiB", 4.0),
    ]  # fmt: skip
    assert [(e["name"].split()[-1], e["unit"], e["value"]) for e in bigger] == [
        ("psnr", "dB", 60.0),
        ("ssim", "1", 0.999),
    ]
    assert smaller[0]["range"] == "99 to 102.5"
    for entry in (*smaller, *bigger):
        assert {"name", "unit", "value"} <= set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], float)


def test_what_was_not_measured_is_missing_and_infinity_is_no_json(gate_run: Make) -> None:
    (psnr,) = parse_rules([], ["psnr:0.1dB"])
    outcomes = [
        Outcome("a", None, "could not measure"),
        Outcome("b", psnr, "could not measure", 60.0, None),
        Outcome("c", psnr, "same", math.inf, math.inf, 0.0),
    ]
    gate = Gate(("a", "b"), [psnr], outcomes, [])
    assert json.loads(metric_format(gate)) == {}
    assert json.loads(action_benchmark(gate, "min")) == []

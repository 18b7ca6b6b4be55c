"""Lines over resolutions: against numpy, by promise over many draws, and on made-up runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.fit import Point, fits_in_words, fits_of, line_through

Make = Callable[..., dict[str, Any]]
SIZES = {"320p": (568, 320), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080), "4k": (3840, 2160)}


def point(megapixels: float, *medians: float) -> Point:
    return Point(f"{megapixels}", megapixels, medians, None)


def test_the_line_is_numpys_with_weights_of_one_over_the_latency() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([0.2, 0.4, 0.9, 2.1, 8.3])
    values = (3 + 40 * sizes) * (1 + 0.03 * rng.standard_normal(5))
    slope, intercept = np.polyfit(sizes, values, 1, w=1 / values)
    line = line_through([point(x, y) for x, y in zip(sizes, values, strict=True)])
    assert (line.a_ms, line.b_ms) == pytest.approx((intercept, slope))
    assert line.a_error_ms is line.b_error_ms is None  # one process tells nothing of the next


def test_the_error_holds_the_truth_in_95_of_100_draws() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        points = [point(x, *((2 + 30 * x) * (1 + 0.02 * rng.standard_normal(5)))) for x in (0.2, 0.9, 2.1, 3.7)]
        line = line_through(points)
        assert line.b_error_ms is not None
        held += abs(line.b_ms - 30) <= line.b_error_ms
    assert held / 400 >= 0.93


def runs(make: Make, factors: dict[str, float] | None = None, **changes: Any) -> list[dict[str, Any]]:
    found = []
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        ms = (2 + 16 * width * height / 1e6) * (factors or {}).get(name, 1.0)
        shape = [1, 3, height, width]
        case = {"resolution": name, "input_shape": shape, "output_shape": shape, **changes.get("case", {})}
        latency = {"ci95": [ms * 0.98, ms * 1.02]}
        more = {key: value for key, value in changes.items() if key != "case"}
        found.append(make(f"{number}", ms, case=case, latency_ms=latency, **more))
    return found


def test_a_straight_line_is_found_with_what_it_holds(gate_run: Make) -> None:
    (fit,) = fits_of(runs(gate_run))
    assert (fit.line.a_ms, fit.line.b_ms) == pytest.approx((2, 16))
    assert fit.break_at is None
    assert {fps: held and held.resolution for fps, held in fit.holds.items()} == {24: "1080p", 30: "720p", 60: "480p"}
    assert fit.crosses[30] == pytest.approx((1e3 / 30 - 2) / 16)


def test_the_break_is_the_first_size_that_the_smaller_ones_do_not_foretell(gate_run: Make) -> None:
    (fit,) = fits_of(runs(gate_run, {"4k": 1.4}))
    assert fit.break_at is not None
    assert fit.break_at.resolution == "4k"
    assert fit.line.b_ms == pytest.approx(16)  # that of the part before
    (straight,) = fits_of(runs(gate_run, {"4k": 1.05}))
    assert straight.break_at is None


def test_what_a_wide_interval_cannot_tell_is_no_break(gate_run: Make) -> None:
    made = runs(gate_run, {"4k": 1.2})
    made[-1]["latency_ms"]["ci95"] = [1.0, 1000.0]
    assert fits_of(made)[0].break_at is None


def test_only_like_cases_are_on_one_line(gate_run: Make) -> None:
    others = runs(gate_run, case={"precision": "int8"}) + runs(gate_run, contract={"threads": 1})
    assert len(fits_of(runs(gate_run) + others)) == 3
    assert fits_of(runs(gate_run)[:2]) == []
    assert fits_of([run | {"status": "failed"} for run in runs(gate_run)]) == []


def test_paced_and_crowded_runs_have_no_line(gate_run: Make) -> None:
    assert fits_of(runs(gate_run, use={"pace_fps": 30.0})) == []
    assert fits_of(runs(gate_run, use={"throughput_fps_all": [1.0]})) == []


def test_the_sentence(gate_run: Make) -> None:
    (line,) = fits_in_words(runs(gate_run, {"4k": 1.5}))
    assert line == (
        "can24 onnxruntime fp32 image: ms = (2 ± 0.0098) + (16 ± 0.079) · megapixels; the line breaks at 4k (+50%); "
        "held up to: 24 fps 1080p, 30 fps 720p (line: 1.96 Mpx), 60 fps 480p (line: 0.917 Mpx)"
    )

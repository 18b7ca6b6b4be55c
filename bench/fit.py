"""Runs of one case at several resolutions → ms = a + b · megapixels with its error, the largest resolution that holds a
frame rate, and where the line breaks. Pure arithmetic; no clock, no I/O.

Errors of a latency are a share of it, so that shares are what is made small: least squares of (ms - a - b·Mpx) / ms.
The replicated unit is the process; each gives a line of its own, and the error is Student's t over them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, stdev
from typing import Any

from bench.pairing import CASE, machine_of
from bench.stats import student_t

Run = Mapping[str, Any]
RATES_FPS = (24, 30, 60)
LEAST_SIZES = 3
BREAK = 0.10
"""A size leaves the line of the smaller ones when it lies this share or more off it, and its interval does too."""
MEDIAN_LOSS = math.sqrt(math.pi / 2)
"""The median of normal values scatters this many times as far as their mean."""
SIZES = {"resolution", "input_shape", "output_shape"}


@dataclass(frozen=True)
class Point:
    """One resolution."""

    resolution: str
    megapixels: float
    """Of the picture that comes out."""
    medians_ms: Sequence[float]
    """Of every process."""
    interval_ms: tuple[float, float] | None

    @property
    def ms(self) -> float:
        return median(self.medians_ms)


@dataclass(frozen=True)
class Line:
    """ms = a_ms + b_ms · megapixels. Errors are half the 95 % interval over processes; None with fewer than two."""

    a_ms: float
    b_ms: float
    a_error_ms: float | None
    b_error_ms: float | None

    def at(self, megapixels: float) -> float:
        return self.a_ms + self.b_ms * megapixels


@dataclass(frozen=True)
class Fit:
    """What the runs of one case at several resolutions say together."""

    title: str
    points: Sequence[Point]
    """The smallest first."""
    line: Line
    """Of the points before the break, of all where there is none."""
    break_at: Point | None
    """The first point that the line of the smaller ones does not reach; None where none is seen."""
    holds: Mapping[int, Point | None]
    """Frames per second → the largest measured resolution whose whole interval is within a frame's time."""
    crosses: Mapping[int, float | None]
    """Frames per second → megapixels at which the line needs a frame's whole time, where that is between the smallest
    point and the largest of the line; else None."""


def fits_of(runs: Sequence[Run]) -> list[Fit]:
    """A fit for every case of which the runs hold LEAST_SIZES resolutions or more, in the order of the runs."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run["status"] == "ok" and _is_back_to_back(run):
            groups.setdefault(_key(run), []).append(run)
    found = []
    for group in groups.values():
        points = {point.megapixels: point for point in map(_point, group)}  # the last of two runs of one size
        if len(points) >= LEAST_SIZES:
            found.append(_fit(_title(group[0]), [points[size] for size in sorted(points)]))
    return found


def fits_in_words(runs: Sequence[Run]) -> list[str]:
    """One line for every fit."""
    return [in_words(fit) for fit in fits_of(runs)]


def in_words(fit: Fit) -> str:
    line = fit.line
    errors = ["" if e is None else f" ± {e:.2g}" for e in (line.a_error_ms, line.b_error_ms)]
    words = [f"{fit.title}: ms = ({line.a_ms:.3g}{errors[0]}) + ({line.b_ms:.4g}{errors[1]}) · megapixels"]
    if fit.break_at:
        off = fit.break_at.ms / line.at(fit.break_at.megapixels) - 1
        words.append(f"the line breaks at {fit.break_at.resolution} ({off:+.0%})")
    held = []
    for fps, point in fit.holds.items():
        crossing = fit.crosses[fps]
        reaches = f" (line: {crossing:.3g} Mpx)" if crossing else ""
        held.append(f"{fps} fps {point.resolution if point else 'by none'}{reaches}")
    return "; ".join([*words, "held up to: " + ", ".join(held)])


def _fit(title: str, points: Sequence[Point]) -> Fit:
    end = _break(points)
    straight = points[:end] if end is not None else points
    line = line_through(straight)
    return Fit(
        title,
        points,
        line,
        points[end] if end is not None else None,
        {fps: _largest(points, 1e3 / fps) for fps in RATES_FPS},
        {fps: _crossing(line, straight, 1e3 / fps) for fps in RATES_FPS},
    )


def line_through(points: Sequence[Point]) -> Line:
    """The line of the points' medians, and its error over the lines of single processes.

    Processes of different sizes have nothing in common but their number: the first of each make the first line.
    """
    sizes = [point.megapixels for point in points]
    a, b = _least_squares(sizes, [point.ms for point in points])
    count = min(len(point.medians_ms) for point in points)
    each = [_least_squares(sizes, [point.medians_ms[k] for point in points]) for k in range(count)]
    if count < 2:
        return Line(a, b, None, None)
    errors = [
        student_t(count - 1) * MEDIAN_LOSS * stdev(values) / math.sqrt(count) for values in zip(*each, strict=True)
    ]
    return Line(a, b, errors[0], errors[1])


def _least_squares(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """a and b that make the sum of ((y - a - b x) / y)² least.

    Source: Bevington, Robinson: Data Reduction and Error Analysis, 3rd edition, section 6.3, weights 1 / y².
    """
    weights = [1 / y**2 for y in values]
    total = math.fsum(weights)
    mean_x = math.fsum(w * x for w, x in zip(weights, sizes, strict=True)) / total
    mean_y = math.fsum(w * y for w, y in zip(weights, values, strict=True)) / total
    spread = math.fsum(w * (x - mean_x) ** 2 for w, x in zip(weights, sizes, strict=True))
    both = math.fsum(w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weights, sizes, values, strict=True))
    slope = both / spread
    return mean_y - slope * mean_x, slope


def _break(points: Sequence[Point]) -> int | None:
    """Place of the first point, from the fourth on, that the line of those before it misses; None where none does."""
    for place in range(LEAST_SIZES, len(points)):
        point = points[place]
        expected = line_through(points[:place]).at(point.megapixels)
        low, high = point.interval_ms or (point.ms, point.ms)
        if abs(point.ms / expected - 1) >= BREAK and not low <= expected <= high:
            return place
    return None


def _largest(points: Sequence[Point], frame_ms: float) -> Point | None:
    held = [point for point in points if (point.interval_ms or (point.ms, point.ms))[1] <= frame_ms]
    return held[-1] if held else None


def _crossing(line: Line, points: Sequence[Point], frame_ms: float) -> float | None:
    if line.b_ms <= 0:
        return None
    megapixels = (frame_ms - line.a_ms) / line.b_ms
    return megapixels if points[0].megapixels <= megapixels <= points[-1].megapixels else None


def _point(run: Run) -> Point:
    latency, (_, _, height, width) = run["latency_ms"], run["case"]["output_shape"]
    interval = latency.get("ci95")
    medians = [median(samples) for samples in latency["samples"] if samples] or [latency["p50"]]
    return Point(
        run["case"]["resolution"], width * height / 1e6, medians, (interval[0], interval[1]) if interval else None
    )


def _is_back_to_back(run: Run) -> bool:
    """Or picture to picture: a latency that grows with the picture, and not a pace."""
    use = run.get("use") or {}
    return not use.get("pace_fps") and not use.get("throughput_fps_all")


def _key(run: Run) -> str:
    case = {"way": "back to back", **run["case"]}
    facts = {name: case.get(name) or None for name in CASE if name not in SIZES}
    contract = {name: value for name, value in run["contract"].items() if name in {"threads", "pre_post_processing"}}
    return json.dumps([facts, contract, case.get("weights_sha256"), machine_of(dict(run))], sort_keys=True, default=str)


def _title(run: Run) -> str:
    case = run["case"]
    words = (case["model"], case.get("variant", case["engine"]), case["precision"], case["statistics"])
    way = case.get("way", "back to back")
    return " ".join(str(word) for word in (*words, way if way != "back to back" else "") if word)

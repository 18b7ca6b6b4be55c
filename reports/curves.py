"""Lines over size or time: latency, memory, history. Points in, a canvas out; ids on what a test reads back."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from reports.drawing import CHOICE, Look, Point, grouped, hint, log_axis, missing, panels, pixels_axis
from reports.svg import INK

CUT = 10
"""An interval that reaches below this part of its median is cut there: zero is nowhere on a logarithmic axis."""
FPS = {24: "bottom", 30: "top", 60: "bottom"}
"""Frames per second whose time is drawn, and on which side of the line its name stands: 24 and 30 are near."""
DEVICE_LINE: dict[str, Any] = {"linewidth": 4.5, "alpha": 0.5}
"""Memory of a device is a wide, pale line: not to be mistaken for the process's without colour either."""
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "host": ("the process", {"linewidth": 1.5}),
    "device": ("the device", DEVICE_LINE),
}


def latency(points: list[Point]) -> Canvas:
    look = Look(points)
    canvas, parts = panels(points, look.key())
    for number, (axes, chosen) in enumerate(parts):
        axes.set_yscale("log")
        _frame_times(axes, number)
        for place, line in enumerate(grouped(chosen, *CHOICE).values()):
            line.sort(key=lambda p: p["megapixels"])
            x, y = [p["megapixels"] for p in line], [p["latency_ms"] for p in line]
            style = look.of(line[0])
            axes.plot(x, y, **style, gid=f"mark-{number}-{place}", label=_hints(line))
            _intervals(axes, line, "megapixels", style["color"], f"interval-{number}-{place}")
        pixels_axis(axes, chosen)
        axes.set_ylabel("median latency (ms)")
        axes.margins(y=0.1)
        log_axis(axes.yaxis)
    return canvas


def _frame_times(axes: Axes, number: int) -> None:
    across = axes.get_yaxis_transform()
    for place, (fps, side) in enumerate(FPS.items()):
        drawn = axes.axhline(1000 / fps, color=INK, linewidth=0.8, alpha=0.65, linestyle=(0, (1, 2)))
        drawn.set_gid(f"fps-{number}-{fps}")
        axes.text(0.66 + 0.115 * place, 1000 / fps, f"{fps} fps", transform=across, va=side, fontsize=7.5)


def _intervals(axes: Axes, line: list[Point], x: str, colour: str, gid: str) -> None:
    """A bar from `low_ms` to `high_ms` at every point that has both; cut where the axis is logarithmic."""
    bounded = [p for p in line if not (missing(p["low_ms"]) or missing(p["high_ms"]))]
    low = [max(p["low_ms"], p["latency_ms"] / CUT) if axes.get_yscale() == "log" else p["low_ms"] for p in bounded]
    bars = axes.vlines([p[x] for p in bounded], low, [p["high_ms"] for p in bounded], colors=colour)
    bars.set_gid(gid)
    bars.set_linewidth(1)
    bars.set_alpha(0.7)


def _hints(line: list[Point]) -> str:
    """A line of text per point, which becomes the title of its mark."""
    return "\n".join(hint(p, f"{p['latency_ms']:.4g} ms", _between(p)) for p in line)


def _between(p: Point) -> str:
    return "no interval" if missing(p["low_ms"]) else f"95 % {p['low_ms']:.4g} to {p['high_ms']:.4g} ms"


def memory(points: list[Point]) -> Canvas:
    look = Look(points)
    seen = {p["memory"] for p in points}
    more = [Line2D([], [], color=INK, label=f"memory of {KINDS[k][0]}", **KINDS[k][1]) for k in KINDS if k in seen]
    canvas, parts = panels(points, look.key(more=more if "device" in seen else ()), left=1.0)
    for number, (axes, chosen) in enumerate(parts):
        axes.set_yscale("log")
        for place, line in enumerate(grouped(chosen, *CHOICE, "memory").values()):
            line.sort(key=lambda p: p["megapixels"])
            style = look.of(line[0]) | (DEVICE_LINE if line[0]["memory"] == "device" else {})
            x, y = [p["megapixels"] for p in line], [p["peak_mib"] for p in line]
            label = "\n".join(hint(p, f"{p['peak_mib']:.0f} MiB of {KINDS[p['memory']][0]}") for p in line)
            axes.plot(x, y, **style, gid=f"mark-{number}-{place}", label=label)
        _limits(axes, chosen, number)
        pixels_axis(axes, chosen)
        axes.set_ylabel("peak memory (MiB)")
        axes.margins(y=0.12)
        log_axis(axes.yaxis)
    return canvas


def _limits(axes: Axes, points: list[Point], number: int) -> None:
    """A line at what the machine has, and one at what the device has."""
    for (kind,), group in grouped(points, "memory").items():
        for place, limit in enumerate(sorted({p["limit_mib"] for p in group if not missing(p["limit_mib"])})):
            drawn = axes.axhline(limit, color=INK, linewidth=1.4, linestyle=(0, (6, 2, 1, 2)))
            drawn.set_gid(f"limit-{number}-{kind}-{place}")
            what = f"{'machine' if kind == 'host' else 'device'} has {limit:.0f} MiB"
            near: Any = {"xytext": (0, 2), "textcoords": "offset points", "va": "bottom", "fontsize": 7.5}
            axes.annotate(what, (0.01, limit), xycoords=axes.get_yaxis_transform(), **near)


def history(points: list[Point]) -> Canvas:
    look = Look(points)
    canvas, parts = panels(points, look.key())
    for number, (axes, chosen) in enumerate(parts):
        chosen.sort(key=lambda p: p["order"])
        x, y = [p["order"] for p in chosen], [p["latency_ms"] for p in chosen]
        style = look.of(chosen[0])
        label = "\n".join(hint(p, f"{p['latency_ms']:.4g} ms", _between(p), _commit(p["commit"])) for p in chosen)
        axes.plot(x, y, **style, gid=f"mark-{number}-0", label=label)
        _intervals(axes, chosen, "order", style["color"], f"interval-{number}-0")
        _steps(axes, chosen, number)
        every = max(1, math.ceil(len(chosen) / 5))
        axes.set_xticks(x[::every], [_commit(p["commit"]) for p in chosen[::every]], fontsize=7)
        axes.set_xlim(-0.5, len(chosen) - 0.5)
        axes.set_ylim(0, 1.12 * max([*y, *(p["high_ms"] for p in chosen if not missing(p["high_ms"]))]))
        axes.set_xlabel("commit, in order of measuring")
        axes.set_ylabel("median latency (ms)")
    return canvas


def _steps(axes: Axes, points: list[Point], number: int) -> None:
    """A line before every point that is faster or slower than the one before, with the word."""
    across = axes.get_xaxis_transform()
    for p in points:
        if p["step"]:
            drawn = axes.axvline(p["order"] - 0.5, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            drawn.set_gid(f"step-{number}-{p['order']}")
            at = p["order"] - 0.45
            axes.text(at, 0.04, p["step"], transform=across, va="bottom", fontsize=7.5, rotation=90)


def _commit(text: str) -> str:
    return text[:8] + ("+" if text.endswith("+dirty") else "")

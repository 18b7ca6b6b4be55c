"""Numbers of a figure → the drawing, as SVG and PNG. With drawing.py, which holds its style, the only file that draws.

The marks of a figure carry ids, `mark-PANEL-SERIES`, so that what was drawn can be read back from the SVG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from reports import series
from reports.drawing import (
    LINES,
    Look,
    Point,
    grouped,
    log_axis,
    missing,
    named,
    panels,
    pixels_axis,
    plain,
    settings,
    short,
)
from reports.row import Row
from reports.series import Series
from reports.svg import INK, inlined, standalone

PNG_DPI = 110
DARK_GROUND = (20, 23, 28)
SUFFIXES = ("", "-dark")
"""Of the PNGs' names."""
CUT = 10
"""An interval that reaches below this part of its median is cut there: zero is nowhere on a logarithmic axis."""
FPS = (24, 30, 60)
CHOICE = ("engine", "device", "precision", "statistics", "tile")
"""What must be equal for points to be of one line."""
DEVICE_LINE: dict[str, Any] = {"linewidth": 4.5, "alpha": 0.5}
"""Memory of a device is a wide, pale line: not to be mistaken for the process's without colour either."""
STACK = {
    "build_s": ("export", "#0072B2", "//"),
    "load_s": ("load", "#E69F00", ".."),
    "first_s": ("first inference", "#009E73", ""),
}


@dataclass(frozen=True)
class Figure:
    """One drawn figure."""

    name: str
    label: str
    """What it shows, in a sentence."""
    svg: str
    """As an element of a page."""
    pngs: dict[str, bytes]
    """Suffix of the file's name → picture."""
    series: Series

    @property
    def wide(self) -> bool:
        """Whether the panels stand three in a row."""
        return float(self.svg.partition('viewBox="0 0 ')[2].partition(" ")[0]) > 800

    @property
    def file(self) -> str:
        """The SVG as a file of its own."""
        return standalone(self.svg)


def draw(rows: Sequence[Row], names: Iterable[str] | None = None) -> dict[str, Figure]:
    """Every figure that these rows have numbers for, by name; of `names` only, where they are given."""
    found = {}
    for name in FIGURES if names is None else names:
        numbers, label, paint = FIGURES[name]
        figures = numbers(rows)
        if len(figures.points):
            found[name] = _drawn(name, label, figures, paint)
    return found


def _drawn(name: str, label: str, numbers: Series, paint: Callable[[list[Point]], Canvas]) -> Figure:
    with settings():
        points: Any = numbers.points.to_dict("records")
        canvas = paint(points)
        canvas.set_dpi(PNG_DPI)
        agg = FigureCanvasAgg(canvas)
        agg.draw()
        light = np.asarray(agg.buffer_rgba())[..., :3].copy()
        canvas.patch.set_visible(False)
        text = io.StringIO()
        FigureCanvasSVG(canvas).print_svg(text, metadata={"Date": None, "Creator": None})
    pngs = {"": _png(light), "-dark": _png(darkened(light))}
    return Figure(name, label, inlined(text.getvalue(), f"figure-{name}", label), pngs, numbers)


def darkened(light: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The (H, W, 3) picture for a dark ground: HSL lightness turned over, hue kept, white becoming DARK_GROUND."""
    wide = light.astype(np.int32)
    turned = wide + (255 - wide.max(axis=2, keepdims=True) - wide.min(axis=2, keepdims=True))
    ground = np.array(DARK_GROUND, np.int32)
    return (ground + turned * (255 - ground) // 255).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def latency(points: list[Point]) -> Canvas:
    canvas, parts = panels(points)
    look = Look(points)
    for number, (axes, chosen) in enumerate(parts):
        axes.set_yscale("log")
        for place, fps in enumerate(FPS):  # the names side by side: 24 and 30 are near each other
            axes.axhline(1000 / fps, color=INK, linewidth=0.8, alpha=0.65, linestyle=(0, (1, 2)))
            across = axes.get_yaxis_transform()
            axes.text(0.66 + 0.115 * place, 1000 / fps, f"{fps} fps", transform=across, va="bottom", fontsize=7.5)
        for place, line in enumerate(grouped(chosen, *CHOICE).values()):
            line.sort(key=lambda p: p["megapixels"])
            gid = f"mark-{number}-{place}"
            x, y = [p["megapixels"] for p in line], [p["latency_ms"] for p in line]
            axes.plot(x, y, **look.of(line[0]), gid=gid)
            bounded = [p for p in line if not missing(p["low_ms"])]
            low = [max(p["low_ms"], p["latency_ms"] / CUT) for p in bounded]
            bars = axes.vlines(
                [p["megapixels"] for p in bounded],
                low,
                [p["high_ms"] for p in bounded],
                colors=look.of(line[0])["color"],
            )
            bars.set_gid(gid.replace("mark", "interval"))
            bars.set_linewidth(1)
            bars.set_alpha(0.7)
        pixels_axis(axes, chosen)
        axes.set_ylabel("median latency (ms)")
        axes.margins(y=0.1)
        log_axis(axes.yaxis)
    look.legend(canvas)
    return canvas


def memory(points: list[Point]) -> Canvas:
    canvas, parts = panels(points, left=1.0)
    look = Look(points)
    for number, (axes, chosen) in enumerate(parts):
        axes.set_yscale("log")
        lines = grouped(chosen, *CHOICE, "memory")
        for place, line in enumerate(lines.values()):
            line.sort(key=lambda p: p["megapixels"])
            style = look.of(line[0]) | (DEVICE_LINE if line[0]["memory"] == "device" else {})
            axes.plot(
                [p["megapixels"] for p in line], [p["peak_mib"] for p in line], **style, gid=f"mark-{number}-{place}"
            )
        for (kind,), group in grouped(chosen, "memory").items():
            for limit in sorted({p["limit_mib"] for p in group if not missing(p["limit_mib"])}):
                axes.axhline(limit, color=INK, linewidth=1.4, linestyle=(0, (6, 2, 1, 2)))
                what = f"{'machine' if kind == 'host' else 'device'} has {limit:.0f} MiB"
                axes.text(0.01, limit, what, transform=axes.get_yaxis_transform(), va="bottom", fontsize=7.5)
        pixels_axis(axes, chosen)
        axes.set_ylabel("peak memory (MiB)")
        axes.margins(y=0.12)
        log_axis(axes.yaxis)
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "host": ("the process", {"linewidth": 1.5}),
        "device": ("the device", DEVICE_LINE),
    }
    seen = {p["memory"] for p in points}
    more = [
        Line2D([], [], color=INK, label=f"memory of {name}", **style) for k, (name, style) in kinds.items() if k in seen
    ]
    look.legend(canvas, more=more if len(more) > 1 or "device" in seen else ())
    return canvas


def quality(points: list[Point]) -> Canvas:
    canvas, parts = panels(points)
    look = Look(points)
    for number, (axes, chosen) in enumerate(parts):
        finite = [p["psnr_db"] for p in chosen if not p["identical"]]
        top = max(finite, default=100.0) + max(6.0, 0.12 * (max(finite, default=0.0) - min(finite, default=0.0)))
        heights = {p["id"]: top if p["identical"] else p["psnr_db"] for p in chosen}
        front = sorted((p for p in chosen if p["front"]), key=lambda p: p["latency_ms"])
        axes.step(
            [p["latency_ms"] for p in front], [heights[p["id"]] for p in front],
            where="post", color=INK, linewidth=1, alpha=0.7, gid=f"front-{number}", label="Pareto front",
        )  # fmt: skip
        for place, point in enumerate(chosen):
            style = look.of(point) | {"linestyle": "none", "markersize": 9 if point["front"] else 6}
            axes.plot([point["latency_ms"]], [heights[point["id"]]], **style, gid=f"mark-{number}-{place}")
            if point["front"]:
                at = (point["latency_ms"], heights[point["id"]])
                axes.annotate(point["precision"], at, xytext=(5, -11), textcoords="offset points", fontsize=7.5)
        axes.set_xscale("log")
        axes.margins(x=0.15, y=0.15)
        if len(finite) < len(chosen):
            axes.axhline(top, color=INK, linewidth=0.7, linestyle=":", alpha=0.6)
            ticks = [tick for tick in axes.get_yticks() if finite and min(finite) - 1 <= tick <= max(finite)]
            ticks = ticks if len(ticks) > 1 else sorted({round(value, 1) for value in finite})[:4]
            axes.set_yticks([*ticks, top], [*map(plain, ticks), "∞"])
        axes.set_xlabel("median latency (ms)")
        axes.set_ylabel("PSNR to reference (dB)")
        log_axis(axes.xaxis)
    look.legend(canvas, lines=False)
    return canvas


def speed_up(points: list[Point]) -> Canvas:
    canvas, parts = panels(points, height=2.7, left=1.75, legend=0.1)
    highest = max(abs(math.log2(p["speed_up"])) for p in points) or 1.0
    for number, (axes, chosen) in enumerate(parts):
        heads = {f"{p['precision']} {p['statistics']}".strip(): None for p in sorted(chosen, key=_by_precision)}
        names = sorted({named(p) for p in chosen})
        axes.grid(visible=False)
        for place, p in enumerate(chosen):
            x = list(heads).index(f"{p['precision']} {p['statistics']}".strip())
            y, share = names.index(named(p)), math.log2(p["speed_up"]) / highest
            colour = "#0072B2" if share >= 0 else "#D55E00"
            axes.fill(
                [x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=colour, alpha=0.08 + 0.5 * abs(share), linewidth=0
            )
            text = f"{p['speed_up']:.2f}×" if p["speed_up"] < 9.995 else f"{p['speed_up']:.1f}×"
            bold = "bold" if p["id"] == p["against_id"] else "normal"
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", weight=bold, gid=f"mark-{number}-{place}")
        axes.set_xlim(0, len(heads))
        axes.set_ylim(len(names), 0)
        axes.set_xticks([i + 0.5 for i in range(len(heads))], [_stacked(head) for head in heads], fontsize=8)
        axes.set_yticks([i + 0.5 for i in range(len(names))], [short(name, 24) for name in names], fontsize=8)
        axes.tick_params(length=0)
        bases = "\nor ".join(short(base, 40) for base in dict.fromkeys(p["against"] for p in chosen))
        axes.set_xlabel(f"times faster than {bases}", fontsize=8)
    return canvas


def _by_precision(point: Point) -> tuple[object, ...]:
    order = list(LINES)
    rank = order.index(point["precision"]) if point["precision"] in order else len(order)
    return rank, point["precision"], point["statistics"] != "image", point["statistics"]


def _stacked(head: str) -> str:
    precision, _, statistics = head.partition(" ")
    return f"{short(precision, 14)}\n{short(statistics, 14)}" if statistics else short(precision, 14)


def roofline(points: list[Point]) -> Canvas:
    canvas, parts = panels(points, height=3.8)
    look = Look(points, filled="precision")
    for number, (axes, chosen) in enumerate(parts):
        reach = [p["flop_per_byte"] for p in chosen]
        limits = _limits(chosen)
        knees = [rate / copy for key in limits for copy, rate in limits[key]]
        low, high = min([*reach, *knees]) / 3, max([*reach, *knees]) * 3
        copies = [p["peak_copy_gb_s"] for p in chosen]
        for key, pairs in limits.items():
            for place, (copy, rate) in enumerate(pairs):
                drawn = axes.plot([low, rate / copy, high], [low * copy, rate, rate], color=INK, linewidth=1, alpha=0.8)
                drawn[0].set_gid(f"limit-{number}-{key}-{place}")
            name, rates = key.removeprefix("peak_").removesuffix("_gflop_s"), [rate for _, rate in pairs]
            text = f"{name} {_range(rates)} GFLOP/s"
            axes.text(high, max(rates), text, ha="right", va="bottom", fontsize=7.5)
        text = f"copy {_range(copies)} GB/s"
        axes.text(low * 1.1, low * max(copies) * 1.6, text, fontsize=7.5, ha="left", va="bottom")
        for place, alike in enumerate(grouped(chosen, *CHOICE).values()):
            style = look.of(alike[0]) | {"linestyle": "none", "alpha": 0.85}
            x, y = [p["flop_per_byte"] for p in alike], [p["gflop_per_s"] for p in alike]
            axes.plot(x, y, **style, gid=f"mark-{number}-{place}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_xlabel("arithmetic intensity (FLOP per byte moved at least)")
        axes.set_ylabel("reached (GFLOP/s)")
        log_axis(axes.xaxis)
        log_axis(axes.yaxis)
    look.legend(canvas, lines=False)
    return canvas


def _limits(points: list[Point]) -> dict[str, list[tuple[float, float]]]:
    """Per precision the pairs of copy rate and peak, as measured together: the lowest and the highest of several."""
    keys = [key for key in points[0] if key.startswith("peak_") and key.endswith("_gflop_s")]
    found = {}
    for key in keys:
        pairs = {(p[key], p["peak_copy_gb_s"]) for p in points if not missing(p.get(key))}
        if pairs:
            found[key] = [(copy, rate) for rate, copy in dict.fromkeys((min(pairs), max(pairs)))]
    return found


def _range(rates: list[float]) -> str:
    """`30`, or `28 to 31` where they differ as shown."""
    low, high = f"{min(rates):.0f}", f"{max(rates):.0f}"
    return low if low == high else f"{low} to {high}"


def cold_start(points: list[Point]) -> Canvas:
    high = 1.3 + 0.27 * len(points)
    canvas = Canvas(figsize=(9.2, high))
    axes = canvas.add_axes((2.9 / 9.2, 0.95 / high, 6.1 / 9.2, 1 - 1.05 / high))
    start = [0.0] * len(points)
    places = range(len(points))
    for part, (label, colour, hatch) in STACK.items():
        widths = [0.0 if missing(p[part]) else p[part] for p in points]
        bars = axes.barh(places, widths, left=start, color=colour, hatch=hatch, label=label, height=0.7)
        for place, bar in enumerate(bars):
            bar.set_gid(f"bar-{part}-{place}")
            bar.set_edgecolor(INK)
            bar.set_linewidth(0.4)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    for place, total in enumerate(start):
        axes.text(total, place, f" {total:.3g} s", va="center", fontsize=7.5)
    axes.set_yticks(list(places), [short(p["case"], 42) for p in points], fontsize=8)
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("seconds until the first picture is done")
    canvas.legend(loc="lower center", ncols=3, fontsize=8.5)
    return canvas


def history(points: list[Point]) -> Canvas:
    canvas, parts = panels(points)
    look = Look(points)
    for number, (axes, chosen) in enumerate(parts):
        chosen.sort(key=lambda p: p["order"])
        x, y = [p["order"] for p in chosen], [p["latency_ms"] for p in chosen]
        style = look.of(chosen[0])
        axes.plot(x, y, **style, gid=f"mark-{number}-0")
        bounded = [p for p in chosen if not missing(p["low_ms"])]
        orders, lows, highs = ([p[key] for p in bounded] for key in ("order", "low_ms", "high_ms"))
        axes.vlines(orders, lows, highs, colors=style["color"], linewidth=1)
        for p in chosen:
            if p["step"]:
                axes.axvline(p["order"] - 0.5, color=INK, linewidth=1, linestyle=(0, (4, 2)))
                text = axes.get_xaxis_transform()
                axes.text(p["order"] - 0.45, 0.98, p["step"], transform=text, va="top", fontsize=7.5, rotation=90)
        step = max(1, math.ceil(len(chosen) / 5))
        axes.set_xticks(x[::step], [_commit(p["commit"]) for p in chosen[::step]], fontsize=7)
        axes.set_ylim(bottom=0)
        axes.margins(y=0.15)
        axes.set_xlabel("commit, in order of measuring")
        axes.set_ylabel("median latency (ms)")
    look.legend(canvas)
    return canvas


def _commit(text: str) -> str:
    return text[:8] + ("+" if text.endswith("+dirty") else "")


def layers(points: list[Point]) -> Canvas:
    canvas, parts = panels(points, height=3.6, left=2.4, legend=0.1)
    for number, (axes, chosen) in enumerate(parts):
        bars = axes.barh(range(len(chosen)), [p["ms"] for p in chosen], color="#0072B2", height=0.7)
        for place, bar in enumerate(bars):
            bar.set_gid(f"bar-{number}-{place}")
        axes.set_yticks(range(len(chosen)), [short(p["layer"], 30) for p in chosen], fontsize=7.5)
        axes.set_ylim(len(chosen) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time of the layer (ms)")
    return canvas


FIGURES: dict[str, tuple[Callable[[Sequence[Row]], Series], str, Callable[[list[Point]], Canvas]]] = {
    "latency": (series.latency, "Median latency over the size of the output, with 95 % intervals", latency),
    "memory": (series.memory, "Peak memory over the size of the output, with what the machine has", memory),
    "quality": (series.quality, "PSNR against the reference over latency, with the Pareto front", quality),
    "speed-up": (series.speed_up, "How many times faster than the yardstick, by engine and precision", speed_up),
    "roofline": (
        series.roofline,
        "GFLOP/s reached over arithmetic intensity, under the machine's measured peaks",
        roofline,
    ),
    "cold-start": (series.cold_start, "Seconds until the first picture: export, load, first inference", cold_start),
    "history": (series.history, "Latency over commits, with steps marked", history),
    "layers": (series.layers, "Time of each layer", layers),
}
"""Name, also of the files → its numbers, what it shows, how it is drawn."""

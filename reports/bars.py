"""Cells and bars: speed-up, cold start, layers. Points in, a canvas out; ids on what a test reads back."""

from __future__ import annotations

import math

from matplotlib.figure import Figure as Canvas

from reports.drawing import Point, fineness, grouped, hint, missing, named, panels, short
from reports.svg import INK

CELL_IN = (0.62, 0.19)
"""Least width and height of a cell of the matrix, in inches."""
STACK = {
    "build_s": ("export", "#0072B2", "//"),
    "load_s": ("load", "#E69F00", ".."),
    "first_s": ("first inference", "#009E73", ""),
}


def speed_up(points: list[Point]) -> Canvas:
    groups = grouped(points, "panel").values()
    heads = max(len({_head(p) for p in group}) for group in groups)
    engines = max(len({named(p) for p in group}) for group in groups)
    columns = max(1, int(13.2 / (1.75 + CELL_IN[0] * heads)))
    canvas, parts = panels(points, height=max(2.5, 1.1 + CELL_IN[1] * engines), left=1.75, columns=columns)
    highest = max(abs(math.log2(p["speed_up"])) for p in points) or 1.0
    for number, (axes, chosen) in enumerate(parts):
        names = sorted({named(p) for p in chosen})
        own = list(dict.fromkeys(_head(p) for p in sorted(chosen, key=_by_precision)))
        axes.grid(visible=False)
        for place, p in enumerate(chosen):
            x, y, share = own.index(_head(p)), names.index(named(p)), math.log2(p["speed_up"]) / highest
            colour = "#0072B2" if share >= 0 else "#D55E00"
            corners = [x, x + 1, x + 1, x], [y, y, y + 1, y + 1]
            axes.fill(*corners, color=colour, alpha=0.08 + 0.5 * abs(share), linewidth=0)
            text = f"{p['speed_up']:.2f}×" if p["speed_up"] < 9.995 else f"{p['speed_up']:.1f}×"
            bold = "bold" if p["id"] == p["against_id"] else "normal"
            said = hint(p, text)
            axes.text(
                x + 0.5, y + 0.5, text, ha="center", va="center", weight=bold, gid=f"mark-{number}-{place}", label=said
            )
        axes.set_xlim(0, len(own))
        axes.set_ylim(len(names), 0)
        axes.set_xticks([i + 0.5 for i in range(len(own))], [_stacked(head) for head in own], fontsize=8)
        axes.set_yticks([i + 0.5 for i in range(len(names))], [short(name, 24) for name in names], fontsize=8)
        axes.tick_params(length=0)
        bases = "\nor ".join(short(base, 40) for base in dict.fromkeys(p["against"] for p in chosen))
        axes.set_xlabel(f"times faster than {bases}", fontsize=8)
    return canvas


def _head(point: Point) -> tuple[str, str]:
    return point["precision"], point["statistics"]


def _by_precision(point: Point) -> tuple[object, ...]:
    return fineness(point["precision"]), point["statistics"] != "image", point["statistics"]


def _stacked(head: tuple[str, str]) -> str:
    return "\n".join(short(word, 11) for word in head if word)


def cold_start(points: list[Point]) -> Canvas:
    high = 0.95 + 0.27 * len(points)
    canvas = Canvas(figsize=(9.2, high))
    axes = canvas.add_axes((2.9 / 9.2, 0.78 / high, 6.1 / 9.2, 1 - 0.88 / high))
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
    canvas.legend(loc="lower center", ncols=3, fontsize=8.5, borderaxespad=0.1)
    return canvas


def layers(points: list[Point]) -> Canvas:
    longest = max(len(group) for group in grouped(points, "panel").values())
    left = 2.5
    canvas, parts = panels(points, height=1.0 + 0.2 * longest, left=left)
    wide = canvas.get_size_inches()[0]
    for number, (axes, chosen) in enumerate(parts):
        side = axes.get_position().width * wide
        axes.set_title(short(chosen[0]["panel"], round(11.5 * (left + side))), x=0.05 - left / side)
        bars = axes.barh(range(len(chosen)), [p["ms"] for p in chosen], color="#0072B2", height=0.7)
        for place, (bar, p) in enumerate(zip(bars, chosen, strict=True)):
            bar.set_gid(f"bar-{number}-{place}")
            axes.text(p["ms"], place, f" {_share(p['share'])}", va="center", fontsize=7.5)
        axes.set_yticks(range(len(chosen)), [_layer(p) for p in chosen], fontsize=7.5)
        axes.set_ylim(longest - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("ms, and share of all layers")
    return canvas


def _share(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _layer(p: Point) -> str:
    kind = "" if not p["kind"] or p["kind"].lower() in p["layer"].lower() else f" ({p['kind']})"
    return short(p["layer"], 36 - len(kind)) + short(kind, 18)

"""One mark per case: quality against latency, roofline. Points in, a canvas out; ids on what a test reads back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from reports.drawing import CHOICE, Look, Point, grouped, hint, log_axis, missing, panels, plain, short
from reports.svg import INK

At = tuple[float, float]
Box = tuple[float, float, float, float]
NEAR = (0.09, 0.02)
"""How far from its mark a name begins, and how far from others it must stay, in inches."""
LETTER_IN, LINE_IN = 0.058, 0.12
"""Width and height of a letter of a name, in inches."""


def quality(points: list[Point]) -> Canvas:
    look = Look(points, filled="precision" if len({p["precision"] for p in points}) > 1 else "statistics")
    front = Line2D([], [], color=INK, linewidth=1, alpha=0.7, label="beaten by none in both")
    canvas, parts = panels(points, look.key(lines=False, more=[front]), foot=0.5)
    for number, (axes, chosen) in enumerate(parts):
        finite = [p["psnr_db"] for p in chosen if not p["identical"]]
        top = max(finite, default=100.0) + max(6.0, 0.12 * (max(finite, default=0.0) - min(finite, default=0.0)))
        heights = {p["id"]: top if p["identical"] else p["psnr_db"] for p in chosen}
        best = sorted((p for p in chosen if p["front"]), key=lambda p: p["latency_ms"])
        x, y = [p["latency_ms"] for p in best], [heights[p["id"]] for p in best]
        axes.step(x, y, where="post", color=INK, linewidth=1, alpha=0.7, gid=f"front-{number}")
        for place, point in enumerate(chosen):
            style = look.of(point, 9 if point["front"] else 6) | {"linestyle": "none"}
            said = "identical" if point["identical"] else f"{point['psnr_db']:.1f} dB"
            label = hint(point, f"{point['latency_ms']:.4g} ms", said)
            at = (point["latency_ms"], heights[point["id"]])
            axes.plot(*([value] for value in at), **style, gid=f"mark-{number}-{place}", label=label)
        axes.set_xscale("log")
        axes.margins(x=0.15, y=0.15)
        if len(finite) < len(chosen):
            _infinity(axes, finite, top)
        axes.set_xlabel("median latency (ms)")
        _without(axes, chosen, number)
        axes.set_ylabel(f"PSNR to {'original' if 'operator_ms' in chosen[0] else 'reference'} (dB)")
        log_axis(axes.xaxis)
        how = {p["id"]: f"{p['precision']} {p['statistics']}".strip() for p in best}
        names = [((p["latency_ms"], heights[p["id"]]), how[p["id"]]) for p in best]
        corners = [
            at for (left, low), (right, _) in pairwise(zip(x, y, strict=True)) for at in ((left, low), (right, low))
        ]
        corners += [(x[-1], y[-1])] if best else []
        marks = [(p["latency_ms"], heights[p["id"]]) for p in chosen]
        level = [((0.01, top), (1e9, top))] if len(finite) < len(chosen) else []
        _name(canvas, axes, names, marks, [*pairwise(corners), *level])
    return canvas


def _without(axes: Axes, points: list[Point], number: int) -> None:
    """Lines for the operator's own time and the quality of what one has without the network, where points say so."""
    operators = {(p["operator"], p["operator_ms"]) for p in points if not missing(p.get("operator_ms"))}
    named = set()  # several times of one operator stand close together
    for place, (name, ms) in enumerate(sorted(operators)):
        axes.axvline(ms, color=INK, linewidth=1, linestyle=(0, (1, 2)), gid=f"limit-{number}-{place}")
        words, across = short(name or "the operator", 24), axes.get_xaxis_transform()
        if words in named:
            continue
        named.add(words)
        axes.text(ms, 0.02, f" {words}", transform=across, va="bottom", fontsize=7.5, rotation=90)
    baselines = {(p["baseline"], p["baseline_db"]) for p in points if not missing(p.get("baseline_db"))}
    for place, (name, db) in enumerate(sorted(pair for pair in baselines if math.isfinite(pair[1]))):
        axes.axhline(db, color=INK, linewidth=1, linestyle=(0, (5, 3)), gid=f"limit-{number}-baseline-{place}")
        across = axes.get_yaxis_transform()
        axes.text(0.99, db, short(name, 24), transform=across, va="bottom", ha="right", fontsize=7.5)


def _infinity(axes: Axes, finite: list[float], top: float) -> None:
    """A line for identical outputs, above all others."""
    axes.axhline(top, color=INK, linewidth=0.7, linestyle=":", alpha=0.6)
    ticks = [tick for tick in axes.get_yticks() if finite and min(finite) - 1 <= tick <= max(finite)]
    ticks = ticks if len(ticks) > 1 else sorted({round(value, 1) for value in finite})[:4]
    axes.set_yticks([*ticks, top], [*map(plain, ticks), "∞"])


def roofline(points: list[Point]) -> Canvas:
    look = Look(points, filled="precision")
    canvas, parts = panels(points, look.key(lines=False), height=4.0, foot=0.5)
    for number, (axes, chosen) in enumerate(parts):
        low, high = _roofs(axes, chosen, number)
        for place, alike in enumerate(grouped(chosen, *CHOICE).values()):
            style = look.of(alike[0], 6) | {"linestyle": "none", "alpha": 0.85}
            x, y = [p["flop_per_byte"] for p in alike], [p["gflop_per_s"] for p in alike]
            label = "\n".join(hint(p, f"{p['gflop_per_s']:.3g} GFLOP/s", _share(p)) for p in alike)
            axes.plot(x, y, **style, gid=f"mark-{number}-{place}", label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_xlabel("arithmetic intensity (FLOP per byte moved at least)")
        axes.set_ylabel("reached (GFLOP/s)")
        log_axis(axes.xaxis)
        log_axis(axes.yaxis)
        levels = {rate for pairs in _limits(chosen).values() for _, rate in pairs}
        marks = [(p["flop_per_byte"], p["gflop_per_s"]) for p in chosen]
        _name(canvas, axes, _networks(chosen), marks, [((low, rate), (high, rate)) for rate in levels])
    return canvas


def _share(p: Point) -> str:
    return "share of the limit unknown" if missing(p["limit_share"]) else f"{p['limit_share']:.0%} of its limit"


def _networks(points: list[Point]) -> list[tuple[tuple[float, float], str]]:
    """The fastest mark of each network and size with that name; of each network alone where the sizes are many."""
    keys = ("model", "resolution") if len(grouped(points, "model", "resolution")) <= 16 else ("model",)
    best = [max(group, key=lambda p: p["gflop_per_s"]) for group in grouped(points, *keys).values()]
    best.sort(key=lambda p: -p["gflop_per_s"])
    return [((p["flop_per_byte"], p["gflop_per_s"]), " ".join(short(p[key], 20) for key in keys)) for p in best]


def _roofs(axes: Axes, points: list[Point], number: int) -> tuple[float, float]:
    """Draws the limits with their names; the ends of the x axis."""
    reach, limits = [p["flop_per_byte"] for p in points], _limits(points)
    knees = [rate / copy for pairs in limits.values() for copy, rate in pairs]
    low, high = min([*reach, *knees]) / 3, max([*reach, *knees]) * 4
    names = []
    for key, pairs in limits.items():
        for place, (copy, rate) in enumerate(pairs):
            line: Any = "-" if place == len(pairs) - 1 else (0, (5, 3))
            ends = [low, rate / copy, high], [low * copy, rate, rate]
            drawn = axes.plot(*ends, color=INK, linewidth=1, alpha=0.8, linestyle=line)
            drawn[0].set_gid(f"limit-{number}-{key}-{place}")
            word = key.removeprefix("peak_").removesuffix("_gflop_s")
            names.append((rate, f"{word} {rate:.0f} GFLOP/s" + (", the least" if place < len(pairs) - 1 else "")))
    above = 0.0
    for rate, name in sorted(names):
        above = max(rate, above * 1.25)  # names of rates near each other would stand on each other
        _beside(axes, (max(knees, default=low) * 1.1, above), name, "bottom")  # where no line rises, left of most cases
    levels = [rate for rate, _ in names]
    least, most = (extreme(p["peak_copy_gb_s"] for p in points) for extreme in (min, max))
    for copy in {f"{rate:.0f}": rate for rate in (least, most)}.values():  # names that read the same stand once
        places = [(low * share, low * share * copy) for share in (1.1, 1.4, 1.7, 2.1, 2.6)]
        clear = [at for at in places if not any(0.75 * at[1] < level < 1.1 * at[1] for level in levels)]
        _beside(axes, (clear or places)[0], f"copy {copy:.0f} GB/s", "top")
    return low, high


def _beside(axes: Axes, at: At, text: str, side: str) -> None:
    """A name to the right of a place: standing on a level line ("bottom") or just below one that rises ("top")."""
    shift = (0, 2) if side == "bottom" else (5, -2)
    axes.annotate(text, at, xytext=shift, textcoords="offset points", ha="left", va=side, fontsize=7.5)


def _limits(points: list[Point]) -> dict[str, list[tuple[float, float]]]:
    """Per precision the pairs of copy rate and peak, as measured together: the lowest and the highest of several."""
    keys = [key for key in points[0] if key.startswith("peak_") and key.endswith("_gflop_s")]
    found = {}
    for key in keys:
        pairs = {(p[key], p["peak_copy_gb_s"]) for p in points if not missing(p.get(key))}
        if pairs:
            found[key] = [(copy, rate) for rate, copy in dict.fromkeys((min(pairs), max(pairs)))]
    return found


def _name(
    canvas: Canvas, axes: Axes, names: Iterable[tuple[At, str]], marks: list[At], lines: Iterable[tuple[At, At]]
) -> None:
    """Writes names beside their marks, not on other names, marks or lines; one without room near by is left out.

    Args:
        lines: their ends; level or upright.
    """
    wide, high = canvas.get_size_inches()
    frame = axes.get_position()
    bounds = (frame.x0 * wide, frame.y0 * high, frame.x1 * wide, frame.y1 * high)
    to_axes = axes.transScale + axes.transLimits

    def inches(at: At) -> At:
        x, y = to_axes.transform(at)
        return bounds[0] + x * (bounds[2] - bounds[0]), bounds[1] + y * (bounds[3] - bounds[1])

    taken: list[Box] = [(x - 0.05, y - 0.05, x + 0.05, y + 0.05) for x, y in map(inches, marks)]
    for ends in lines:
        (a, b), (c, d) = map(inches, ends)
        taken.append((min(a, c), min(b, d), max(a, c), max(b, d)))
    for at, text in names:
        x, y = inches(at)
        found = _free(x, y, LETTER_IN * len(text), taken, bounds)
        if found is not None:
            taken.append(found)
            side = found[0] > x
            shift = (72 * (found[0] - x if side else found[2] - x), 72 * (found[1] + LINE_IN / 2 - y))
            line = {"arrowstyle": "-", "color": INK, "linewidth": 0.5, "alpha": 0.5, "shrinkA": 0, "shrinkB": 2}
            axes.annotate(
                text, at, xytext=shift, textcoords="offset points", fontsize=7.5, va="center",
                ha="left" if side else "right", arrowprops=line if abs(shift[1]) > 8 else None,
            )  # fmt: skip


def _free(x: float, y: float, width: float, taken: list[Box], bounds: Box) -> Box | None:
    """The nearest free box for a text of this width beside (x, y), in inches; right before left."""
    for up in (0, 1, -1, 2, -2):
        low = y + up * LINE_IN - LINE_IN / 2
        for left in (x + NEAR[0], x - NEAR[0] - width):
            box = (left, low, left + width, low + LINE_IN)
            inside = bounds[0] <= left and box[2] <= bounds[2] and bounds[1] <= low and box[3] <= bounds[3]
            if inside and not any(_meet(box, other) for other in taken):
                return box
    return None


def _meet(a: Box, b: Box) -> bool:
    room = NEAR[1]
    return a[0] < b[2] + room and b[0] < a[2] + room and a[1] < b[3] and b[1] < a[3]

"""What all figures share: settings of matplotlib, the look of a series, panels, axes. Draws no figure by itself.

Colours are Okabe and Ito's; every difference is also one of marker, line or filling, so that a black-and-white print
says the same.
Source of the colours: Okabe, Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reports.svg import INK

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES: dict[str, Any] = {
    "fp32": "-", "bf16": "--", "fp16": "-.", "int8": ":", "tf32": (0, (8, 2)), "fp8": (0, (4, 1, 1, 1, 1, 1)),
}  # fmt: skip
LEGEND_IN = 0.75
"""Height of the legend below the panels, in inches."""
FILLS = ("full", "none", "left", "bottom", "right", "top")
SHORT = 34
"""Characters of a label; longer ones are cut."""
Point = dict[str, Any]


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib as all figures want it. Names from runs are plain text: no `$` starts a formula."""
    chosen: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "fullres", "text.parse_math": False, "font.size": 9.5,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "lines.markersize": 5.5, "lines.linewidth": 1.5, "legend.frameon": False,
        "axes.facecolor": "none", "path.simplify": False, "hatch.linewidth": 0.6, "hatch.color": INK,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
        "grid.color": INK, "grid.alpha": 0.18, "grid.linewidth": 0.6,
    }  # fmt: skip
    with rc_context(chosen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")  # a name in a script that the font lacks: boxes
        yield


def named(point: Point) -> str:
    """Engine, with the device where it is not the CPU and the tile where there is one."""
    device, tile = point.get("device") or "cpu", point.get("tile") or "off"
    words = (point["engine"], "" if device == "cpu" else device, "" if tile == "off" else f"tile {tile}")
    return " ".join(word for word in words if word)


class Look:
    """Colour and marker per engine, device and tile, line per precision, filling per kind of statistics.

    The same in all panels. Without lines, `filled="precision"` lets the filling say the precision.
    """

    def __init__(self, points: Iterable[Point], filled: Literal["statistics", "precision"] = "statistics") -> None:
        points = list(points)
        self.filled = filled
        self.points = {named(p): p for p in points}
        self.engines = sorted(self.points)
        self.precisions = sorted({p["precision"] for p in points}, key=lambda name: (name not in LINES, name))
        self.statistics = sorted({p["statistics"] for p in points}, key=lambda name: (name != "image", name))

    def of(self, point: Point) -> dict[str, Any]:
        place = self.engines.index(named(point))
        colour = COLOURS[place % len(COLOURS)]
        kinds = self.statistics if self.filled == "statistics" else self.precisions
        fill = FILLS[kinds.index(point[self.filled]) % len(FILLS)]
        others = [name for name in self.precisions if name not in LINES]
        line = LINES.get(point["precision"]) or (0, (1 + others.index(point["precision"]), 1, 4, 1))
        return {
            "color": colour,
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": line,
            "fillstyle": fill,
        }

    def legend(self, canvas: Canvas, lines: bool = True, more: Iterable[Line2D] = ()) -> None:
        """Below all panels: what colour, line and filling mean; a choice that nobody varied is left out."""
        common = {"precision": self.precisions[0], "statistics": self.statistics[0]}
        base = self.points[self.engines[0]] | common
        handles = [
            Line2D([], [], **self.of(self.points[name] | common) | {"linestyle": "none"}, label=short(name))
            for name in self.engines
        ]
        if lines and (len(self.precisions) > 1 or self.precisions[0] != "fp32"):
            for name in self.precisions:
                style = self.of(base | {"precision": name})["linestyle"]
                handles.append(Line2D([], [], color=INK, linestyle=style, label=short(name)))
        kinds = self.statistics if self.filled == "statistics" else self.precisions
        if len(kinds) > 1:
            for name in kinds:
                fill = self.of(base | {self.filled: name})["fillstyle"]
                drawn = {"color": INK, "marker": "o", "linestyle": "none", "fillstyle": fill}
                word = f"statistics {name or 'none'}" if self.filled == "statistics" else name
                handles.append(Line2D([], [], **drawn, label=short(word)))
        handles += more
        columns = max(5, math.ceil(len(handles) / 4))
        canvas.legend(handles=handles, loc="lower center", ncols=min(columns, len(handles)), fontsize=8.5)


def short(text: str, most: int = SHORT) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def grouped(points: Iterable[Point], *keys: str) -> dict[tuple[Any, ...], list[Point]]:
    found: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        found.setdefault(tuple(point[key] for key in keys), []).append(point)
    return found


Parts = list[tuple[Axes, list[Point]]]


def panels(
    points: Sequence[Point], height: float = 3.1, left: float = 0.8, legend: float = LEGEND_IN
) -> tuple[Canvas, Parts]:
    """A canvas with an axes per panel, two side by side, or three where there are more than four.

    Args:
        height: of a panel with its labels, in inches.
        left: room for the labels of the y axis, in inches. A fixed one: to have matplotlib find it takes as long as
            drawing everything.
        legend: height below all panels, in inches.
    """
    groups = grouped(points, "panel")
    columns = 3 if len(groups) > 4 else min(2, len(groups))
    lines = math.ceil(len(groups) / columns)
    wide, high = (13.2 if columns == 3 else 9.2), height * lines + legend
    canvas = Canvas(figsize=(wide, high))
    side = (wide - columns * left - 0.15) / columns
    canvas.subplots_adjust(
        left=left / wide, right=1 - 0.15 / wide, top=1 - 0.35 / high, bottom=(legend + 0.65) / high,
        wspace=left / side, hspace=0.95 / (height - 0.95),
    )  # fmt: skip
    axes = [canvas.add_subplot(lines, columns, place + 1) for place in range(len(groups))]
    for each, (title,) in zip(axes, groups, strict=True):
        each.set_title(short(title, 60 if columns == 2 else 90 if columns == 1 else 56))
        each.grid(visible=True)
        each.set_axisbelow(True)
    return canvas, list(zip(axes, groups.values(), strict=True))


def plain(value: float, _: Any = None) -> str:
    """A tick's number without powers of ten where it can be read without."""
    return f"{value:g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.0e}"


def log_axis(axis: Any) -> None:
    """A logarithmic axis with plain numbers at three places at least."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers from `low` to `high`, both above 0: powers of ten, parts of them, even steps."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [d * 10.0**e for e in range(first, last + 1) for d in digits if low <= d * 10.0**e <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / 8)]
    steps = MaxNLocator(nbins=6, min_n_ticks=3).tick_values(low, high)
    return [float(tick) for tick in steps if low <= tick <= high]


def pixels_axis(axes: Axes, points: Sequence[Point]) -> None:
    """Megapixels from left to right, each measured size with its name."""
    axes.set_xscale("log")
    sizes = dict(sorted({p["megapixels"]: p["resolution"] for p in points}.items()))
    low, high = min(sizes), max(sizes)
    axes.set_xlim(low / 1.25, high * 1.25)
    kept: list[float] = []
    for size in sizes:  # names that would stand on each other are left out
        if not kept or math.log(size / kept[-1]) > 0.06 * math.log(high / low * 1.6):
            kept.append(size)
    axes.set_xticks(kept, [f"{short(sizes[size], 11)}\n{size:.3g}" for size in kept])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("size of the output (megapixels)")

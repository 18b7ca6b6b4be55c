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
from itertools import product
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
    "fp32": "-", "tf32": (0, (8, 2)), "bf16": "--", "fp16": "-.", "int8+fp16": (0, (4, 1.5, 1, 1.5, 1, 1.5)),
    "int8": ":", "fp8": (0, (1, 4)), "auto": (0, (6, 1.5, 2, 1.5)),
}  # fmt: skip
"""Line of each precision, from the finest to the coarsest; others follow by name."""
TITLE_IN = 0.3
"""Height of the title of a panel, in inches."""
LINE_IN, LETTER_IN, HANDLE_IN = 0.19, 0.066, 0.62
"""Of a legend, in inches: height of a line, width of a letter, width of a handle with the room about it."""
FILLS = (
    *product(("full", "none", "left", "bottom", "right", "top"), ("large",)),
    *product(("full", "none", "left", "bottom", "right", "top"), ("small",)),
)
"""Filling and size of a mark: seven precisions are more than there are fillings."""
SMALL = 0.55
"""Of the size of a large mark."""
SHORT = 34
"""Characters of a label; longer ones are cut."""
Point = dict[str, Any]
CHOICE = ("engine", "device", "precision", "statistics", "tile")
"""What must be equal for points to be of one line."""


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
        self.precisions = sorted({p["precision"] for p in points}, key=fineness)
        self.statistics = sorted({p["statistics"] for p in points}, key=lambda name: (name != "image", name))

    def of(self, point: Point, size: float = 5.5) -> dict[str, Any]:
        """Arguments of `plot` for a point.

        Args:
            size: of a large mark, in points.
        """
        place = self.engines.index(named(point))
        kinds = self.statistics if self.filled == "statistics" else self.precisions
        fill, large = FILLS[kinds.index(point[self.filled]) % len(FILLS)]
        others = [name for name in self.precisions if name not in LINES]
        line = LINES.get(point["precision"]) or (0, (1 + others.index(point["precision"]), 1, 4, 1))
        return {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": line,
            "fillstyle": fill,
            "markersize": size if large == "large" else size * SMALL,
        }

    def key(self, lines: bool = True, more: Iterable[Line2D] = ()) -> list[Line2D]:
        """What colour, line and filling mean, for a legend; a choice that nobody varied is left out."""
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
                look = {**self.of(base | {self.filled: name}), "color": INK, "marker": "o", "linestyle": "none"}
                word = f"statistics {name or 'none'}" if self.filled == "statistics" else name
                handles.append(Line2D([], [], **look, label=short(word)))
        return [*handles, *more]


def fineness(precision: str) -> tuple[int, str]:
    """Sorts precisions as LINES lists them, unknown ones after them by name."""
    order = list(LINES)
    return (order.index(precision) if precision in order else len(order)), precision


def hint(point: Point, *figures: str) -> str:
    """What stands on a mark when one points at it: the case and its figures, in one line."""
    words = (point["model"], point["resolution"], named(point), point["precision"], point["statistics"])
    return f"{' '.join(word for word in words if word)}: {', '.join(figures)}"


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
    points: Sequence[Point],
    key: Sequence[Line2D] = (),
    *,
    height: float = 3.1,
    left: float = 0.8,
    columns: int | None = None,
    foot: float = 0.62,
) -> tuple[Canvas, Parts]:
    """A canvas with an axes per panel: two side by side or, where there are more than four, three; the key below.

    Args:
        height: of a panel with its labels, in inches.
        left: room for the labels of the y axis, in inches. A fixed one: to have matplotlib find it takes as long as
            drawing everything.
        columns: panels side by side, where it must be fewer; on a canvas as wide.
        foot: height of the labels of the x axis; 0.62 holds two lines at the ticks and the name of the axis.
    """
    groups = grouped(points, "panel")
    most = 3 if len(groups) > 4 else min(2, len(groups))
    wide, columns = (13.2 if most == 3 else 9.2), min(most, columns or most)
    lines, across = math.ceil(len(groups) / columns), _across(key, wide)
    legend = LINE_IN * math.ceil(len(key) / across) + 0.12 if key else 0.0
    high = height * lines + legend
    canvas = Canvas(figsize=(wide, high))
    side = (wide - columns * left - 0.15) / columns
    canvas.subplots_adjust(
        left=left / wide, right=1 - 0.15 / wide, top=1 - TITLE_IN / high, bottom=(legend + foot) / high,
        wspace=left / side, hspace=(TITLE_IN + foot) / (height - TITLE_IN - foot),
    )  # fmt: skip
    axes = [canvas.add_subplot(lines, columns, place + 1) for place in range(len(groups))]
    for each, (title,) in zip(axes, groups, strict=True):
        each.set_title(short(title, round(11.5 * side)))
        each.grid(visible=True)
        each.set_axisbelow(True)
    if key:
        canvas.legend(handles=list(key), loc="lower center", ncols=across, fontsize=8.5, borderaxespad=0.1)
    return canvas, list(zip(axes, groups.values(), strict=True))


def _across(key: Sequence[Line2D], wide: float) -> int:
    """Entries of a legend that fit side by side into so many inches; lines of the same number of them."""
    if not key:
        return 1
    widest = max(len(str(handle.get_label())) for handle in key) * LETTER_IN + HANDLE_IN
    fitting = max(1, min(len(key), int(wide / widest)))
    return math.ceil(len(key) / math.ceil(len(key) / fitting))


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

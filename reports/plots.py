"""Rows → every figure as SVG and PNG, with its numbers. What is painted stands in bars.py, curves.py and scatters.py.

The marks of a figure carry ids, `mark-PANEL-SERIES`, so that what was drawn can be read back from the SVG; the label
of such an artist is the text that stands on the mark when one points at it, one line per mark.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray
from PIL import Image

from reports import series
from reports.bars import cold_start, layers, speed_up
from reports.curves import history, latency, memory
from reports.drawing import TITLE_IN, Point, settings
from reports.row import Row
from reports.scatters import quality, roofline
from reports.series import Series
from reports.svg import inlined, standalone

PNG_DPI = 110
DARK_GROUND = (20, 23, 28)
SUFFIXES = ("", "-dark")
"""Of the PNGs' names."""


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
        hints = {str(a.get_gid()): str(a.get_label()).split("\n") for a in canvas.findobj(_is_mark)}
        agg = FigureCanvasAgg(canvas)
        agg.draw()
        light = np.asarray(agg.buffer_rgba())[..., :3].copy()
        canvas.patch.set_visible(False)
        text = io.StringIO()
        FigureCanvasSVG(canvas).print_svg(text, metadata={"Date": None, "Creator": None})
    pngs = {"": _png(light), "-dark": _png(darkened(light))}
    return Figure(name, label, inlined(text.getvalue(), f"figure-{name}", label, hints, _rows(canvas)), pngs, numbers)


def _rows(canvas: Canvas) -> list[float]:
    """Where each row of panels begins, from above, in points."""
    high = canvas.get_size_inches()[1]
    tops = {round((1 - axes.get_position().y1) * high - TITLE_IN, 2) for axes in canvas.axes}
    return [max(0.0, 72 * top) for top in sorted(tops)]


def _is_mark(artist: Artist) -> bool:
    return str(artist.get_gid() or "").startswith("mark-")


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


FIGURES: dict[str, tuple[Callable[[Sequence[Row]], Series], str, Callable[[list[Point]], Canvas]]] = {
    "latency": (series.latency, "Median latency over the size of the output, with 95 % intervals", latency),
    "memory": (series.memory, "Peak memory over the size of the output, with what the machine has", memory),
    "quality": (series.quality, "PSNR against the reference over latency, with the Pareto front", quality),
    "original": (series.original, "PSNR against the original over latency, with the Pareto front", quality),
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

"""A figure's history → an SVG drawing: one panel for each case, a point for each run, a line for each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.history import Point
from bench.rules import Figure
from bench.steps import Step, find_steps

WIDTH_IN, HEIGHT_IN = 9.0, 2.4
"""Of a panel, in inches."""


def draw(series: Mapping[tuple[str, str], Sequence[Point]], figure: Figure, path: Path) -> dict[str, list[Step]]:
    """Writes the drawing; returns the steps of every panel by its title."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    drawing, panels = pyplot.subplots(
        len(series), 1, figsize=(WIDTH_IN, HEIGHT_IN * len(series)), squeeze=False, layout="constrained"
    )
    found: dict[str, list[Step]] = {}
    for panel, points in zip(panels[:, 0], series.values(), strict=True):
        steps = find_steps([point.value for point in points]) if all(p.value > 0 for p in points) else []
        found[points[0].title] = steps
        _draw_panel(panel, points, steps, figure)
    drawing.savefig(path, metadata={"Date": None})
    pyplot.close(drawing)
    return found


def _draw_panel(panel: object, points: Sequence[Point], steps: Sequence[Step], figure: Figure) -> None:
    values = [point.value for point in points]
    panel.plot(values, "o-", color="#2b6cb0", linewidth=1, markersize=3)  # type: ignore[attr-defined]
    for place, point in enumerate(points):
        if point.interval:
            panel.plot([place, place], point.interval, color="#90cdf4", linewidth=3, zorder=0)  # type: ignore[attr-defined]
    for step in steps:
        panel.axvline(step.place - 0.5, color="#c53030", linestyle="--", linewidth=1)  # type: ignore[attr-defined]
        panel.annotate(f"{step.change:+.1%}", (step.place - 0.4, max(values)), color="#c53030", fontsize=8)  # type: ignore[attr-defined]
    panel.set_title(points[0].title.replace("$", r"\$"), fontsize=9, loc="left")  # type: ignore[attr-defined]
    panel.set_ylabel(f"{figure.name} {figure.unit}".strip(), fontsize=8)  # type: ignore[attr-defined]
    names = [(point.commit or "?")[:7] for point in points]
    shown = range(0, len(points), max(1, len(points) // 12))
    panel.set_xticks(list(shown), [names[k] for k in shown], fontsize=7)  # type: ignore[attr-defined]

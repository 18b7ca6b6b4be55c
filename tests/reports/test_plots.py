"""All figures: units, plain text, light and dark. Their numbers are read back in the tests of what paints them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from reports.plots import FIGURES, Figure, darkened, draw
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def runs(many_runs: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return many_runs(200, 3)[::3]


@pytest.fixture(scope="module")
def figures(runs: list[dict[str, Any]]) -> dict[str, Figure]:
    return draw([row_from_run(run) for run in runs])


def test_every_axis_has_a_unit(figures: dict[str, Figure]) -> None:
    units = {"latency": ["megapixels", "ms"], "memory": ["megapixels", "MiB"], "quality": ["ms", "dB"],
             "roofline": ["FLOP per byte", "GFLOP/s"], "cold-start": ["seconds"],
             "speed-up": ["times faster"]}  # fmt: skip
    assert set(units) <= set(figures)
    for name, words in units.items():
        text = "".join(ElementTree.fromstring(figures[name].svg).itertext())
        assert all(word in text for word in words), name


def test_names_of_a_run_are_plain_text_in_a_drawing(make_run: Make) -> None:
    name = "$\\frac{1}$<script>alert(1)</script>&"
    runs = [make_run("a", case={"model": name}), make_run("b", 9, case={"model": name, "variant": name})]
    known = {"svg", "g", "path", "use", "defs", "text", "tspan", "clipPath", "rect", "pattern", "title"}
    figures = draw([row_from_run(run) for run in runs])
    for figure in figures.values():
        root = ElementTree.fromstring(figure.svg)
        assert {e.tag.removeprefix(SVG) for e in root.iter()} <= known
    assert name in "".join(ElementTree.fromstring(figures["latency"].svg).itertext())


def test_drawing_twice_gives_the_same_bytes(make_run: Make) -> None:
    rows = [row_from_run(make_run())]
    one, two = (draw(rows, ["latency", "cold-start"]) for _ in range(2))
    assert {n: (f.svg, f.pngs) for n, f in one.items()} == {n: (f.svg, f.pngs) for n, f in two.items()}


def test_there_is_a_light_and_a_dark_picture(figures: dict[str, Figure]) -> None:
    for figure in figures.values():
        light, dark = (np.asarray(Image.open(io.BytesIO(figure.pngs[s])).convert("L"), float) for s in ("", "-dark"))
        assert light.shape == dark.shape
        assert np.median(light) > 240
        assert np.median(dark) < 40


def test_darkening_turns_lightness_and_keeps_hue() -> None:
    light = np.array([[[255, 255, 255], [0, 0, 0], [0, 114, 178], [200, 40, 40]]], np.uint8)
    white, black, blue, red = darkened(light)[0].astype(int)
    assert list(white) == [20, 23, 28]
    assert list(black) == [255, 255, 255]
    assert blue[2] > blue[1] > blue[0]
    assert red[0] > red[1]
    assert abs(red[1] - red[2]) < 8


def test_nothing_to_draw_gives_no_figure(make_run: Make) -> None:
    assert draw([]) == {}
    assert draw([row_from_run(make_run(status="failed", latency_ms=None))]) == {}
    assert set(draw([row_from_run(make_run())])) <= set(FIGURES)


def test_cpu_and_cuda_stand_apart_in_the_legend(make_run: Make) -> None:
    rows = [row_from_run(make_run("a")), row_from_run(make_run("g", 5.0, case={"device": "cuda:0"}))]
    for name in ("latency", "quality", "roofline"):
        assert "onnxruntime cuda:0" in draw(rows, [name])[name].svg


def test_every_mark_of_every_figure_says_what_it_is(figures: dict[str, Figure]) -> None:
    for name in ("latency", "memory", "quality", "roofline", "speed-up"):
        figure = figures[name]
        found = [title.text or "" for title in ElementTree.fromstring(figure.svg).iter(f"{SVG}title")]
        points = figure.series.points
        for point in points.to_dict("records")[:20]:
            words = (point["model"], point["resolution"], point["engine"], point["precision"])
            assert any(all(word in title for word in words) for title in found), name
        assert len(found) >= len(points)


def test_rows_of_panels_begin_above_their_titles(figures: dict[str, Figure]) -> None:
    figure = figures["quality"]
    root = ElementTree.fromstring(figure.svg)
    rows = [float(top) for top in (root.get("data-rows") or "").split()]
    assert len(rows) == 4  # twelve panels, three in a row
    assert rows[0] == 0
    panels = list(dict.fromkeys(figure.series.points["panel"]))
    titles = {"".join(text.itertext()): float(text.get("y", "nan")) for text in root.iter(f"{SVG}text")}
    for place, panel in enumerate(panels):
        assert 0 < titles[panel] - rows[place // 3] < 25

"""What was drawn, read back from the SVG by its own axes, against the runs themselves."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from reports.plots import FIGURES, Figure, darkened, draw
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]
Element = ElementTree.Element
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def runs(many_runs: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return many_runs(200, 3)[::3]


@pytest.fixture(scope="module")
def figures(runs: list[dict[str, Any]]) -> dict[str, Figure]:
    return draw([row_from_run(run) for run in runs])


def by_id(root: Element, end: str) -> Element:
    (found,) = (e for e in root.iter() if e.get("id", "").endswith(end))
    return found


def scale(axes: Element, letter: str, log: bool) -> Callable[[float], float]:
    """Pixel → value, from the outermost two ticks whose label is a number."""
    ticks = []
    for tick in axes.iter():
        if re.search(rf"-{letter}tick_\d+$", tick.get("id", "")):
            words = " ".join("".join(text.itertext()) for text in tick.iter(f"{SVG}text")).split()
            use = next(tick.iter(f"{SVG}use"))
            if words and re.fullmatch(r"[−-]?[\d.]+(e[+-]?\d+)?", words[-1]):
                number = float(words[-1].replace("−", "-"))
                ticks.append((float(use.get(letter, "nan")), math.log(number) if log else number))
    (p, a), (q, b) = min(ticks), max(ticks)
    return lambda pixel: (math.exp if log else float)(a + (b - a) * (pixel - p) / (q - p))


def marks(figure: Figure, panel: int, log_y: bool = True) -> Iterator[tuple[float, float]]:
    """x and y of every mark in a panel, in the axes' own units, in the order drawn."""
    root = ElementTree.fromstring(figure.svg)
    axes = by_id(root, f"-axes_{panel + 1}")
    x, y = scale(axes, "x", log=True), scale(axes, "y", log=log_y)
    for group in axes.iter():
        if re.search(rf"-mark-{panel}-\d+$", group.get("id", "")):
            for use in group.iter(f"{SVG}use"):
                yield x(float(use.get("x", "nan"))), y(float(use.get("y", "nan")))


def panels(figure: Figure) -> list[str]:
    return list(dict.fromkeys(figure.series.points["panel"]))


def near(found: Iterator[tuple[float, float]], expected: set[tuple[float, float]]) -> None:
    """The ticks of sizes are rounded to three digits, so 1 %."""
    assert sorted(found) == [pytest.approx(pair, rel=0.01) for pair in sorted(expected)]


def test_latency_marks_are_the_runs_medians(figures: dict[str, Figure], runs: list[dict[str, Any]]) -> None:
    for number, panel in enumerate(panels(figures["latency"])):
        own = [run for run in runs if run["case"]["model"] == panel]
        expected = {(math.prod(r["case"]["output_shape"][2:]) / 1e6, r["latency_ms"]["p50"]) for r in own}
        assert len(expected) > 20
        near(marks(figures["latency"], number), expected)


def test_memory_marks_are_the_runs_peaks(figures: dict[str, Figure], runs: list[dict[str, Any]]) -> None:
    own = [run for run in runs if run["case"]["model"] == panels(figures["memory"])[0]]
    found = {(round(x, 1), round(math.log(y), 1)) for x, y in marks(figures["memory"], 0)}
    peaks = {(math.prod(r["case"]["output_shape"][2:]) / 1e6, r["memory"]["host_peak_mib"]) for r in own}
    assert found == {(round(x, 1), round(math.log(y), 1)) for x, y in peaks}


def test_quality_marks_are_latency_and_psnr(make_run: Make) -> None:
    figures = {"a": (10.0, 41.5), "b": (30.0, 60.25), "c": (200.0, 80.0), "d": (50.0, 45.0)}
    runs = []
    for name, (ms, psnr) in figures.items():
        run = make_run(name, ms, case={"variant": name})
        run["quality"]["vs_reference"]["psnr_db"] = psnr
        runs.append(run)
    drawn = draw([row_from_run(run) for run in runs], ["quality"])["quality"]
    near(marks(drawn, 0, log_y=False), set(figures.values()))


def test_roofline_marks_are_work_over_bytes_and_over_time(make_run: Make) -> None:
    works = {"a": (10.0, 4e6, 20.0), "b": (300.0, 5e8, 900.0), "c": (1.0, 2e9, 80.0)}
    runs = []
    for name, (gmac, low_bytes, ms) in works.items():
        runs.append(make_run(name, ms, case={"variant": name}, work={"gmac": gmac, "min_bytes": low_bytes}))
    drawn = draw([row_from_run(run) for run in runs], ["roofline"])["roofline"]
    near(marks(drawn, 0), {(2e9 * g / b, 2 * g / (ms / 1000)) for g, b, ms in works.values()})


def test_speed_up_cells_say_the_ratio(figures: dict[str, Figure]) -> None:
    root = ElementTree.fromstring(figures["speed-up"].svg)
    points = figures["speed-up"].series.points
    for number, panel in enumerate(panels(figures["speed-up"])):
        for place, factor in enumerate(points[points["panel"] == panel]["speed_up"]):
            said = "".join(by_id(root, f"-mark-{number}-{place}").itertext()).strip()
            assert float(said.rstrip("×")) == pytest.approx(factor, abs=0.06)


def test_cold_start_bars_are_as_long_as_their_seconds(figures: dict[str, Figure]) -> None:
    root = ElementTree.fromstring(figures["cold-start"].svg)
    points = figures["cold-start"].series.points.to_dict("records")
    x = scale(root, "x", log=False)
    for place, point in enumerate(points[:5]):
        for part in ("build_s", "load_s", "first_s"):
            bar = by_id(root, f"-bar-{part}-{place}")
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", next(bar.iter(f"{SVG}path")).get("d", ""))][::2]
            assert x(max(numbers)) - x(min(numbers)) == pytest.approx(point[part], rel=0.01)


def test_history_marks_steps_where_they_are(make_run: Make) -> None:
    runs = [
        make_run(str(i), ms, commit=f"{i}" * 10, time=f"2026-01-0{i + 1}T00:00:00+00:00")
        for i, ms in enumerate([100, 101, 70, 70.5, 90])
    ]
    points = draw([row_from_run(run) for run in runs], ["history"])["history"].series.points
    assert list(points["step"]) == ["", "", "faster", "", "slower"]
    assert list(points["latency_ms"]) == [100, 101, 70, 70.5, 90]


def test_layers_are_drawn_only_where_a_profile_is(make_run: Make) -> None:
    assert draw([row_from_run(make_run())], ["layers"]) == {}
    profile = [{"layer": "conv1", "ms": 3.5}, {"layer": "<b>", "ms": 1}, {"layer": 3}, "x", {"layer": "y", "ms": "1"}]
    points = draw([row_from_run(make_run(profile=profile))], ["layers"])["layers"].series.points
    assert list(zip(points["layer"], points["ms"], strict=True)) == [("conv1", 3.5), ("<b>", 1.0)]


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
    known = {"svg", "g", "path", "use", "defs", "text", "tspan", "clipPath", "rect", "pattern"}
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


def test_memory_of_a_device_differs_in_width_and_is_in_the_legend(make_run: Make) -> None:
    gpus = [{"name": "H200", "memory_mib": 143000, "driver": "1"}]
    run = make_run("g", machine={"gpus": gpus}, case={"device": "cuda:0"}, memory={"device_peak_mib": 800.0})
    svg = draw([row_from_run(run)], ["memory"])["memory"].svg
    assert "memory of the process" in svg
    assert "memory of the device" in svg
    assert 'stroke-width="4.5"' in svg
    assert "memory of the process" not in draw([row_from_run(make_run())], ["memory"])["memory"].svg


def test_limits_are_drawn_per_set_of_peaks(make_run: Make) -> None:
    b = make_run("b", case={"variant": "y"})
    b["work"]["peaks"]["fp32_gflop_s"] = 700.0
    svg = draw([row_from_run(make_run("a")), row_from_run(b)], ["roofline"])["roofline"].svg
    assert "fp32 700 to 900 GFLOP/s" in svg
    assert svg.count("limit-0-peak_fp32_gflop_s-") == 2
    assert svg.count("limit-0-peak_bf16_gflop_s-") == 1


def test_cpu_and_cuda_stand_apart_in_the_legend(make_run: Make) -> None:
    rows = [row_from_run(make_run("a")), row_from_run(make_run("g", 5.0, case={"device": "cuda:0"}))]
    for name in ("latency", "quality", "roofline"):
        assert "onnxruntime cuda:0" in draw(rows, [name])[name].svg

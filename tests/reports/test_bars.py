"""Cells and bars as drawn, read back from the SVG, against the runs themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from reports import series
from reports.bars import speed_up
from reports.drawing import settings
from reports.plots import Figure, draw
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]
Read = Callable[..., Any]
MS = {
    ("torch_eager", "fp32"): 300.0, ("torch_eager", "bf16"): 150.0, ("openvino", "fp32"): 100.0,
    ("openvino", "int8"): 25.0, ("onnxruntime", "int8+fp16"): 600.0, ("openvino", "auto"): 20.0,
}  # fmt: skip


def drawn(runs: list[dict[str, Any]], name: str) -> Figure:
    return draw([row_from_run(run) for run in runs], [name])[name]


@pytest.fixture(scope="module")
def matrix(make_run: Make) -> Figure:
    runs = []
    for (engine, precision), ms in MS.items():
        case = {"engine": engine, "variant": engine, "precision": precision}
        runs.append(make_run(f"{engine} {precision}", ms, case=case))
    return drawn(runs, "speed-up")


def place_of(text: Any) -> tuple[float, float]:
    """Where a text stands: matplotlib moves one of several lines, and places one alone."""
    moved = re.match(r"translate\(([\d.]+) ([\d.]+)\)", text.get("transform", ""))
    return (float(moved[1]), float(moved[2])) if moved else (float(text.get("x")), float(text.get("y")))


def cells(figure: Figure, read_back: Read) -> dict[tuple[str, str], str]:
    """Engine and precision → text, by where the texts stand among the labels of the axes."""
    panel = read_back(figure, log="")
    heads, engines, found = {}, {}, {}
    for group in panel.axes.iter():
        name = group.get("id", "")
        words = [e for e in group.iter() if e.tag.endswith("}text")]
        if words and "-xtick_" in name:
            heads[place_of(words[0])[0]] = words[0].text
        elif words and "-ytick_" in name:
            engines[place_of(words[0])[1]] = words[0].text
    for name in panel.ids("mark.*"):
        (text,) = (e for e in panel.named(f"-{name}").iter() if e.tag.endswith("}text"))
        x, y = place_of(text)
        key = engines[min(engines, key=lambda at: abs(at - y))], heads[min(heads, key=lambda at: abs(at - x))]
        found[key] = text.text
    return found


def test_cells_say_the_ratio_in_the_row_of_the_engine_and_the_column_of_the_precision(
    matrix: Figure, read_back: Read
) -> None:
    expected = {
        (engine, precision): f"{300 / ms:.{1 if ms < 30 and 300 / ms >= 10 else 2}f}×"
        for (engine, precision), ms in MS.items()
    }
    assert cells(matrix, read_back) == expected


def test_columns_go_from_fine_to_coarse(matrix: Figure, read_back: Read) -> None:
    panel = read_back(matrix, log="")
    heads = [t for t in panel.axes.itertext() if t in {p for _, p in MS}]
    assert list(dict.fromkeys(heads)) == ["fp32", "bf16", "int8+fp16", "int8", "auto"]
    assert "times faster than torch_eager fp32 image" in panel.axes.itertext()


def test_many_precisions_get_wider_panels(many_runs: Callable[..., list[dict[str, Any]]]) -> None:
    few = many_runs(100, 2)
    many = [
        {**run, "id": f"{run['id']}{kind}", "case": {**run["case"], "statistics": kind}}
        for run in few
        for kind in ("frozen", "thumbnail", "image")
    ]
    shares = []
    for runs in (few, many):
        with settings():
            points: Any = series.speed_up([row_from_run(run) for run in runs]).points.to_dict("records")
            canvas = speed_up(points)
        assert len(canvas.axes) == 5
        shares.append(canvas.axes[0].get_position().width)
        for axes in canvas.axes:
            across = axes.get_position().width * canvas.get_size_inches()[0]
            assert across / len(axes.get_xticks()) > 0.5  # inches: a head of eleven letters
    assert shares[0] < 0.3
    assert shares[1] > 0.7


@pytest.fixture(scope="module")
def stacked(make_run: Make) -> tuple[list[dict[str, Any]], Figure]:
    runs = [
        make_run(name, case={"variant": name}, cold_start={"build_s": b, "load_s": load, "first_ms": f})
        for name, b, load, f in (("a", 4.0, 0.5, 300.0), ("b", 9.0, 1.5, 2500.0), ("c", None, 2.0, 100.0))
    ]
    return runs, drawn(runs, "cold-start")


def test_cold_start_bars_are_as_long_as_their_seconds(
    stacked: tuple[list[dict[str, Any]], Figure], read_back: Read
) -> None:
    runs, figure = stacked
    panel = read_back(figure, log="")
    order = [point["id"] for point in figure.series.points.to_dict("records")]
    assert order == ["b", "a", "c"]
    for place, name in enumerate(order):
        (cold,) = (run["cold_start"] for run in runs if run["id"] == name)
        start = 0.0
        for part, seconds in (
            ("build_s", cold["build_s"]),
            ("load_s", cold["load_s"]),
            ("first_s", cold["first_ms"] / 1e3),
        ):
            ends = [at for at, _ in panel.points(f"bar-{part}-{place}")[0]]
            assert min(ends) == pytest.approx(start, abs=0.03)
            assert max(ends) - min(ends) == pytest.approx(seconds or 0, abs=0.03)
            start += seconds or 0


def layer(name: str, ms: float, kind: str = "Conv") -> dict[str, Any]:
    return {"layer": name, "kind": kind, "ms": ms}


def test_layers_are_as_long_as_their_time_the_longest_first(make_run: Make, read_back: Read) -> None:
    layers = [layer("relu", 1.0, "Relu"), layer("first", 4.0), layer("conv2", 3.0)]
    panel = read_back(drawn([make_run(layers=layers)], "layers"), log="")
    ends = [max(at for at, _ in panel.points(f"bar-0-{place}")[0]) for place in range(3)]
    assert ends == [pytest.approx(ms, rel=0.01) for ms in (4.0, 3.0, 1.0)]
    text = [words.strip() for words in panel.axes.itertext() if words.strip()]
    assert text.index("first (Conv)") < text.index("conv2") < text.index("relu")
    assert {"50%", "38%", "12%"} <= set(text)


def test_a_share_that_rounds_to_nothing_is_not_called_nothing(make_run: Make, read_back: Read) -> None:
    panel = read_back(drawn([make_run(layers=[layer("conv1", 999.0), layer("relu1", 1.0)])], "layers"), log="")
    assert {"100%", "<1%"} <= {text.strip() for text in panel.axes.itertext()}


def test_panels_of_layers_are_told_apart_by_their_titles(make_run: Make, read_back: Read) -> None:
    runs = [make_run(str(n), case={"variant": f"onnxruntime{n}"}, layers=[layer("conv", 1.0)]) for n in range(5)]
    figure = drawn(runs, "layers")
    text = {" ".join(read_back(figure, n, log="").axes.itertext()) for n in range(5)}
    assert all(any(f"can24 720p onnxruntime{n} fp32 image" in each for each in text) for n in range(5))


def test_layers_are_drawn_only_where_a_run_was_profiled(make_run: Make) -> None:
    assert draw([row_from_run(make_run())], ["layers"]) == {}
    points = drawn([make_run(layers=[layer("conv1", 3.5), layer("<b>", 1)])], "layers").series.points
    assert list(zip(points["layer"], points["ms"], strict=True)) == [("conv1", 3.5), ("<b>", 1.0)]

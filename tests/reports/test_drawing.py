"""Looks differ by more than colour, and names of any length fit."""

from __future__ import annotations

from itertools import product

import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reports.drawing import (
    COLOURS,
    MARKERS,
    Look,
    fineness,
    grouped,
    hint,
    log_ticks,
    missing,
    panels,
    plain,
    settings,
    short,
)


def point(engine: str, precision: str = "fp32", statistics: str = "image", panel: str = "p") -> dict[str, str]:
    return {"engine": engine, "precision": precision, "statistics": statistics, "panel": panel}


def test_no_two_choices_look_alike_even_without_colour() -> None:
    precisions = ("fp32", "tf32", "bf16", "fp16", "int8", "fp8", "own", "other")
    points = [point(f"e{i}", p, s) for i, p, s in product(range(10), precisions, ("image", "frozen", ""))]
    look = Look(points)
    looks = {str({k: v for k, v in look.of(p).items() if k != "color"}) for p in points}
    assert len(looks) == len(points)


def test_engines_beyond_the_colours_still_differ() -> None:
    points = [point(f"e{i:02}") for i in range(30)]
    look = Look(points)
    assert len({(look.of(p)["color"], look.of(p)["marker"]) for p in points}) == 30
    assert len(COLOURS) == 7
    assert len(MARKERS) == 10


def test_panels_are_one_two_or_three_in_a_row() -> None:
    widths = {}
    for count in (1, 2, 4, 5, 12):
        canvas, parts = panels([point("e", panel=f"p{i}") for i in range(count)])
        widths[count] = canvas.get_size_inches()[0]
        assert len(parts) == count
        boxes = [axes.get_position() for axes, _ in parts]
        assert all(0 < b.x0 < b.x1 < 1 and 0 < b.y0 < b.y1 < 1 for b in boxes)
    assert widths[4] == widths[1] < widths[5]


def test_settings_end_with_their_block() -> None:
    before = rcParams["text.parse_math"]
    with settings():
        assert rcParams["text.parse_math"] is False
    assert rcParams["text.parse_math"] == before


def test_words_and_numbers() -> None:
    assert short("abcdef", 4) == "abc…"
    assert [plain(v) for v in (0.001, 20, 1500, 1e-5, 2e7)] == ["0.001", "20", "1500", "1e-05", "2e+07"]
    assert [missing(v) for v in (None, float("nan"), 0.0)] == [True, True, False]
    assert list(grouped([point("a"), point("b"), point("a")], "engine")) == [("a",), ("b",)]


def test_device_and_tile_have_a_look_and_a_name_of_their_own() -> None:
    points = [point("e") | {"device": d, "tile": t} for d in ("cpu", "cuda:0") for t in ("off", "512")]
    look = Look(points)
    assert look.engines == ["e", "e cuda:0", "e cuda:0 tile 512", "e tile 512"]
    assert len({look.of(p)["marker"] for p in points}) == 4


def test_the_filling_may_say_the_precision() -> None:
    points = [point("e", p) for p in ("fp32", "bf16", "fp16", "int8", "fp8", "tf32", "int8+fp16", "auto")]
    look = Look(points, filled="precision")
    assert len({(look.of(p)["fillstyle"], look.of(p)["markersize"]) for p in points}) == 8
    assert look.of(points[0])["markersize"] == 5.5
    assert look.of(points[0], 9)["markersize"] == 9


def test_precisions_go_from_fine_to_coarse_and_then_by_name() -> None:
    names = ["own", "auto", "int8", "int8+fp16", "bf16", "fp32", "fp8", "fp16", "tf32", "mine"]
    expected = ["fp32", "tf32", "bf16", "fp16", "int8+fp16", "int8", "fp8", "auto", "mine", "own"]
    assert sorted(names, key=fineness) == expected


def test_the_legend_takes_the_room_that_its_lines_need() -> None:
    points = [point("e")]
    few, many = Look(points).key(), Look([point(f"engine with a long name {i}") for i in range(20)]).key()
    heights = {}
    for name, key in (("none", ()), ("few", few), ("many", many)):
        canvas, ((axes, _),) = panels(points, key)
        wide, high = canvas.get_size_inches()
        box = axes.get_position()
        heights[name] = high
        assert box.height * high == pytest.approx(3.1 - 0.92)
        for legend in canvas.legends:
            area = legend.get_window_extent(FigureCanvasAgg(canvas).get_renderer()).transformed(
                canvas.dpi_scale_trans.inverted()
            )
            assert area.y1 < box.y0 * high - 0.45  # the labels of the x axis stand between
            assert box.y0 * high - area.y1 < 0.8
            assert area.x0 >= 0
            assert area.x1 <= wide
    assert heights["none"] < heights["few"] < heights["none"] + 0.4 < heights["many"]


def test_fewer_columns_make_wider_panels() -> None:
    points = [point("e", panel=f"p{i}") for i in range(6)]
    sides = [panels(points, columns=columns)[1][0][0].get_position().width for columns in (3, 2, 1)]
    assert sides[0] < sides[1] < sides[2]


def test_a_hint_names_the_case_and_its_figures() -> None:
    given = point("e", "int8", "frozen") | {"model": "m", "resolution": "720p", "device": "cuda:0"}
    assert hint(given, "3 ms", "40 dB") == "m 720p e cuda:0 int8 frozen: 3 ms, 40 dB"


def test_a_logarithmic_axis_has_three_numbers_at_least() -> None:
    for low in (0.0012, 0.9, 1.04, 33.0, 950.0, 4e5):
        for span in (1.02, 1.1, 1.5, 2.0, 3.0, 8.0, 60.0, 1e4, 1e12):
            ticks = log_ticks(low, low * span)
            assert 3 <= len(ticks) <= 9, (low, span, ticks)
            assert all(low <= tick <= low * span for tick in ticks)
            assert len(set(map(plain, ticks))) == len(ticks)

"""The drawing: an SVG with a panel for each case and the steps that were found."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("sqlalchemy")

from bench.history import Point
from bench.rules import FIGURES
from bench.trend import draw


def points(title: str, values: list[float]) -> list[Point]:
    return [Point(str(k), f"{k:040x}", title, "m", v, (v * 0.99, v * 1.01)) for k, v in enumerate(values)]


def test_a_panel_for_each_case_and_its_steps(tmp_path: Path) -> None:
    noise = [0.01 * (k % 3) for k in range(8)]
    series = {
        ("a", "m"): points("can24 720p $x$", [10 + x for x in noise] + [12 + x for x in noise]),
        ("b", "m"): points("can32 720p", [10 + x for x in noise]),
    }
    path = tmp_path / "latency.svg"
    found = draw(series, FIGURES[0], path)
    assert {title: [(s.place, round(s.change, 2)) for s in steps] for title, steps in found.items()} == {
        "can24 720p $x$": [(8, 0.2)], "can32 720p": [],
    }  # fmt: skip
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    assert path.read_text().count('id="axes_') == 2


def test_values_that_are_not_positive_have_no_steps(tmp_path: Path) -> None:
    found = draw({("a", "m"): points("x", [0.0] * 5 + [3.0] * 5)}, FIGURES[4], tmp_path / "x.svg")
    assert found == {"x": []}

"""Marks as drawn, read back from the SVG by its own axes, against the runs themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from reports.plots import Figure, draw
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]
Read = Callable[..., Any]
PRECISIONS = {
    "fp32": (200.0, None), "bf16": (110.0, 58.0), "fp16": (100.0, 71.0), "int8": (60.0, 41.0),
    "int8+fp16": (70.0, 47.5), "fp8": (75.0, 44.0), "auto": (65.0, 46.0),
}  # fmt: skip
"""Latency in ms and PSNR in dB; None: identical."""


def drawn(runs: list[dict[str, Any]], name: str) -> Figure:
    return draw([row_from_run(run) for run in runs], [name])[name]


def close(found: list[tuple[float, ...]], expected: list[tuple[float, ...]]) -> None:
    assert len(found) == len(expected)
    assert found == [pytest.approx(each, rel=0.01) for each in sorted(expected)]


@pytest.fixture(scope="module")
def precise(make_run: Make) -> list[dict[str, Any]]:
    """One engine in seven precisions."""
    found = []
    for name, (ms, psnr) in PRECISIONS.items():
        run = make_run(name, ms, case={"precision": name, "statistics": "frozen"})
        run["quality"]["vs_reference"] |= {"psnr_db": psnr, "identical": psnr is None}
        found.append(run)
    return found


def test_quality_marks_are_latency_and_psnr(make_run: Make, read_back: Read) -> None:
    figures = {"a": (10.0, 41.5), "b": (30.0, 60.25), "c": (200.0, 80.0), "d": (50.0, 45.0)}
    runs = []
    for name, (ms, psnr) in figures.items():
        run = make_run(name, ms, case={"variant": name})
        run["quality"]["vs_reference"]["psnr_db"] = psnr
        runs.append(run)
    close(read_back(drawn(runs, "quality"), log="x").marks(), list(figures.values()))


def test_the_front_goes_through_exactly_the_rows_that_none_beats(
    precise: list[dict[str, Any]], read_back: Read
) -> None:
    panel = read_back(drawn(precise, "quality"), log="x")
    ((*corners,),) = panel.points("front-0")
    judged = {name: (ms, psnr or 1e9) for name, (ms, psnr) in PRECISIONS.items()}
    best = [
        name for name, (ms, psnr) in judged.items() if not any(m < ms and p > psnr for m, p in judged.values())
    ]  # fmt: skip
    assert sorted(best) == ["auto", "fp16", "fp32", "int8", "int8+fp16"]
    top = max(y for _, y in panel.marks())  # where identical stands
    places = sorted((PRECISIONS[name][0], PRECISIONS[name][1] or top) for name in best)
    stairs = [places[0]]
    for (_, below), (x, y) in pairwise(places):  # level to the next latency, then up: no row between is as good
        stairs += [(x, below), (x, y)]
    assert corners == [pytest.approx(corner, rel=0.01) for corner in stairs]


def test_seven_precisions_have_seven_looks_and_the_front_their_names(
    precise: list[dict[str, Any]], read_back: Read
) -> None:
    panel = read_back(drawn(precise, "quality"), log="x")
    text = list(panel.axes.itertext())
    for name in ("int8 frozen", "auto frozen", "int8+fp16 frozen", "fp16 frozen", "fp32 frozen"):
        assert name in text
    assert "bf16 frozen" not in text
    assert [title.split(": ")[0] for title in panel.titles() if "fp8" in title][:1] == [
        "can24 720p onnxruntime fp8 frozen"
    ]
    legend = "".join(panel.named("-legend_1").itertext())
    assert all(name in legend for name in PRECISIONS)


def test_identical_outputs_stand_at_infinity(precise: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(precise, "quality"), log="x")
    highest = max(panel.marks(), key=lambda mark: mark[1])
    assert highest[0] == pytest.approx(200, rel=0.01)
    assert highest[1] > 71
    assert "∞" in panel.axes.itertext()


WORKS = {"a": (10.0, 4e6, 20.0), "b": (300.0, 5e8, 900.0), "c": (1.0, 2e9, 80.0)}


def test_roofline_marks_are_work_over_bytes_and_over_time(make_run: Make, read_back: Read) -> None:
    runs = [
        make_run(name, ms, case={"variant": name}, work={"gmac": gmac, "min_bytes": low_bytes})
        for name, (gmac, low_bytes, ms) in WORKS.items()
    ]
    panel = read_back(drawn(runs, "roofline"))
    close(panel.marks(), [(2e9 * g / b, 2 * g / (ms / 1000)) for g, b, ms in WORKS.values()])


def test_the_roof_rises_with_the_copy_and_ends_at_the_peak(make_run: Make, read_back: Read) -> None:
    panel = read_back(drawn([make_run()], "roofline"))
    for precision, peak in (("fp32", 900.0), ("bf16", 1500.0)):
        ((low, knee, high),) = panel.points(f"limit-0-peak_{precision}_gflop_s-0")
        assert low[1] / low[0] == pytest.approx(30, rel=0.02)
        assert knee == (pytest.approx(peak / 30, rel=0.02), pytest.approx(peak, rel=0.02))
        assert high[1] == pytest.approx(peak, rel=0.02)


def test_limits_are_drawn_per_set_of_peaks(make_run: Make) -> None:
    b = make_run("b", case={"variant": "y"})
    b["work"]["peaks"]["fp32_gflop_s"] = 700.0
    svg = drawn([make_run("a"), b], "roofline").svg
    assert "fp32 900 GFLOP/s" in svg
    assert "fp32 700 GFLOP/s, the least" in svg
    assert svg.count("limit-0-peak_fp32_gflop_s-") == 2
    assert svg.count("limit-0-peak_bf16_gflop_s-") == 1


def test_networks_and_sizes_are_named_on_the_roof_where_there_is_room(
    make_run: Make, many_runs: Callable[..., list[dict[str, Any]]], read_back: Read
) -> None:
    runs = [
        make_run("a", 50.0),
        make_run("b", 90.0, case={"model": "espcn", "resolution": "1080p"}, work={"gmac": 2.0}),
    ]
    text = list(read_back(drawn(runs, "roofline")).axes.itertext())
    assert "can24 720p" in text
    assert "espcn 1080p" in text
    crowd = read_back(drawn(many_runs(300, 2), "roofline"))
    assert len(set(crowd.titles())) == 300
    boxes = [e for e in crowd.axes.itertext() if re.fullmatch(r"net\d+( \d+p)?", e)]
    assert len(boxes) >= 3
    assert len(boxes) == len(set(boxes))


def test_every_mark_of_the_roof_says_its_case(make_run: Make, read_back: Read) -> None:
    (title,) = read_back(drawn([make_run()], "roofline")).titles()
    assert title == "can24 720p onnxruntime fp32 image: 680 GFLOP/s, 50% of its limit"


def test_quality_to_the_original_has_the_operators_own_time(make_run: Make, read_back: Read) -> None:
    runs = [make_run("a", 100.0), make_run("b", 50.0, case={"variant": "x"})]
    for run, db in zip(runs, (33.0, 31.5), strict=True):
        run["quality"] |= {"vs_original": {"psnr_db": db, "baseline": {"name": "the input", "psnr_db": 30.0}}}
        run["original"] = {"task": "l0", "operator": "l0", "p50_ms": 800.0}
    figure = draw([row_from_run(run) for run in runs], ["original"])["original"]
    panel = read_back(figure, log="x")
    assert panel.marks() == [
        (pytest.approx(50, rel=0.01), pytest.approx(31.5, abs=0.05)),
        (pytest.approx(100, rel=0.01), pytest.approx(33.0, abs=0.05)),
    ]
    assert panel.points("limit-0-0")[0][0][0] == pytest.approx(800, rel=0.02)
    assert panel.points("limit-0-baseline-0")[0][0][1] == pytest.approx(30, abs=0.05)
    assert {"l0", "the input"} <= {text.strip() for text in panel.axes.itertext()}
    assert draw([row_from_run(make_run())], ["original"]) == {}

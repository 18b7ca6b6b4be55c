"""Lines as drawn, read back from the SVG by its own axes, against the runs themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from reports.plots import Figure, draw
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]
Read = Callable[..., Any]
NEAR = 0.01
"""The ticks of sizes are rounded to three digits."""
SIZES = {"320p": (568, 320), "720p": (1280, 720), "1080p": (1920, 1080)}


def drawn(runs: list[dict[str, Any]], name: str) -> Figure:
    return draw([row_from_run(run) for run in runs], [name])[name]


def close(found: list[tuple[float, ...]], expected: list[tuple[float, ...]]) -> None:
    assert len(found) == len(expected)
    assert found == [pytest.approx(each, rel=NEAR) for each in sorted(expected)]


def megapixels(run: dict[str, Any]) -> float:
    return math.prod(run["case"]["output_shape"][2:]) / 1e6


@pytest.fixture(scope="module")
def runs(make_run: Make) -> list[dict[str, Any]]:
    """Two engines at three sizes; intervals that are lopsided, missing, and reach below a tenth of the median."""
    found = []
    intervals = {"320p": (18.0, 27.0), "720p": None, "1080p": (3.0, 700.0)}
    for engine, slow in (("onnxruntime", 1.0), ("openvino", 3.0)):
        for (size, (w, h)), ms in zip(SIZES.items(), (20.0, 90.0, 250.0), strict=True):
            case = {"variant": engine, "resolution": size, "output_shape": [1, 3, h, w]}
            run = make_run(f"{engine}{size}", ms * slow, case=case)
            run["latency_ms"]["ci95"] = [bound * slow for bound in intervals[size]] if intervals[size] else None  # type: ignore[union-attr]
            run["memory"]["host_peak_mib"] = 200.0 + ms * slow
            found.append(run)
    return found


def test_latency_marks_are_the_runs_medians(runs: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(runs, "latency"))
    close(panel.marks(), [(megapixels(run), run["latency_ms"]["p50"]) for run in runs])


def test_latency_bars_are_the_runs_intervals_cut_at_a_tenth(runs: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(runs, "latency"))
    expected = []
    for run in runs:
        if run["latency_ms"]["ci95"]:
            low, high = run["latency_ms"]["ci95"]
            expected.append((megapixels(run), max(low, run["latency_ms"]["p50"] / 10), high))
    close(panel.bars(), expected)
    assert (1920 * 1080 / 1e6, 25.0, 700.0) in [pytest.approx(each, rel=NEAR) for each in panel.bars()]


def test_the_lines_of_24_30_and_60_frames_are_at_their_times(runs: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(runs, "latency"))
    for fps in (24, 30, 60):
        ((left, right),) = panel.points(f"fps-0-{fps}")
        assert left[1] == right[1] == pytest.approx(1000 / fps, rel=NEAR)
    assert panel.ids("fps.*") == ["fps-0-24", "fps-0-30", "fps-0-60"]


def test_a_line_joins_the_sizes_of_one_choice_only(runs: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(runs, "latency"))
    assert panel.ids("mark.*") == ["mark-0-0", "mark-0-1"]
    for name, slow in (("mark-0-0", 1.0), ("mark-0-1", 3.0)):
        line = panel.points(name)[-1] if len(panel.points(name)[0]) < 3 else panel.points(name)[0]
        assert [y for _, y in line[:3]] == [pytest.approx(ms * slow, rel=NEAR) for ms in (20, 90, 250)]


def test_marks_say_their_case_median_and_interval(runs: list[dict[str, Any]], read_back: Read) -> None:
    titles = read_back(drawn(runs, "latency")).titles()
    assert titles[0] == "can24 320p onnxruntime fp32 image: 20 ms, 95 % 18 to 27 ms"
    assert titles[1] == "can24 720p onnxruntime fp32 image: 90 ms, no interval"
    assert len(titles) == len(runs)


def test_memory_marks_are_the_runs_peaks_below_the_machines_limit(runs: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(runs, "memory"))
    close(panel.marks(), [(megapixels(run), run["memory"]["host_peak_mib"]) for run in runs])
    assert panel.ids("limit.*") == ["limit-0-host-0"]
    ((left, right),) = panel.points("limit-0-host-0")
    assert left[1] == right[1] == pytest.approx(16000, rel=NEAR)
    assert "machine has 16000 MiB" in "".join(panel.axes.itertext())


@pytest.fixture(scope="module")
def on_gpus(make_run: Make) -> list[dict[str, Any]]:
    gpus = [{"name": "A", "memory_mib": 24000, "driver": "1"}, {"name": "B", "memory_mib": 143000, "driver": "1"}]
    found = []
    for device, peak in (("cuda:0", 800.0), ("cuda:1", 900.0)):
        case = {"device": device}
        found.append(make_run(device, machine={"gpus": gpus}, case=case, memory={"device_peak_mib": peak}))
    return found


def test_each_device_has_its_own_limit(on_gpus: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(on_gpus, "memory"))
    assert panel.ids("limit.*") == ["limit-0-device-0", "limit-0-device-1", "limit-0-host-0"]
    levels = [panel.points(name)[0][0][1] for name in panel.ids("limit.*")]
    assert levels == [pytest.approx(limit, rel=NEAR) for limit in (24000, 143000, 16000)]
    heights = sorted(y for _, y in panel.marks())
    assert heights == [pytest.approx(peak, rel=NEAR) for peak in (500, 800, 900)]  # the process's twice in one place
    assert "device has 24000 MiB" in "".join(panel.axes.itertext())


def test_where_nobody_knows_the_limit_no_line_is_drawn(make_run: Make, read_back: Read) -> None:
    panel = read_back(drawn([make_run(machine={"memory_mib": None})], "memory"))
    assert panel.ids("limit.*") == []


def test_memory_of_a_device_differs_in_width_and_is_in_the_legend(
    on_gpus: list[dict[str, Any]], make_run: Make
) -> None:
    svg = drawn(on_gpus, "memory").svg
    assert "memory of the process" in svg
    assert "memory of the device" in svg
    assert 'stroke-width="4.5"' in svg
    assert "memory of the process" not in drawn([make_run()], "memory").svg


HISTORY = [(100.0, (98.0, 103.0)), (101.0, (99.0, 104.0)), (70.0, (69.0, 72.0)), (70.5, (70.0, 71.0)), (90.0, (88, 93))]


@pytest.fixture(scope="module")
def past(make_run: Make) -> list[dict[str, Any]]:
    """Five commits, in no order: two steps."""
    found = []
    for i, (ms, interval) in enumerate(HISTORY):
        run = make_run(str(i), ms, commit=f"{i}" * 10, time=f"2026-01-0{i + 1}T00:00:00+00:00")
        run["latency_ms"]["ci95"] = list(interval)
        found.append(run)
    return [found[i] for i in (3, 0, 4, 1, 2)]


def test_history_marks_are_the_medians_in_order_of_time(past: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(past, "history"), log="")
    assert [y for _, y in panel.marks()] == [pytest.approx(ms, rel=NEAR) for ms, _ in HISTORY]


def test_history_bars_are_the_intervals_of_their_marks(past: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(past, "history"), log="")
    assert [x for x, _, _ in panel.bars()] == [pytest.approx(x, abs=0.01) for x, _ in panel.marks()]
    assert [bar[1:] for bar in panel.bars()] == [pytest.approx(interval, rel=NEAR) for _, interval in HISTORY]


def test_steps_stand_between_the_commit_before_and_the_one_that_changed(
    past: list[dict[str, Any]], read_back: Read
) -> None:
    panel = read_back(drawn(past, "history"), log="")
    marks = [x for x, _ in panel.marks()]
    steps = [panel.points(name)[0][0][0] for name in panel.ids("step.*")]
    assert steps == [pytest.approx((marks[i - 1] + marks[i]) / 2, abs=0.01) for i in (2, 4)]
    words = [text for text in panel.axes.itertext() if text in ("faster", "slower")]
    assert words == ["faster", "slower"]


def test_commits_stand_below_their_marks(past: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(past, "history"), log="")
    assert [t.rpartition(", ")[2] for t in panel.titles()] == [f"{i}" * 8 for i in range(5)]
    text = "".join(panel.axes.itertext())
    assert [text.index(f"{i}" * 8) for i in range(5)] == sorted(text.index(f"{i}" * 8) for i in range(5))


def test_the_whole_history_stands_within_its_frame(past: list[dict[str, Any]], read_back: Read) -> None:
    panel = read_back(drawn(past, "history"), log="")
    spines = [y for name in ("patch_2", "patch_3") for path in panel.points(name) for _, y in path]
    lowest, highest = min(spines), max(spines)
    assert lowest == pytest.approx(0, abs=0.1)
    assert highest > max(high for _, _, high in panel.bars())

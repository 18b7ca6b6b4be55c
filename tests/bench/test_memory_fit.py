"""Predicted against measured peaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import memory_fit
from bench.memory_fit import Point, Probe, measured, probed, room_from_probe
from bench.memory_plan import Footprint, footprint
from tests.export.reach_graphs import TILEABLE, saved

ALLOWED = 0.15


def test_a_probe_is_a_line_through_two_measurements_and_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = saved(TILEABLE["dilated"](), tmp_path)
    asked: list[Point] = []

    def measure(point: Point) -> float:
        asked.append(point)
        return 80 + 300 * point.size[0] * point.size[1] / 2**20

    monkeypatch.setattr(memory_fit, "measured", measure)
    probe = probed("onnxruntime", graph.onnx_path, "fp32", tmp_path)
    assert (probe.fixed_mib, probe.bytes_per_px) == (pytest.approx(80), pytest.approx(300))
    assert probed("onnxruntime", graph.onnx_path, "fp32", tmp_path) == probe
    assert len(asked) == 2
    probed("openvino", graph.onnx_path, "fp32", tmp_path)
    assert len(asked) == 4


def test_a_tile_costs_its_copies_and_not_the_whole_pictures_activations() -> None:
    foot = Footprint("onnxruntime", 0.0, 256.0, 12.0, 12.0)
    room = room_from_probe(Probe(80.0, 280.0), foot)
    assert room.peak_mib((1024, 1024), (1024, 1024)) == pytest.approx(80 + 280)
    assert room.peak_mib((1024, 1024), (512, 1024)) == pytest.approx(80 + 24 + (24 + 256) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["dilated", "strided", "channels_last"])
def test_predictions_are_within_15_percent(engine: str, name: str, tmp_path: Path) -> None:
    """The networks of the registry: the command in docs/tiling.md."""
    graph = saved(TILEABLE[name](), tmp_path)
    foot = footprint(graph.onnx_path, engine, (3, 3), 1)
    probe = probed(engine, graph.onnx_path, "fp32", tmp_path)
    for size, window in (((1080, 1920), None), ((1080, 1920), (540, 1920)), ((720, 1280), (720, 400))):
        peak = measured(Point(engine, graph.onnx_path, size, window))
        assert probe.peak_mib(foot, size, window) == pytest.approx(peak, rel=ALLOWED)

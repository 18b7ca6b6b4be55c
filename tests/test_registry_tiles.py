"""Every network of the registry, tiled against whole: equal, or refused with the reason."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import engines
import reference_models
from engines.engine import Options
from engines.thumbnail import load_network
from engines.tile_choice import Tiling
from engines.tiling import least_window
from export.branch import split_branch
from export.network import Network
from export.receptive_field import receptive_field
from export.to_onnx import ExportRequest, export_network
from reference_models.colour import tensor_from_picture
from reference_models.pictures import calibration_pictures, fit_picture

TOLERANCE = 1e-5
TRIALS = 50
CHOICES = [
    (name, statistics)
    for name in reference_models.names()
    for statistics in (reference_models.get(name).statistics or (None,))
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "registry-tiles"


def network(name: str, statistics: str | None, cache: Path) -> Network:
    cache.mkdir(exist_ok=True)
    pictures = [picture for _, picture in calibration_pictures()] if statistics == "frozen" else ()
    return export_network(ExportRequest(reference_models.get(name), None, statistics, pictures), cache)


def trial(name: str, statistics: str | None, cache: Path, size: tuple[int, int], seed: int) -> str:
    """Compares one picture; `equal` or the reason why there are no tiles.

    Args:
        size: width and height of what comes out, at most.
    """
    spec, draw = reference_models.get(name), random.Random(seed)
    made = network(name, statistics, cache)
    reach = receptive_field(made.main.onnx_path)
    if reach.height is None or reach.width is None:
        return reach.refusal
    width, height = (max(draw.randrange(side * 3 // 4, side + 1) // spec.enlarges, 1) for side in size)
    shape = spec.tensor_size(width, height)
    pictures = calibration_pictures()
    picture = fit_picture(pictures[seed % len(pictures)][1], width, height)
    x = tensor_from_picture(picture, spec)
    assert x.shape[2:] == shape
    least = [least_window(side, n) for side, n in zip((reach.height, reach.width), shape, strict=True)]
    window = [draw.randint(a + (b - a) // 3, b) for a, b in zip(least, shape, strict=True)]
    graph, branch = made.main, None
    if reach.branch:
        branch, graph = split_branch(made.main, reach, cache)
    tiling = Tiling(f"{window[1]}x{window[0]}", graph, reach, None, branch)
    engine, options = engines.get("onnxruntime"), Options(threads=2, settings={})
    with load_network(engine, made, options) as session:
        expected = session.run({"x": x})["y"]
    with load_network(engine, made, options, tiling) as session:
        found = session.run({"x": x})["y"]
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    worst = float(np.abs(found - expected).max())
    assert worst <= bound, f"{name} {statistics}: {worst} at {shape} in {tiling.word}"
    return "equal"


@pytest.mark.parametrize(("name", "statistics"), [("espcn_x3", None), ("can32_plain_conv", "thumbnail")])
def test_a_few_networks_at_a_small_size(name: str, statistics: str | None, cache: Path) -> None:
    assert trial(name, statistics, cache, (240, 144), 1) == "equal"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(TRIALS))
def test_every_network_at_720p(number: int, cache: Path) -> None:
    name, statistics = CHOICES[number % len(CHOICES)]
    outcome = trial(name, statistics, cache, (1280, 720), number)
    print(f"{number} {name} {statistics}: {outcome}")
    if statistics == "image":
        assert "whole picture" in outcome
    else:
        assert outcome == "equal"

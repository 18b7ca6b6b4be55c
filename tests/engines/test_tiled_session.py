"""Tiles give what the whole picture gives; memory that runs out leads to smaller ones; the output exists once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engines
from engines.engine import Options, Session
from engines.tile_choice import Room, Tiling
from engines.tiled_session import TiledSession
from engines.tiling import least_window
from export.branch import split_branch
from export.network import Graph
from export.receptive_field import receptive_field
from tests.export.reach_graphs import PLANES, TILEABLE, saved

TOLERANCE = 1e-5
BF16_STEP = 2.0**-8


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).random((1, PLANES, height, width), np.float32)


def output(graph: Graph, x: np.ndarray, engine: str = "onnxruntime") -> np.ndarray:
    with engines.get(engine).load(graph, Options()) as session:
        return session.run({"x": x})["y"]


def tiled(graph: Graph, word: str, folder: Path, engine: str = "onnxruntime", room: Room | None = None) -> TiledSession:
    reach, loaded = receptive_field(graph.onnx_path), engines.get(engine)
    if not reach.branch:
        return TiledSession(loaded.load(graph, Options()), Tiling(word, graph, reach, room))
    branch, rest = split_branch(graph, reach, folder)
    inner = loaded.load(rest, Options(refittable=reach.branch))
    return TiledSession(inner, Tiling(word, rest, reach, room, branch), loaded.load(branch, Options()))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", list(TILEABLE))
def test_tiles_equal_the_whole_picture(name: str, engine: str, tmp_path: Path) -> None:
    if engines.get(engine).missing():
        pytest.skip(str(engines.get(engine).missing()))
    graph = saved(TILEABLE[name](), tmp_path, 2 if name == "shuffled" else 1)
    reach = receptive_field(graph.onnx_path)
    assert reach.height is not None
    assert reach.width is not None
    draw, aligned = random.Random(name), (reach.height.align, reach.width.align)
    for _ in range(4):
        height, width = (align * draw.randrange(40 // align, 90 // align) for align in aligned)
        least = [least_window(side, n) for side, n in ((reach.height, height), (reach.width, width))]
        word = f"{draw.randint(least[1] + 1, width)}x{draw.randint(least[0] + 1, height)}"
        x = picture(height, width)
        expected = output(graph, x, engine)
        with tiled(graph, word, tmp_path, engine) as session:
            found = session.run({"x": x})["y"]
        assert found.shape == expected.shape, (height, width, word)
        assert np.abs(found - expected).max() <= TOLERANCE, (height, width, word)


def test_bf16_tiles_equal_within_its_rounding(tmp_path: Path) -> None:
    """Kernels may be chosen by the size of what they get, and add up in another order."""
    engine = engines.get("openvino")
    if reason := engine.missing() or engine.precision_missing("cpu", "bf16"):
        pytest.skip(reason)
    graph = saved(TILEABLE["dilated"](), tmp_path)
    x, options = picture(80, 90), Options(precision="bf16")
    with engine.load(graph, options) as session:
        expected = session.run({"x": x})["y"]
    tiling = Tiling("48x40", graph, receptive_field(graph.onnx_path), None)
    with TiledSession(engine.load(graph, options), tiling) as session:
        found = session.run({"x": x})["y"]
    assert np.abs(found - expected).max() <= BF16_STEP * np.abs(expected).max()


def test_sizes_that_a_stride_does_not_divide_are_right_or_refused(tmp_path: Path) -> None:
    graph = saved(TILEABLE["sized_like_the_skip"](), tmp_path)
    x = picture(61, 47)
    from reference_models.errors import UserError

    with tiled(graph, "24", tmp_path) as session:
        try:
            found = session.run({"x": x})["y"]
        except UserError as error:
            assert "no tiling of this network at 47x61" in str(error)  # noqa: PT017
        else:
            assert np.abs(found - output(graph, x)).max() <= TOLERANCE


def test_the_output_is_handed_over_and_made_anew(tmp_path: Path) -> None:
    graph = saved(TILEABLE["dilated"](), tmp_path)
    with tiled(graph, "24", tmp_path) as session:
        session.bind(picture(60, 50))
        session.enqueue()
        first = session.read()
        kept = first.copy()
        session.bind(picture(60, 50) * 0)
        session.enqueue()
        second = session.read()
    assert not np.shares_memory(first, second)
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_the_contract_says_the_tiles(tmp_path: Path) -> None:
    graph = saved(TILEABLE["dilated"](), tmp_path)
    with tiled(graph, "24x60", tmp_path) as session:
        session.bind(picture(60, 50))
        assert session.contract["tile"] == "3 of 24x60, copied in and out"
        session.bind(picture(20, 20))
        assert session.contract["tile"] == "off"


class Short(Session):
    """A session that runs out of memory above so many pixels."""

    def __init__(self, inner: Session, most: int) -> None:
        self.inner, self.most, self.graph, self._bound = inner, most, inner.graph, None
        self.contract = inner.contract

    prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def _bind(self, x: np.ndarray) -> None:
        self.pixels = x.shape[2] * x.shape[3]
        self.inner.bind(x)

    def _enqueue(self) -> None:
        if self.pixels > self.most:
            raise RuntimeError("Error in execution: std::bad_alloc")
        self.inner.enqueue()

    def _synchronize(self) -> None: ...
    def _read(self) -> np.ndarray:
        return self.inner.read()

    def _refit(self, tensors: Any) -> None: ...
    def _close(self) -> None:
        self.inner.close()


def test_tiles_that_run_out_of_memory_are_followed_by_smaller_ones_and_told(tmp_path: Path) -> None:
    graph = saved(TILEABLE["dilated"](), tmp_path)
    reach, x = receptive_field(graph.onnx_path), picture(80, 90)
    short = Short(engines.get("onnxruntime").load(graph, Options()), most=1500)
    with TiledSession(short, Tiling("auto", graph, reach, None)) as session:
        found = session.run({"x": x})["y"]
        session.prepare()
        assert short.prepared == 1
        assert session.too_large[0] == "off"
        assert session.tiles is not None
        assert session.tiles.window[0] * session.tiles.window[1] <= 1500
    assert np.abs(found - output(graph, x)).max() <= TOLERANCE
    again = Short(engines.get("onnxruntime").load(graph, Options()), most=1500)
    with TiledSession(again, Tiling("60", graph, reach, None)) as session:
        session.bind(x)
        with pytest.raises(RuntimeError, match="bad_alloc"):  # a size that was asked for is not changed
            session.enqueue()


def test_auto_takes_what_fits_into_the_room(tmp_path: Path) -> None:
    graph = saved(TILEABLE["dilated"](), tmp_path)
    room = Room(1.0, "the test", 0.0, 24.0, 320.0, 0.0)
    with tiled(graph, "auto", tmp_path, room=room) as session:
        session.bind(picture(80, 90))
        assert session.tiles is not None
        assert session.tiles.count > 1
        assert room.peak_mib(session.tiles.size, session.tiles.window) <= 1.0

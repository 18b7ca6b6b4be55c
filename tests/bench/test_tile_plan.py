"""The worker's side of tiles: what a network needs, what a run is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engines
from bench.tile_plan import plan_tiles, tiling_facts, tiling_of
from engines.engine import Options
from engines.thumbnail import load_network
from export.network import Network
from reference_models.errors import UserError
from tests.export.reach_graphs import TILEABLE, graph_model, saved


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path / "cache"))


def job(name: str, folder: Path, tile: str = "32", engine: str = "onnxruntime") -> dict[str, str]:
    network = Network("net", None, saved(TILEABLE[name](), folder), None, (), 18)
    return {"network": network.to_json(), "engine": engine, "precision": "fp32", "device": "cpu", "tile": tile}


@pytest.mark.parametrize("name", ["dilated", "with_branch"])
def test_a_session_of_what_was_planned_tells_its_tiles(name: str, tmp_path: Path) -> None:
    asked = job(name, tmp_path)
    tiling = tiling_of({"tiling": plan_tiles(asked), "memory_mib": 4096.0})
    assert tiling is not None
    assert tiling.room is not None
    assert (tiling.room.limit_mib, tiling.room.source) == (4096.0, "--memory")
    network = Network.from_json(asked["network"])
    with load_network(engines.get("onnxruntime"), network, Options(), tiling) as session:
        session.bind(np.zeros((1, 3, 60, 80), np.float32))
        facts = tiling_facts(session)
    assert facts["count"] == facts["rows"] * facts["columns"] > 1
    assert facts["window"] == [32, 32]
    assert facts["memory"]["limit"] == "--memory"
    assert facts["branch"] == (["h"] if name == "with_branch" else [])


def test_no_tiling_is_whole_pictures() -> None:
    assert tiling_of({"tiling": None}) is None
    assert tiling_of({}) is None


def test_a_branch_needs_an_engine_that_runs_the_graph(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"torch_eager.*cannot compute apart"):
        plan_tiles(job("with_branch", tmp_path, engine="torch_eager"))


def test_a_network_of_the_whole_picture_is_refused_with_the_node(tmp_path: Path) -> None:
    from onnx import helper

    pool = helper.make_node("GlobalAveragePool", ["x"], ["g"], name="pool")
    model = graph_model([pool, helper.make_node("CumSum", ["x", "n"], ["c"], name="running"),
                         helper.make_node("Add", ["c", "g"], ["y"])], {"n": np.array(2, np.int64)})  # fmt: skip
    network = Network("net", None, saved(model, tmp_path), None, (), 18)
    asked = {"network": network.to_json(), "engine": "onnxruntime", "precision": "fp32", "device": "cpu", "tile": "32"}
    with pytest.raises(UserError, match=r"running.*CumSum"):
        plan_tiles(asked)


def test_the_kernel_enforces_a_limit_until_it_is_lifted() -> None:
    code = (
        "from bench.tile_plan import lift_limit, limit_this_process\n"
        "limit_this_process(400.0)\n"
        "try: bytearray(500 << 20)\n"
        "except MemoryError: print('refused')\n"
        "lift_limit(400.0)\n"
        "print(len(bytearray(500 << 20)) >> 20)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["refused", "500"]

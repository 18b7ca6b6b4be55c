"""What a network needs to be tiled, found in a worker of its own: importing onnx and reading weights would count in the
peak memory of the process that is measured."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import engines
from bench.memory_plan import Footprint, footprint
from engines.engine import Session
from engines.thumbnail import ThumbnailSession
from engines.tile_choice import Room, Tiling, not_tileable
from engines.tiled_session import TiledSession
from export.branch import split_branch
from export.cache import cache_folder
from export.network import Network
from export.receptive_field import Reach, receptive_field
from reference_models.errors import UserError


def plan_tiles(job: Mapping[str, Any]) -> dict[str, Any]:
    """The network's Tiling as data, still without the room that there is.

    Args:
        job: network (JSON), engine, precision, device, tile (the word).

    Raises:
        UserError: the network cannot be tiled exactly, or not on this engine.
    """
    network = Network.from_json(job["network"])
    reach = receptive_field(network.main.onnx_path)
    if reach.height is None:
        raise not_tileable(reach)
    graph, branch = network.main, None
    if reach.branch:
        branch, graph = _split(network, reach, job["engine"])
    beside = 0.0
    if branch:
        beside = Path(branch.onnx_path).stat().st_size / 2**20 * 2
    foot = _footprint(graph.onnx_path, job["engine"], network, beside)
    room = _room(foot, graph.onnx_path, job) if foot else None
    return Tiling(job["tile"], graph, reach, room, branch).to_dict()


def _room(foot: Footprint, path: str, job: Mapping[str, Any]) -> Room:
    """Probed on two small pictures where tiles are to be chosen, else from the graph alone."""
    if job["tile"] == "auto" and job["device"] == "cpu" and not engines.get(job["engine"]).runs_modules:
        from bench.memory_fit import probed, room_from_probe

        with contextlib.suppress(subprocess.CalledProcessError):  # it says why itself, when it runs
            return room_from_probe(probed(job["engine"], path, job["precision"], cache_folder()), foot)
    return room_of(foot)


def _split(network: Network, reach: Reach, engine: str) -> tuple[Any, Any]:
    if engines.get(engine).runs_modules:
        raise UserError(
            f"`--tile`: engine `{engine}` runs the torch module, whose branch over the whole picture "
            f"({reach.branch_nodes[0]}) it cannot compute apart",
            "an engine that runs the graph, such as onnxruntime",
            "Choose one, or --tile off",
        )
    folder = cache_folder() / "branches" / network.main.sha256[:32]
    folder.mkdir(parents=True, exist_ok=True)
    return split_branch(network.main, reach, folder)


def _footprint(path: str, engine: str, network: Network, beside_mib: float) -> Footprint | None:
    main = network.main
    try:
        return footprint(path, engine, (main.planes, main.output_planes), main.upscale, beside_mib)
    except ValueError:  # a graph whose sizes nobody can infer still runs; it cannot be planned
        return None


def room_of(foot: Footprint) -> Room:
    """What a session of this footprint takes, without a limit."""
    habits = foot.habits
    ends = foot.in_bytes_per_px + foot.out_bytes_per_px
    fixed = habits.base_mib + habits.weights * foot.weights_mib + foot.beside_mib
    return Room(float("inf"), "", fixed, ends, habits.activations * foot.live_bytes_per_px, habits.error)


def with_free_memory(tiling: Tiling, limit_mib: float | None) -> Tiling:
    """The same, with the room that this process has now."""
    from bench.memory_plan import free_mib

    if tiling.room is None:
        return tiling
    free, source = free_mib(limit_mib)
    return replace(tiling, room=replace(tiling.room, limit_mib=free, source=source))


def tiling_of(job: Mapping[str, Any]) -> Tiling | None:
    """What a worker's job says of tiles, with the memory that is free now; None where it says nothing.

    Args:
        job: tiling (from `plan_tiles`), and memory_mib of its own or of its case.
    """
    if not job.get("tiling"):
        return None
    granted = job.get("memory_mib") or job.get("case", {}).get("memory_mib")
    return with_free_memory(Tiling.from_dict(job["tiling"]), granted)


def measured_tiling(session: Session, memory_mib: float | None) -> dict[str, Any]:
    """`tiling_facts` of what was measured; the limit is lifted: judging it needs more, and is no part of it."""
    lift_limit(memory_mib)
    return tiling_facts(session)


def tiling_facts(session: Session) -> dict[str, Any]:
    """For the run: where the tiles of the bound picture lie, what memory was predicted, which tiles were too large."""
    tiled = tiled_session(session)
    assert tiled.tiles is not None
    tiling, tiles = tiled.tiling, tiled.tiles
    room = tiling.room
    predicted = room and round(room.peak_mib(tiles.size, tiles.window), 1)
    memory: dict[str, Any] = {"host_predicted_mib": predicted, "predicted_error": room and room.error}
    if room:
        memory |= {"limit_mib": round(room.limit_mib, 1), "limit": room.source}
    facts = tiles.to_dict(tiling.reach_for(tiles.size))
    return {**facts, "asked": tiling.word, "branch": list(tiling.reach.branch), "too_large": tiled.too_large,
            "memory": memory}  # fmt: skip


def tiled_session(session: Session) -> TiledSession:
    """The tiled session in a session of a whole network."""
    inner = session.tiled if isinstance(session, ThumbnailSession) else session
    assert isinstance(inner, TiledSession)
    return inner


def seam_of(job: Mapping[str, Any], session: Session) -> dict[str, Any] | None:
    """The seam metric of the first picture, against FP32 torch with the same statistics; None: one tile."""
    import numpy as np

    from bench.seam import seam

    tiles = tiled_session(session).tiles
    assert tiles is not None
    if tiles.count == 1:
        return None
    session.bind(np.load(job["inputs"][0]))
    session.enqueue()
    session.synchronize()
    height, width = job["output_shape"][2:]
    expected = np.load(job["parities"][0], mmap_mode="r")[:, :, :height, :width]
    return seam(session.read()[:, :, :height, :width], expected, *tiles.seams())


def limit_this_process(limit_mib: float | None) -> None:
    """Makes the kernel refuse more than this: RLIMIT_DATA, which counts what can be written to."""
    if limit_mib is None:
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit_mib * 2**20), hard))


def lift_limit(limit_mib: float | None) -> None:
    """Takes the limit away: what was limited has been measured, and judging it needs float64 pictures."""
    if limit_mib is None:
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))

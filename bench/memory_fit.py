"""`python -m bench.memory_fit ENGINE[:PRECISION] NETWORK.onnx[,…] SIZE[/WINDOW] …`: peaks measured and predicted.

Every measurement is a process of its own that loads, binds and runs twice; sizes as 1280x720, or 1280x720/640x720 for
tiles. Networks with trained weights and those without need the same memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import engines
from bench.machine import usable_cores
from bench.memory_plan import HABITS, MIB, UNKNOWN, Footprint, footprint
from engines.tile_choice import Room
from export.cache import cache_folder
from export.network import Graph, file_sha256
from reference_models.pictures import replace_file


@dataclass(frozen=True)
class Point:
    """One measurement."""

    engine: str
    path: str
    size: tuple[int, int]
    window: tuple[int, int] | None
    precision: str = "fp32"


def measure_here(job: Mapping[str, Any]) -> dict[str, Any]:
    """Peak of this process, MiB, after two inferences. It loads what a worker loads, and no more.

    Args:
        job: graph, engine, precision, size, tiling (or None): plain data.
    """
    from bench.worker import peak_host_mib
    from engines.engine import Options
    from engines.tile_choice import Tiling
    from engines.tiled_session import TiledSession

    graph = Graph(**job["graph"])
    session = engines.get(job["engine"]).load(graph, Options(precision=job["precision"], threads=usable_cores()))
    if job["tiling"]:
        session = TiledSession(session, Tiling.from_dict(job["tiling"]))
    session.bind(np.random.default_rng(0).random((1, graph.planes, *job["size"]), np.float32))
    for _ in range(2):
        session.enqueue()
        session.synchronize()
    return {"peak_mib": peak_host_mib()}


def measured(point: Point) -> float:
    """Peak of a fresh process that runs this point, MiB.

    Raises:
        subprocess.CalledProcessError: it does not run.
    """
    from engines.tile_choice import Tiling
    from export.receptive_field import receptive_field

    engine = engines.get(point.engine)
    graph = Graph(point.path, "", "", "", {}, "onnx", *_ends(point.path))
    job: dict[str, Any] = {"graph": vars(graph), "size": point.size, "engine": point.engine}
    tiling = None
    if point.window:
        tiling = Tiling(_word(point.window), graph, receptive_field(point.path, point.size), None).to_dict()
    job |= {"precision": point.precision, "tiling": tiling}
    environment = {**os.environ, **engine.environment(engine.complete_settings({}))}
    command = [sys.executable, "-m", "bench.memory_fit", "--one"]
    text = json.dumps(job)
    told = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=True)
    return float(json.loads(told.stdout.splitlines()[-1])["peak_mib"])


def _ends(path: str) -> tuple[int, int, int]:
    """Planes in and out, and the factor of enlargement."""
    import onnx

    from export.work import sized_shapes

    model = onnx.load(path, load_external_data=False)
    planes = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    out = sized_shapes(model, (1, planes, 512, 512))[model.graph.output[0].name]
    return planes, out[1], out[2] // 512


def fitted(points: list[tuple[Footprint, Point, float]]) -> tuple[float, float, float]:
    """Least squares of base, copies of weights and activations, in relative errors; none of them below zero."""
    from scipy.optimize import nnls

    rows, wanted = [], []
    for foot, point, peak in points:
        area = (point.window or point.size)[0] * (point.window or point.size)[1]
        ends = foot.in_bytes_per_px + foot.out_bytes_per_px
        known = ends * (point.size[0] * point.size[1] + (area if point.window else 0)) / MIB
        rows.append(np.array([1, foot.weights_mib, foot.live_bytes_per_px * area / MIB]) / peak)
        wanted.append((peak - known) / peak)
    base, weights, activations = nnls(np.array(rows), np.array(wanted))[0]
    return float(base), float(weights), float(activations)


def _word(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _size(word: str) -> tuple[int, int]:
    width, height = word.split("x")
    return int(height), int(width)


@dataclass(frozen=True)
class Probe:
    """What two small pictures told of one graph on one engine."""

    fixed_mib: float
    bytes_per_px: float
    """Of the input, all told."""

    def peak_mib(self, foot: Footprint, size: tuple[int, int], window: tuple[int, int] | None) -> float:
        return room_from_probe(self, foot).peak_mib(size, window or size)


def room_from_probe(probe: Probe, foot: Footprint) -> Room:
    """What a session takes by what was probed, without a limit."""
    ends = foot.in_bytes_per_px + foot.out_bytes_per_px
    live = max(probe.bytes_per_px - ends, 0.0)
    return Room(float("inf"), "", probe.fixed_mib + foot.beside_mib, ends, live, PROBED_ERROR)


def probed(engine: str, path: str, precision: str, cache: Path) -> Probe:
    """Two processes that run small pictures; remembered by the graph's content, the engine and its version.

    Raises:
        subprocess.CalledProcessError: the engine does not run the graph.
    """
    words = (file_sha256(path), engine, engines.get(engine).version(), precision, str(PROBE_SIZES))
    target = cache / "memory" / f"{hashlib.sha256(' '.join(words).encode()).hexdigest()[:32]}.json"
    if target.exists():
        return Probe(**json.loads(target.read_text()))
    peaks = [measured(Point(engine, path, size, None, precision)) for size in PROBE_SIZES]
    areas = [height * width for height, width in PROBE_SIZES]
    slope = (peaks[1] - peaks[0]) / (areas[1] - areas[0])
    probe = Probe(peaks[0] - slope * areas[0], slope * MIB)
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, memoryview(json.dumps(asdict(probe)).encode()))  # another process reads all of it or none
    return probe


def main(words: list[str]) -> None:
    if words == ["--one"]:
        print(json.dumps(measure_here(json.load(sys.stdin))))
        return
    engine, _, precision = words[0].partition(":")
    found = []
    for path in words[1].split(","):
        planes, out_planes, upscale = _ends(path)
        foot = footprint(path, engine, (planes, out_planes), upscale)
        probe = probed(engine, path, precision or "fp32", cache_folder())
        for word in words[2:]:
            size, _, window = word.partition("/")
            point = Point(engine, path, _size(size), _size(window) if window else None, precision or "fp32")
            peak = measured(point)
            said = probe.peak_mib(foot, point.size, point.window), foot.peak_mib(point.size, point.window)
            errors = ", ".join(
                f"{name} {mib:.0f} ({mib / peak - 1:+.0%})" for name, mib in zip(_WAYS, said, strict=True)
            )
            print(f"{Path(path).stem} {words[0]} {word}: {peak:.0f} MiB; {errors}", flush=True)
            found.append((foot, point, peak))
    print("habits now:", HABITS.get(engine, UNKNOWN))
    print("fitted: base {:.0f} MiB, weights {:.2f}, activations {:.2f}".format(*fitted(found)))


PROBE_SIZES = ((256, 320), (512, 640))
"""Height and width: multiples of what networks divide by; the second is large against what does not grow."""
PROBED_ERROR = 0.1
_WAYS = ("probed", "from the graph alone")


if __name__ == "__main__":
    main(sys.argv[1:])

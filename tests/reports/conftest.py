"""Runs as `bench run` stores them, made up: one with every key, and as many as one likes of all kinds."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

if TYPE_CHECKING:
    from reports.plots import Figure

Run = dict[str, Any]
SIZES = {"320p": (568, 320), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080), "1440p": (2560, 1440)}
PRECISIONS = {"fp32": 1.0, "bf16": 0.55, "fp16": 0.5, "int8": 0.35}
ENGINES = {"torch_eager": 2.2, "onnxruntime": 1.3, "openvino": 1.0, "torch_compile": 1.6, "onnxruntime:graph=off": 1.9}


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """`make_run(id, ms=…, case={…}, **keys)`: an ok run; dictionaries are merged into it, everything else replaces."""
    return _make_run


@pytest.fixture(scope="session")
def many_runs() -> Callable[..., list[Run]]:
    """`many_runs(count)`: networks x sizes x engines x precisions, with 30 samples in each of three processes."""
    return _many_runs


@pytest.fixture
def write_runs(tmp_path: Path) -> Callable[..., Path]:
    """`write_runs(runs, name="runs.json")` → the file."""

    def write(runs: list[Run], name: str = "runs.json") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schema": 1, "runs": runs}))
        return path

    return write


def _make_run(identifier: str = "a", ms: float = 100.0, spread: float = 0.01, **changes: Any) -> Run:
    medians = [ms * (1 + share * spread) for share in (-1, -0.5, 0, 0.5, 1)]  # five: fewer carry no verdict
    run: Run = {
        "id": identifier,
        "time": "2026-03-01T10:00:00+00:00",
        "machine": {"cpu": "Some CPU", "architecture": "x86_64", "cores_usable": 8, "cpu_quota": None,
                    "memory_mib": 16000, "gpus": []},
        "versions": {"fullres": "0.1.0", "torch": "2.13.0"},
        "commit": "0123456789abcdef",
        "argv": ["bench", "run"],
        "pictures": ["coffee.png"],
        "case": {"model": "can24", "weights": "l0.safetensors", "weights_sha256": "ab" * 32, "trained": True,
                 "resolution": "720p", "input_shape": [1, 3, 720, 1280], "output_shape": [1, 3, 720, 1280],
                 "engine": "onnxruntime", "variant": "onnxruntime", "engine_version": "onnxruntime 1", "device": "cpu",
                 "precision": "fp32", "statistics": "image", "tile": "off", "settings": {}},
        "status": "ok",
        "reason": None,
        "contract": {"pre_post_processing": "excluded", "threads": 8, "in_flight": 1, "batch": 1, "transfers": "none"},
        "latency_ms": {"samples": [[m, m, m] for m in medians], "warmup": [[ms * 2]] * 5, "steady": [True] * 5,
                       "p50": ms, "p90": None, "p95": None, "p99": None,
                       "ci95": [ms * (1 - 2 * spread), ms * (1 + 2 * spread)], "ci95_of": "median over processes",
                       "enqueue": None},
        "throughput_fps": 1000 / ms,
        "cold_start": {"build_s": 4.0, "load_s": 0.5, "first_ms": ms * 3},
        "memory": {"host_peak_mib": 500.0, "device_peak_mib": None, "plan_mib": None, "weights_mib": 0.3},
        "quality": {"vs_reference": {"psnr_db": 60.0, "ssim": 0.999, "max_abs": 0.01, "identical": False,
                                     "finite": True},
                    "vs_original": None, "convention": {"channels": "all planes", "range": 1.0}},
        "work": {"gmac": 34.0, "min_bytes": 22_300_000, "mpixel_per_s": 9.2, "limit_share": 0.5,
                 "limit": "matrix product", "gflop_per_s": 2 * 34.0 / ms * 1e3,
                 "peaks": {"fp32_gflop_s": 900.0, "fp32_by": "numpy", "bf16_gflop_s": 1500.0, "copy_gb_s": 30.0,
                           "threads": 8, "method": "best of 7"}},
        "energy": None,
        "unstable": [],
        "interrupted": False,
    }  # fmt: skip
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(run.get(key), dict):
            run[key] = {**run[key], **value}
        else:
            run[key] = value
    return copy.deepcopy(run)


def _many_runs(count: int, samples: int = 30) -> list[Run]:
    rng = np.random.default_rng(7)
    runs: list[Run] = []
    models = range(1, 2 + count // (len(SIZES) * len(ENGINES) * len(PRECISIONS)))
    for model, (size, (w, h)), (engine, slow), (precision, gain) in product(
        models, SIZES.items(), ENGINES.items(), PRECISIONS.items()
    ):
        ms = 60 * w * h / 1e6 * slow * gain * (1 + 0.2 * model)
        processes = [ms * rng.normal(1, 0.02) * rng.normal(1, 0.005, samples) for _ in range(3)]
        case = {"model": f"net{model}", "resolution": size, "engine": engine.partition(":")[0], "variant": engine,
                "precision": precision, "input_shape": [1, 3, h, w], "output_shape": [1, 3, h, w]}  # fmt: skip
        run = _make_run(f"{len(runs):032x}", ms, case=case)
        run["latency_ms"]["samples"] = [[float(v) for v in p] for p in processes]
        run["memory"]["host_peak_mib"] = 150 + 200 * w * h / 1e6 * slow
        psnr = {"fp32": 118.0, "bf16": 58.0, "fp16": 71.0, "int8": 41.0}[precision] + rng.normal()
        run["quality"]["vs_reference"]["psnr_db"] = float(psnr)
        runs.append(run)
    return runs[:count]


# What was drawn, read back


Element = ElementTree.Element
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="session")
def read_back() -> Callable[..., Drawn]:
    """`read_back(figure, panel=0, log="xy")`: a panel of a figure in the units of its axes; see Drawn."""
    return Drawn


class Drawn:
    """A panel as its SVG has it: pixels become values by the two outermost numbers on each axis, nothing else.

    Args:
        log: axes that are logarithmic. Where an axis has no two numbers its values stay pixels.
    """

    def __init__(self, figure: Figure, panel: int = 0, log: str = "xy") -> None:
        self.root = ElementTree.fromstring(figure.svg)
        self.axes = self.named(f"-axes_{panel + 1}")
        self.x = self._scale("x", "x" in log)
        self.y = self._scale("y", "y" in log)
        self.panel = panel

    def named(self, end: str) -> Element:
        """The one element whose id ends so."""
        (found,) = (e for e in self.root.iter() if e.get("id", "").endswith(end))
        return found

    def ids(self, pattern: str) -> list[str]:
        """What follows the figure's name in the ids of groups in this panel, sorted; by a pattern of the whole."""
        found = (re.sub("^figure-[a-z-]*?-(?=mark|interval|limit|step|fps|front|bar)", "", e.get("id", ""))
                 for e in self.axes.iter())  # fmt: skip
        return sorted(name for name in found if re.fullmatch(pattern, name))

    def marks(self, pattern: str = "mark-.*") -> list[tuple[float, float]]:
        """x and y of all marks, sorted; the two halves of one count once."""
        found = {
            (self.x(float(use.get("x", "nan"))), self.y(float(use.get("y", "nan"))))
            for name in self.ids(pattern)
            for use in self.named(f"-{name}").iter(f"{SVG}use")
        }
        return sorted(found)

    def titles(self) -> list[str]:
        """What stands on the marks, in the order drawn."""
        return [title.text or "" for title in self.axes.iter(f"{SVG}title")]

    def bars(self, pattern: str = "interval-.*") -> list[tuple[float, float, float]]:
        """x, low and high of all vertical bars, sorted."""
        paths = (path for name in self.ids(pattern) for path in self.points(name))
        return sorted((path[0][0], path[0][1], path[-1][1]) for path in paths)

    def points(self, name: str) -> list[list[tuple[float, float]]]:
        """The corners of every path in a group."""
        found = []
        for path in self.named(f"-{name}").iter(f"{SVG}path"):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            found.append([(self.x(x), self.y(y)) for x, y in pairs])
        return found

    def _scale(self, letter: str, log: bool) -> Callable[[float], float]:
        ticks = []
        for tick in self.axes.iter():
            if re.search(rf"-{letter}tick_\d+$", tick.get("id", "")):
                words = " ".join("".join(text.itertext()) for text in tick.iter(f"{SVG}text")).split()
                use = next(tick.iter(f"{SVG}use"), tick)
                if words and re.fullmatch(r"[−-]?[\d.]+(e[+-]?\d+)?", words[-1]):
                    number = float(words[-1].replace("−", "-"))
                    ticks.append((float(use.get(letter, "nan")), math.log(number) if log else number))
        if len(ticks) < 2:
            return float
        (p, a), (q, b) = min(ticks), max(ticks)
        return lambda pixel: (math.exp if log else float)(a + (b - a) * (pixel - p) / (q - p))

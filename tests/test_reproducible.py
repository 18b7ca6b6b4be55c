"""The first promise of all: the same measurement again gives the same number, or says why it cannot be trusted."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import store

PAUSE_S = 30


def measure(runs: Path) -> dict[str, Any]:
    words = ["run", "--model", "can24", "--res", "320p", "--engine", "onnxruntime", "--json", str(runs)]
    subprocess.run([sys.executable, "-m", "bench.cli", *words], check=True, capture_output=True, cwd=runs.parent)
    return store.load(runs)[-1]


@pytest.mark.slow
def test_two_runs_half_a_minute_apart_agree_or_say_why_not(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path_factory.mktemp("cache")))
    first = measure(tmp_path / "runs.json")
    time.sleep(PAUSE_S)
    second = measure(tmp_path / "runs.json")
    assert first["id"] != second["id"]
    intervals = [run["latency_ms"]["ci95"] for run in (first, second)]
    for run, (low, high) in zip((first, second), intervals, strict=True):
        assert run["status"] == "ok"
        assert len(run["latency_ms"]["samples"]) >= 3
        assert 0 < low <= run["latency_ms"]["p50"] <= high
    (low, high), (other_low, other_high) = intervals
    overlap = max(low, other_low) <= min(high, other_high)
    reasons = [reason for run in (first, second) for reason in run["unstable"]]
    assert overlap or any(len(reason.split()) > 3 for reason in reasons), (intervals, reasons)

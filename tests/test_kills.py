"""Killed at random moments: what was finished before is there, no file is unreadable, and a resumed sweep completes.

Real commands and real workers of the null engine; a kill costs a second or two. The database server's kills are in
test_history.py, those of a cluster's workers in test_cluster.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import store

KILLS = 50
CASES = 30
SIZES = ",".join(f"{16 + 2 * k}x16" for k in range(CASES))

BARE = """
import sys
import bench.run
from bench.cli import main

real = bench.run.run_job

def run_job(job, *rest):
    if job["job"] == "peaks":
        return {"failed": "left out by the test"}
    return real(job, *rest)

bench.run.run_job = run_job
bench.run._machine_rate = lambda: 100.0
sys.exit(main())
"""
"""`bench` without what measures the machine."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache folder for all of them, so that the network is exported once."""
    folder = tmp_path_factory.getbasetemp() / "kills-cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("FULLRES_CACHE", str(folder))


def sweep(folder: Path, sizes: str = SIZES) -> list[str]:
    words = ["sweep", "--model", "can:depth=3:width=8", "--engine", "null", "--budget", "0.02", "--processes", "1"]
    return [sys.executable, "-c", BARE, *words, "--res", sizes, "--output", str(folder)]


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(sweep(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """The run as the system kills it: at once, its worker a moment later, as its terminal or container ends."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def finished(folder: Path) -> dict[str, dict[str, Any]]:
    """Runs that ended well, by id; the file must be readable at any moment."""
    path = folder / "runs.json"
    runs = store.load(path) if path.exists() else []
    return {run["id"]: run for run in runs if run["status"] == "ok"}


def assert_kept(before: dict[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """Nothing that was there before is lost or changed."""
    now = finished(folder)
    lost = [identifier for identifier, run in before.items() if now.get(identifier) != run]
    assert lost == []
    return now


def assert_completes(folder: Path) -> None:
    """The same command, left alone, measures the rest, and leaves no lock and no temporary file."""
    done = subprocess.run(sweep(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ok = finished(folder).values()
    assert sorted(run["case"]["resolution"] for run in ok) == sorted(SIZES.split(","))
    assert sorted(path.name for path in folder.iterdir()) == ["pictures", "runs.json"]
    json.loads((folder / "runs.json").read_text())


def until_it_measures(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Waits until the run has stored more than `count` runs, or has ended."""
    while process.poll() is None and len(finished(folder)) <= count:
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments(tmp_path: Path) -> None:
    """One sweep, started again after every kill; each gets as far as chance lets it. When it is complete its folder is
    put aside and another begins, so that every kill hits a run under way."""
    lot, kills, folder, number = random.Random(7), 0, tmp_path / "0", 0
    held: dict[str, dict[str, Any]] = {}
    while kills < KILLS:
        process = start(folder)
        if lot.random() < 0.7:  # while it measures; the others while it begins
            until_it_measures(process, folder, len(held))
        time.sleep(lot.uniform(0, 0.7))
        ended = process.poll() is not None
        kill_tree(process)
        kills += not ended
        held = assert_kept(held, folder)
        if ended:
            number, held, folder = number + 1, {}, tmp_path / f"{number + 1}"
    for each in range(number + 1):
        if (tmp_path / f"{each}").exists():
            assert_completes(tmp_path / f"{each}")


@pytest.mark.slow
def test_workers_that_are_killed_at_random_moments(tmp_path: Path) -> None:
    """The run goes on, the case of the killed worker says so, and is measured when the sweep is started again."""
    lot, kills, folder, number = random.Random(8), 0, tmp_path / "0", 0
    while kills < KILLS:
        held = finished(folder)
        process = start(folder)
        while process.poll() is None and kills < KILLS:
            time.sleep(lot.uniform(0, 0.4))
            kills += kill_worker(process)
        code = process.wait()
        now = assert_kept(held, folder)
        runs = store.load(folder / "runs.json") if (folder / "runs.json").exists() else []
        failed = [run for run in runs if run["status"] == "failed"]
        assert all("killed (SIGKILL)" in run["reason"] for run in failed), failed
        assert code in {0, 5}
        if len(now) == CASES:
            number, folder = number + 1, tmp_path / f"{number + 1}"
    if (folder / "runs.json").exists():
        assert_completes(folder)


def kill_worker(process: subprocess.Popen[bytes]) -> bool:
    """Kills the worker that is alive now; False where there is none."""
    try:
        workers = psutil.Process(process.pid).children()
        for worker in workers:
            if "bench.worker" in worker.cmdline():
                os.kill(worker.pid, signal.SIGKILL)
                return True
    except (psutil.NoSuchProcess, psutil.ZombieProcess, ProcessLookupError):
        pass
    return False


def test_one_kill_of_a_run(tmp_path: Path) -> None:
    """The same once, in the ordinary tests: what was stored before the kill is there, and the sweep completes."""
    process = start(tmp_path)
    until_it_measures(process, tmp_path, 1)
    held = finished(tmp_path)
    kill_tree(process)
    assert len(assert_kept(held, tmp_path)) >= 2
    sizes = SIZES.split(",")[:4]
    done = subprocess.run(sweep(tmp_path, ",".join(sizes)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(sizes) <= {run["case"]["resolution"] for run in assert_kept(held, tmp_path).values()}

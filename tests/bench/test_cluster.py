"""Sweeps on a local Ray cluster of two workers, of which one is killed in mid-sweep."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import bench.cluster
from bench import store
from bench.case import Request, expand
from bench.cluster import Silent, check_cluster, slot, sweep_on_cluster
from bench.run import NotStored, Plan
from reference_models.errors import UserError
from reference_models.pictures import default_picture

KILLS = 50
CASES = 6


def plan(folder: Path, cases: int = CASES, delay_ms: float = 5) -> Plan:
    sizes = [f"{16 + 2 * k}x16" for k in range(cases)]
    found, _ = expand(Request(["can:depth=3:width=8"], sizes, [f"null:delay_ms={delay_ms}"], device="cpu", threads=1))
    folder.mkdir(parents=True, exist_ok=True)
    picture = ("x", default_picture())
    return Plan(found, [], [picture], folder / "runs.json", None, None, [], 0.2, 1, [])


def test_a_case_takes_its_threads_or_a_gpu(tmp_path: Path) -> None:
    from dataclasses import replace

    case = plan(tmp_path).cases[0]
    assert slot(replace(case, threads=3)) == {"num_cpus": 3}
    assert slot(replace(case, device="cuda:0"))["num_gpus"] == 1


def test_without_ray_it_is_refused_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.cluster, "package_missing", lambda *_: "Python package `ray` is not installed")
    with pytest.raises(UserError, match=r"fullres\[ray\]"):
        check_cluster()


def test_what_no_machine_could_hold_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes 1 CPUs, and the cluster has 0"):
        bench.cluster._refuse_too_small(plan(tmp_path).cases, {"memory": 1.0})


def test_a_machine_of_the_cluster_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Silent().stage("x") as show:
        show(1.0, "y")
    assert capsys.readouterr() == ("", "")


class OneMachine:
    """What sweep_on_cluster uses of Ray, without processes."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self.runs = iter(runs)

    def remote(self, **_: Any) -> Any:
        def decorated(_: Any) -> Any:
            return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: next(self.runs)["id"]))

        return decorated

    is_initialized = staticmethod(lambda: True)
    cluster_resources = staticmethod(lambda: {"CPU": 2.0})
    put = staticmethod(lambda value: value)
    wait = staticmethod(lambda waiting: ([waiting[0]], waiting[1:]))

    def get(self, identifier: str) -> dict[str, Any]:
        return {"id": identifier, "status": "ok", "reason": None, "case": {"resolution": "16x16"}}


def test_runs_that_cannot_be_stored_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", OneMachine([{"id": "a"}, {"id": "b"}]))  # type: ignore[arg-type]
    asked = plan(tmp_path, cases=2)
    asked.store_path.mkdir()
    told: list[str] = []
    with pytest.raises(NotStored) as failure:
        sweep_on_cluster(asked, "auto", told.append)
    assert [run["id"] for run in failure.value.runs] == ["a", "b"]
    assert len(told) == 2


# A real cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster on this machine with two workers, each a slot of one CPU."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    root = str(Path(bench.cluster.__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, command_cache: Path) -> None:
    """Tasks that measure nothing of the machine."""
    import bench.run

    def measure_case(plan: Plan, pictures: Any) -> Any:
        import bench.run

        real = bench.run.run_job
        if not hasattr(bench.run, "is_bare"):
            bench.run.is_bare = True  # type: ignore[attr-defined]
            bench.run.run_job = lambda job, *rest: {"failed": "x"} if job["job"] == "peaks" else real(job, *rest)
            bench.run._machine_rate = lambda: 100.0
        return original(plan, pictures)

    original = bench.cluster.measure_case
    monkeypatch.setattr(bench.cluster, "measure_case", measure_case)


def assert_whole(done: Plan, runs: list[dict[str, Any]]) -> None:
    assert [run["status"] for run in runs] == ["ok"] * len(done.cases), [run["reason"] for run in runs]
    stored = store.load(done.store_path)
    assert sorted(run["case"]["resolution"] for run in stored) == sorted(case.resolution for case in done.cases)


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "cluster")
def test_a_sweep_of_which_a_worker_is_killed_completes(tmp_path: Path) -> None:
    wanted, killed = plan(tmp_path, delay_ms=50), list[bool]()

    def told(line: str) -> None:
        if True not in killed:
            killed.append(kill_a_worker(random.Random(1)))

    assert_whole(wanted, sweep_on_cluster(wanted, "auto", told))
    assert True in killed


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "cluster")
def test_workers_that_are_killed_at_random_moments_cost_no_case(tmp_path: Path) -> None:
    """Ray's worker processes, one after the other, while sweeps go on; every case that was done stays in the store."""
    lot, kills, number = random.Random(9), 0, 0
    while kills < KILLS:
        wanted, ids = plan(tmp_path / f"{number}", cases=20), set[str]()
        number += 1

        def told(line: str, wanted: Plan = wanted, ids: set[str] = ids) -> None:
            nonlocal kills
            now = {run["id"] for run in store.load(wanted.store_path)}
            assert ids <= now
            ids |= now
            time.sleep(lot.uniform(0, 0.5))
            kills += kill_a_worker(lot)

        sweep_on_cluster(wanted, "auto", told)
        stored = {run["case"]["resolution"]: run["status"] for run in store.load(wanted.store_path)}
        assert len(stored) == len(wanted.cases)
        if "failed" in stored.values():  # killed more often than Ray tries: measured again, as the command does
            left = [case for case in wanted.cases if stored[case.resolution] == "failed"]
            from dataclasses import replace

            again = sweep_on_cluster(replace(wanted, cases=left), "auto")
            assert {run["status"] for run in again} == {"ok"}


def kill_a_worker(lot: random.Random) -> bool:
    """Kills one of Ray's processes that runs a task."""
    busy = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::measure_case" in " ".join(process.cmdline()):
                busy.append(process)
        except psutil.Error:
            continue
    if busy:
        os.kill(lot.choice(busy).pid, signal.SIGKILL)
    return bool(busy)

"""`bench ab`: from words to an exit code; workers are made up, but for the slow tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]
AB = ("ab", "--model", "can24", "--res", "64x48")


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The jobs that were started; a case takes its `delay_ms`, ± 0.2 %, twenty times."""
    import bench.run

    started: list[dict[str, Any]] = []
    rng = np.random.default_rng(2)

    def run_job(job: Any, environment: Any = None, *_: Any) -> dict[str, Any]:
        started.append({**job, "environment": dict(environment or {})})
        if job["job"] == "peaks":
            return {"failed": "left out by the test"}
        if job["job"] == "prepare":
            network = {"main": {}, "thumbnail": None}
            files = dict.fromkeys(job["inputs"], "")
            return {"networks": {str(s): network for s in job["statistics"]},
                    "references": {str(s): files for s in job["statistics"]}}  # fmt: skip
        ms = float(job["case"]["settings"]["delay_ms"]) * (1 + rng.normal(0, 0.002))
        return {
            "series": {"first": 2 * ms, "warmup": [ms], "samples": [ms] * 20, "steady": True},
            "load_s": 0.1,
            "load": {"steal_share": 0.0, "foreign_share": 0.9, "wall_s": 1.0},
            "contract": {"threads": job["case"]["threads"]},
            "host_peak_mib": 100.0, "host_baseline_mib": 50.0, "device_peak_mib": None,
        }  # fmt: skip

    def describe(run: Any, case: Any, network: Any) -> None:
        run["work"] = {"gmac": 1.0, "min_bytes": 1.0}

    class Network:
        from_json = staticmethod(lambda data: data)

    monkeypatch.setattr(bench.run, "run_job", run_job)
    monkeypatch.setattr(bench.run, "_machine_rate", lambda: 100.0)
    monkeypatch.setattr(bench.run, "Network", Network)
    monkeypatch.setattr(bench.run.record, "describe_network", describe)
    return started


@pytest.mark.parametrize(
    ("b", "expected"), [("10.8", (3, "Regression")), ("10", (0, "Pass")), ("9", (0, "Pass: 1 better"))]
)
def test_the_exit_code_is_the_verdict(
    command: Command, workers: list[dict[str, Any]], tmp_path: Path, b: str, expected: tuple[int, str]
) -> None:
    path = tmp_path / "runs.json"
    done = command(*AB, "--a", "null:delay_ms=10", "--b", f"null:delay_ms={b}", "--max", "latency:5%", "--json", path)
    assert done.code == expected[0]
    assert done.out.startswith(expected[1])
    runs = json.loads(path.read_text())["runs"]
    assert [(run["side"], len(run["latency_ms"]["samples"])) for run in runs] in (
        [("a", 5), ("b", 5)],
        [("b", 5), ("a", 5)],
    )
    delays = [job["case"]["settings"]["delay_ms"] for job in workers if job["job"] == "case"]
    assert all(set(delays[k : k + 2]) == {"10", b} for k in range(0, 10, 2) if b != "10")


def test_it_writes_what_gate_writes(command: Command, workers: list[dict[str, Any]], tmp_path: Path) -> None:
    words = ("--a", "null:delay_ms=10", "--b", "null:delay_ms=11", "--json", tmp_path / "r.json")
    assert command(*AB, *words, "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md").code == 3
    assert 'type="regression"' in (tmp_path / "j.xml").read_text()
    assert "A against B" in (tmp_path / "m.md").read_text()


def test_a_checkout_reaches_the_workers_and_is_named(
    command: Command, workers: list[dict[str, Any]], tmp_path: Path
) -> None:
    words = ("--engine", "null:delay_ms=10", "--a", "null:delay_ms=10", "--b", f"dir:{tmp_path}", "--max", "latency:5%")
    done = command(*AB, *words, "--json", tmp_path / "r.json")
    assert done.code == 0
    paths = [job["environment"].get("PYTHONPATH", "").split(":")[0] for job in workers if job["job"] == "case"]
    assert sorted(paths) == [""] * 5 + [str(tmp_path)] * 5
    assert {job["environment"].get("FULLRES_CACHE") is None for job in workers if job["job"] == "prepare"} == {
        True,
        False,
    }


def test_wrong_use(command: Command, workers: list[dict[str, Any]], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    sides = ("--a", "null", "--b", "null:delay_ms=2")
    for words, named in (
        (("--a", "null"), ["--b"]),
        (("--a", "nul", "--b", "null"), ["Did you mean null?"]),
        (("--a", "null:delay_ms=x", "--b", "null"), ["delay_ms=x"]),
        (("--a", "null,null", "--b", "null"), ["given twice"]),
        (("--a", "null", "--b", "null:delay_ms=0"), ["are the same case"]),
        (("--a", "precision=fp99,null", "--b", "null"), ["fp99"]),
        ((*sides, "--max", "speed:5%"), ["speed"]),
        ((*sides, "--budget", "0"), ["--budget 0"]),
        ((*sides, "--junit", "no/x.xml"), ["--junit"]),
        (("--a", "null", "--b", "dir:none"), ["none", "no folder"]),
    ):
        command(*AB, *words).assert_refused(*named)
    assert not workers


@pytest.mark.slow
@pytest.mark.parametrize(("b", "code"), [("10.8", 3), ("10", 0)])
def test_real_workers(command: Command, tmp_path: Path, b: str, code: int) -> None:
    words = ("--a", "null:delay_ms=10", "--b", f"null:delay_ms={b}", "--budget", 20, "--max", "latency:5%")
    done = command(*AB, *words, "--json", tmp_path / "r.json")
    assert done.code == code, done

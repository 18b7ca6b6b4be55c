"""A case's network by a worker, and what is said where the worker fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench.spawn
from bench.case import Case, Request, expand
from bench.preparing import exported, only_one, told
from bench.spawn import JobFailed
from export.network import Network
from reference_models.errors import UserError
from reference_models.pictures import write_picture
from reference_models.spec import ModelSpec


class Silent:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.doing: list[str] = []

    @contextmanager
    def stage(self, title: str, total: float | None = None) -> Iterator[Any]:
        self.titles.append(title)
        yield lambda done, doing: self.doing.append(doing)


def case_of(*options: str, model: str = "can", statistics: tuple[str, ...] = ()) -> Case:
    request = Request([model], ["64x48"], ["onnxruntime"], statistics=statistics, options=options, device="cpu")
    (found,), _ = expand(request)
    return found


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Jobs are not run: their result names the statistics that were asked for."""
    started: list[dict[str, Any]] = []

    def run_job(job: Mapping[str, Any], environment: Any = None, on_event: Any = None) -> dict[str, Any]:
        started.append(dict(job))
        on_event({"event": "phase", "name": "export"})
        return {"networks": {str(name): f"network of {name}" for name in job["statistics"]}}

    monkeypatch.setattr(bench.spawn, "run_job", run_job)
    return started


def fail(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def run_job(*_: Any) -> dict[str, Any]:
        raise failure

    monkeypatch.setattr(bench.spawn, "run_job", run_job)


@pytest.mark.parametrize("statistics", ["image", "frozen"])
def test_the_job_holds_what_the_network_depends_on(jobs: list[dict[str, Any]], statistics: str) -> None:
    case, reporter = case_of("depth=4", statistics=(statistics,)), Silent()
    assert exported(case, "photos", reporter, "style.png") == f"network of {statistics}"
    (job,) = jobs
    assert (job["job"], job["weights"], job["statistics"]) == ("prepare", None, [statistics])
    assert (job["calibration"], job["style"], job["inputs"]) == ("photos", "style.png", {})
    assert ModelSpec.from_json(job["spec"]).title == "can depth=4"
    assert (reporter.titles, reporter.doing) == (["prepare can depth=4"], ["export"])


def test_a_network_without_statistics_is_found_under_none(jobs: list[dict[str, Any]]) -> None:
    assert exported(case_of("normalisation=none"), None, Silent()) == "network of None"
    assert jobs[0]["style"] is None


def test_a_real_worker_gives_a_network_that_is_there(cache: Path) -> None:
    network = Network.from_json(exported(case_of("depth=3", "width=4"), None, Silent()))
    assert (network.model, network.statistics) == ("can depth=3 width=4", "image")
    assert Path(network.main.onnx_path).is_file()


@pytest.mark.parametrize("kind", ["weights", "style"])
def test_what_the_network_refuses_is_wrong_use(kind: str, cache: Path, tmp_path: Path) -> None:
    import dataclasses

    case, style = case_of("depth=3", "width=4"), None
    if kind == "weights":
        (tmp_path / "w.txt").write_text("1 2 3")
        case = dataclasses.replace(case, weights=str(tmp_path / "w.txt"))
    else:
        style = str(tmp_path / "s.png")
        write_picture(style, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError) as caught:
        exported(case, None, Silent(), style)
    assert ("w.txt" if kind == "weights" else "--style") in caught.value.what
    assert not hasattr(caught.value, "exit_code")


def test_a_worker_that_fails_is_no_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, JobFailed("the worker died of SIGSEGV", "its last words"))
    with pytest.raises(UserError, match=r"the worker died of SIGSEGV.*What it printed last:\nits last words") as caught:
        exported(case_of(), None, Silent())
    assert caught.value.exit_code == 5  # type: ignore[attr-defined]


def test_what_is_told_of_a_failure() -> None:
    own = UserError("weights: damaged", "whole ones", "Copy them again")
    assert told(JobFailed(str(own), "log", own)) is own
    other = told(JobFailed("out of memory", "log"))
    assert isinstance(other, UserError)
    assert other.what == "out of memory"


def test_exactly_one_case_is_taken() -> None:
    case = case_of()
    only_one([case], [])
    for cases, left_out in (([case, case], []), ([case], [(case, "no bf16")]), ([], [])):
        with pytest.raises(UserError, match="one of each"):
            only_one(cases, left_out)

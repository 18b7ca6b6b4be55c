"""A case's network by a worker, and what is said where the worker fails."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench.spawn
from bench.case import Case, Request, expand
from bench.preparing import exported, for_engine, is_calibrated, lowerings, only_one, refused, told
from bench.spawn import JobFailed
from export.network import Network
from export.processor import exact_weight_bits
from export.recipe import Recipe
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


def case_of(*options: str, model: str = "can", statistics: tuple[str, ...] = (), precision: str = "fp32") -> Case:
    request = Request(
        [model], ["64x48"], ["onnxruntime"], (precision,), statistics, options=options, device="cpu",
        lowering={"floor_db": 42.0} if precision == "auto" else {},
    )  # fmt: skip
    (found,), _ = expand(request)
    return found


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Jobs are not run: their result names the statistics that were asked for."""
    started: list[dict[str, Any]] = []

    def run_job(job: Mapping[str, Any], environment: Any = None, on_event: Any = None) -> dict[str, Any]:
        started.append(dict(job))
        on_event({"event": "phase", "name": "export"})
        made = {str(name): f"network of {name}" for name in job["statistics"]}
        return {
            "networks": made | {each["key"]: json.dumps(each["recipe"]) for each in job["lowerings"]},
            "refused": {},
        }

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


# Other precisions


def test_a_graph_of_another_precision_is_made_and_taken(jobs: list[dict[str, Any]]) -> None:
    case = case_of(precision="int8", statistics=("frozen",))
    made = exported(case, "photos", Silent())
    assert Recipe.from_dict(json.loads(made)) == case.recipe
    (lowering,) = jobs[0]["lowerings"]
    assert (lowering["statistics"], lowering["engine"]) == ("frozen", "onnxruntime")
    assert lowering["options"]["precision"] == "int8"
    exported(case_of(), None, Silent())
    assert jobs[1]["lowerings"] == []


def test_each_graph_is_asked_for_once() -> None:
    request = Request(
        ["can"], ["64x48", "80x60"], ["onnxruntime", "onnxruntime:spin=off", "openvino"], ("fp32", "int8", "auto"),
        statistics=("image", "frozen"), device="cpu", lowering={"floor_db": 42.0},
    )  # fmt: skip
    found = lowerings(expand(request)[0])
    assert len(found) == len({lowering["key"] for lowering in found})
    # int8: two placements; auto: three variants, since each is measured on its own; both of two statistics
    assert sorted(lowering["recipe"]["precision"] for lowering in found) == ["auto"] * 6 + ["int8"] * 4


def test_what_could_not_be_made_is_the_user_s_or_the_program_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    own = refused({"reason": "r", "parts": ["`--floor 99dB`: nothing", "a lower floor", "Choose one"]})
    assert (own.what, own.expected, own.todo) == ("`--floor 99dB`: nothing", "a lower floor", "Choose one")
    assert not hasattr(own, "exit_code")
    other = refused({"reason": "RuntimeError: no shape", "parts": None})
    assert other.what == "RuntimeError: no shape"
    assert other.exit_code == 5  # type: ignore[attr-defined]
    case = case_of(precision="int8")
    answer = {"networks": {}, "refused": {case.network_key: {"reason": "r", "parts": ["a", "b", "c"]}}}
    monkeypatch.setattr(bench.spawn, "run_job", lambda *_: answer)
    with pytest.raises(UserError, match=r"^a\. Expected b\. c\.$"):
        exported(case, None, Silent())


def arguments(engine: str, precision: str, **more: Any) -> argparse.Namespace:
    standard = {"recovery": "fast", "clipping": "minmax", "weight_bits": None, "floor": None, "layers": None}
    return argparse.Namespace(engine=engine, precision=precision, **{**standard, **more})


@pytest.mark.parametrize(
    ("engine", "precision", "device", "recipe"),
    [
        ("onnxruntime", "int8", "cpu", Recipe("int8", "integer", True, weight_bits=exact_weight_bits())),
        ("onnxruntime", "fp16", "cuda:0", Recipe("fp16")),
        ("openvino", "int8", "cpu", Recipe("int8", shifted=True, weight_bits=exact_weight_bits())),
        ("openvino", "bf16", "cpu", None),
        ("tensorrt", "int8", "cuda:0", Recipe("int8")),
        ("tensorrt_rtx", "fp8", "cuda:0", Recipe("fp8")),
        ("tensorrt", "fp32", "cuda:0", None),
    ],
)
def test_a_graph_is_made_for_an_engine_wherever_that_runs(
    engine: str, precision: str, device: str, recipe: Recipe | None
) -> None:
    case = for_engine(case_of(), arguments(engine, precision))
    assert (case.engine, case.precision, case.device, case.recipe) == (engine, precision, device, recipe)
    assert is_calibrated(case) == (precision in {"int8", "fp8"})
    assert case.variant == engine


def test_an_engine_without_the_precision_is_refused_with_those_it_has() -> None:
    for engine, precision, named in (
        ("openvino", "int8+fp16", "auto, bf16, fp32, int8"),
        ("torch_eager", "int8", "fp32"),
    ):
        with pytest.raises(UserError, match=f"engine `{engine}` has none") as caught:
            for_engine(case_of(), arguments(engine, precision))
        assert named in caught.value.expected
    with pytest.raises(UserError, match="Did you mean int8"):
        for_engine(case_of(), arguments("openvino", "in8"))
    with pytest.raises(UserError, match="which quality"):
        for_engine(case_of(), arguments("openvino", "auto"))
    found = for_engine(case_of(), arguments("openvino", "auto", floor="42dB"))
    assert found.recipe is not None
    assert found.recipe.floor_db == 42

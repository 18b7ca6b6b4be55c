"""Times of layers apart from the timed processes: which cases have them, and that they are the network's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import store
from bench.case import Case, Request, expand
from bench.cli import main
from bench.profile import refusal


def case(engine: str, statistics: str = "frozen") -> Case:
    found, _ = expand(Request(models=["can24"], resolutions=["32x24"], engines=[engine], statistics=[statistics]))
    return found[0]


@pytest.mark.parametrize(
    ("engine", "statistics", "said"),
    [("torch_eager", "frozen", "does not tell"), ("onnxruntime", "thumbnail", "outside of the graph")],
)
def test_what_has_no_times_of_layers_says_why(engine: str, statistics: str, said: str) -> None:
    assert said in str(refusal(case(engine, statistics)))
    assert refusal(case("onnxruntime")) is None


def test_engines_tell_on_devices_where_they_can() -> None:
    """TensorRT on a GPU; ONNX Runtime on the CPU alone."""
    on_gpu = replace(case("onnxruntime"), device="cuda:0")
    assert refusal(replace(on_gpu, engine="tensorrt")) is None
    assert "does not tell" in str(refusal(on_gpu))


def test_tiles_have_no_layers_of_a_whole_picture() -> None:
    assert "tiles run one graph many times" in str(refusal(replace(case("onnxruntime"), tile="16")))


def test_where_no_case_can_tell_it_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--model", "can24", "--res", "32x24", "--engine", "torch_eager", "--profile"]
    assert main([*words, "--json", str(tmp_path / "x.json")]) == 2
    assert "`--profile`: the engine does not tell" in capsys.readouterr().err


def test_a_run_holds_the_layers_of_its_graph_and_the_others_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.run.Execution.peaks", lambda self: {"failed": "left out by the test"})
    words = ["run", "--model", "espcn_x3", "--res", "48x36", "--engine", "onnxruntime,null", "--processes", "1"]
    assert main([*words, "--budget", "0.2", "--profile", "--json", str(tmp_path / "x.json")]) == 0
    told, untold = store.load(tmp_path / "x.json")
    assert sum(layer["kind"].endswith("Conv") for layer in told["layers"]) == 3
    assert all(layer["ms"] >= 0 and layer["layer"] for layer in told["layers"])
    assert (told["layers_failed"], untold["layers"]) == (None, None)
    assert untold["layers_failed"] == "the engine does not tell what its layers take"
    assert "no times of layers: null: the engine does not tell" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "x.json").read_text())["schema"] == 1


def test_a_plan_on_pictures_is_profiled_with_its_conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.run.Execution.peaks", lambda self: {"failed": "left out by the test"})
    words = ["run", "--model", "espcn_x3", "--res", "48x36", "--engine", "onnxruntime,onnxruntime:ends=picture"]
    words += ["--processes", "1", "--budget", "0.2", "--profile", "--json", str(tmp_path / "x.json")]
    assert main(words) == 0
    tensors, pictures = store.load(tmp_path / "x.json")
    kinds = [{layer["kind"] for layer in run["layers"]} for run in (tensors, pictures)]
    assert "Cast" not in kinds[0]
    assert {"Cast", "Transpose"} <= kinds[1]

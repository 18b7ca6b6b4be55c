"""`bench build`: what it refuses before the first slow step, and what it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import engines
from bench.commands.build import _remaining, _sizes
from engines.sidecar import read_sidecar

Command = Callable[..., Any]
RTX = ["--engine", "tensorrt_rtx"]

WORDS: list[tuple[list[str], list[str]]] = [
    (["--engine", "onnxruntime", "--precision", "int9", "--output", "x.onnx"], ["int9", "fp32"]),
    (["--engine", "onnxruntime", "--precision", "fp8", "--output", "x.onnx"], ["fp8", "fp32, int8, auto"]),
    (["--engine", "openvino", "--precision", "auto", "--output", "x.onnx"], ["--precision auto", "Add --floor"]),
    (["--engine", "onnxruntime", "--output", "x.plan"], ["x.plan", "FILE.onnx"]),
    (["--engine", "onnxruntime", "--res", "720p", "--output", "x.onnx"], ["takes any size"]),
    (["--engine", "torch_eager", "--output", "x"], ["torch_eager", "no plans"]),
    (["--engine", "tensorrtx", "--output", "x"], ["tensorrtx", "Did you mean tensorrt"]),
    (["--engine", "onnxruntime", "--statistics", "thumbnail", "--output", "x.onnx"], ["thumbnail", "image or frozen"]),
    (["--engine", "onnxruntime"], ["no --output", "--bundle DIR"]),
    (["--engine", "onnxruntime", "--output", "x.onnx", "--bundle", "b"], ["both", "one of the two"]),
    (["--engine", "onnxruntime", "--bundle", "absent/b"], ["absent/b", "does not exist"]),
    (["--engine", "onnxruntime", "--output", "absent/x.onnx"], ["absent/x.onnx", "existing folder"]),
    (["--engine", "onnxruntime", "--set", "openvino.pinning=on", "--output", "x.onnx"], ["openvino"]),
]
WORDS_OF_RTX: list[tuple[list[str], list[str]]] = [
    ([*RTX, "--output", "x"], ["its plans are for sizes", "--res"]),
    ([*RTX, "--res", "1081p", "--output", "x"], ["1081p", "Did you mean"]),
    ([*RTX, "--res", "720p", "--precision", "bf32", "--output", "x"], ["bf32", "fp32"]),
    ([*RTX, "--res", "720p", "--set", "tensorrt_rtx.level=9", "--output", "x"], ["level=9", "0, 1, 2"]),
]


@pytest.fixture
def rtx() -> None:
    if reason := engines.get("tensorrt_rtx").missing():
        pytest.skip(f"tensorrt_rtx: {reason}")


def refuse(command: Command, words: list[str], named: list[str], folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    outcome = command("build", "--model", "can24", *words)
    outcome.assert_refused(*named)
    assert "prepare" not in outcome.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(command, words, named, tmp_path, monkeypatch)


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(("words", "named"), WORDS_OF_RTX, ids=[" ".join(w) for w, _ in WORDS_OF_RTX])
def test_wrong_words_for_rtx_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(command, words, named, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
def test_without_the_library_build_and_run_say_the_same_words(
    name: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "Python package `it` is not installed"
    monkeypatch.setattr(type(engines.get(name).api), "missing", lambda self: missing)
    install = engines.get(name).install
    common = ("--model", "can24", "--res", "320p", "--engine", name)
    command("build", *common, "--output", tmp_path / "x").assert_refused(f"engine `{name}`: {missing}", install)
    command("run", *common).assert_refused(f"engine `{name}`: {missing}", install)
    assert missing in " ".join(command("engines").out.split())


def test_the_onnx_file_of_an_engine_that_reads_onnx_has_a_sidecar(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    outcome = command(
        "build", "--model", "espcn_x2", "--weights", "none", "--engine", "onnxruntime", "--output", target
    )
    assert outcome.code == 0, outcome.err
    told = read_sidecar(target)
    assert told["onnx"]["sha256"] == told["plan"]["sha256"] in outcome.out
    assert (told["engine"]["name"], told["sizes"], told["picture"]["upscale"]) == ("onnxruntime", [], 2)
    assert "untrained" in outcome.out


def test_a_plan_for_two_resolutions_and_one_for_all(command: Command, tmp_path: Path, rtx: None) -> None:
    target = tmp_path / "net.plan"
    common = ("build", "--model", "espcn_x3", *RTX, "--output", target)
    outcome = command(*common, "--res", "320p,100x61")
    assert outcome.code == 0, outcome.err
    told = read_sidecar(target)
    # A third of the output, rounded up; (height, width).
    assert [(size["resolution"], size["tuned"]) for size in told["sizes"]] == [
        ("320p", [107, 190]),
        ("100x61", [21, 34]),
    ]
    assert all(size["least"] == size["most"] == size["tuned"] for size in told["sizes"])
    assert told["precision"] == "fp32"
    assert told["versions"]["torch"]
    assert "built in" in outcome.out
    outcome = command(
        *common, "--res", "320p,100x200", "--dynamic", "--precision", "tf32", "--set", "tensorrt_rtx.target=89"
    )
    assert outcome.code == 0, outcome.err
    told = read_sidecar(target)
    assert told["sizes"] == [{"resolution": "320p", "least": [1, 1], "tuned": [107, 190], "most": [107, 190]}]
    assert (told["precision"], told["engine"]["settings"]["target"]) == ("tf32", "89")
    assert "inputs of 1x1 to 190x107, tuned for 190x107" in outcome.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.plan", "net.plan.json"]


def test_a_size_that_does_not_fit_is_refused_and_leaves_nothing(command: Command, tmp_path: Path, rtx: None) -> None:
    target = tmp_path / "net.plan"
    outcome = command("build", "--model", "espcn_x3", *RTX, "--res", "32768x32768", "--output", target)
    assert outcome.code == 2
    assert "elements" in outcome.err
    assert "largest input of this shape that fits is" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_is_estimated_once_a_tenth_is_done() -> None:
    event = {"phase": "tactics", "share": 0.25, "seconds": 10.0}
    assert _remaining(event) == "tactics, about 30 s left"
    assert _remaining({**event, "share": 0.05}) == "tactics"
    assert _remaining({"event": "phase"}) == ""


def test_a_dynamic_profile_reaches_from_the_smallest_input_to_the_largest_asked_for() -> None:
    spec = SimpleNamespace(tensor_size=lambda width, height: (8, 8))
    cases: list[Any] = [
        SimpleNamespace(spec=spec, resolution="a", input_shape=(1, 3, 64, 200)),
        SimpleNamespace(spec=spec, resolution="b", input_shape=(1, 3, 128, 96)),
    ]
    assert json.loads(json.dumps(_sizes(cases, True, "tensorrt", False))) == [
        {"resolution": "a", "least": [8, 8], "tuned": [64, 200], "most": [128, 200]}
    ]
    assert len(_sizes(cases, False, "tensorrt", False)) == 2
    assert _sizes(cases, False, "openvino", False) == []


def test_a_plan_on_pictures_says_so_and_takes_their_sizes(command: Command, tmp_path: Path, rtx: None) -> None:
    target = tmp_path / "net.plan"
    ends = ("--set", "tensorrt_rtx.ends=picture")
    # Enlarged threefold and padded inside of the plan: the picture of 34x21 is what it takes.
    words = ("build", "--model", "espcn_x3", *RTX, "--res", "100x61", "--precision", "fp16", "--output", target)
    outcome = command(*words, *ends)
    assert outcome.code == 0, outcome.err
    told = read_sidecar(target)
    assert (told["takes"], told["sizes"][0]["tuned"]) == ("pictures", [21, 34])
    end = {"dtype": "uint8", "shape": [-1, -1, 3], "layout": "HWC", "range": [0, 255], "colour": "rgb"}
    assert told["inputs"] == [{"name": "picture", **end}]
    assert told["outputs"] == [{"name": "result", **end}]
    for more, words in ((("--check", "40dB"), "--check"), (("--model", "colorization"), r"CIE L\*a\*b\*")):
        outcome = command("build", "--model", "espcn_x3", *RTX, "--res", "100x61", "--output", target, *ends, *more)
        assert outcome.code == 2
        assert re.search(words, outcome.err), outcome.err


def test_an_int8_graph_has_its_story_in_the_sidecar_and_runs_as_deployed(
    command: Command, tmp_path: Path, save: Callable[..., Path]
) -> None:
    target, picture = tmp_path / "net.onnx", save(tmp_path / "picture.png", 64, 48)
    words = ("build", "--model", "can:depth=3:width=8", "--calibration", picture, "--recovery", "none")
    found = {}
    for engine, precision in (("onnxruntime", ("int8",)), ("openvino", ("auto", "--floor", "20dB"))):
        outcome = command(*words, "--engine", engine, "--output", target, "--precision", *precision)
        assert outcome.code == 0, outcome.err
        told = read_sidecar(target)
        assert (told["precision"], told["engine"]["name"]) == (precision[0], engine)
        assert told["lowering"]["layers"] == {"convs.0": "int8", "convs.1": "int8", "last": "int8"}
        assert "3 of 3 layers in int8" in outcome.out
        with engines.load(target) as session:
            found[engine] = session(np.full((20, 30, 3), 90, np.uint8))
        assert found[engine].shape == (20, 30, 3)
    beside = tmp_path / "net.onnx.layers.json"
    assert f"{beside}: its layers" in outcome.out
    assert json.loads(beside.read_text())["layers"] == told["lowering"]["layers"]
    assert np.abs(found["onnxruntime"].astype(int) - found["openvino"]).max() <= 8


def test_a_plan_is_checked_against_its_own_graph(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("polygraphy")
    words = ["build", "--model", "can24", "--engine", "onnxruntime", "--output", tmp_path / "plan.onnx", "--check"]
    done = command(*words, "60dB")
    assert done.code == 0
    assert "check passed: " in done.out
    assert "against its own graph in ONNX Runtime (floor 60 dB)" in done.out
    command(*words, "loud").assert_refused("`--check loud`: not a PSNR", "Try --check 42dB")


def test_settings_may_follow_the_engine_as_in_run(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    outcome = command("build", "--model", "espcn_x3", "--engine", "onnxruntime:ends=picture", "--output", target)
    assert outcome.code == 0, outcome.err
    told = read_sidecar(target)
    assert (told["takes"], told["engine"]["settings"]["ends"]) == ("pictures", "picture")
    assert "an ONNX file, which the engine reads itself" in outcome.out
    outcome = command("build", "--model", "espcn_x3", "--engine", "onnxruntime:colour=red", "--output", target)
    assert outcome.code == 2
    assert "colour" in outcome.err

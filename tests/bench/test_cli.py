"""The whole command by its promises: clear refusals at once, nothing lost, nothing half-done, right exit codes.

Most tests call `main` in this process; workers are real. The machine's peaks, four seconds a run, are left out (they
have their own tests), in subprocesses too: those start `bench` through CHEAP.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

import bench.run
from bench import store
from bench.cli import main
from engines.installed import cuda_device_count

ANSWER_S = 0.5
"""Refusals and look-ups take less wall time than this, start of the interpreter included."""
TRIES = 8
SMALL = ("--res", "64x48", "--budget", "1", "--processes", "1")
RUN = ("run", "--model", "can24")

CHEAP = """
import resource, sys
import bench.run
from bench.cli import main

real = bench.run.run_job

def run_job(job, *rest):
    if job["job"] == "peaks":
        return {"failed": "left out by the test"}
    if job["job"] == "case":
        CASE
    return real(job, *rest)

bench.run.run_job = run_job
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def command_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache folder for all tests of the command, so that each network is exported once."""
    folder = tmp_path_factory.getbasetemp() / "command-cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("FULLRES_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.run.run_job

    def run_job(job: Any, *rest: Any) -> dict[str, Any]:
        return {"failed": "left out by the test"} if job["job"] == "peaks" else real(job, *rest)

    monkeypatch.setattr(bench.run, "run_job", run_job)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`command(word, …)` runs `bench word …` in this process."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(w) for w in words])
        except SystemExit as stop:  # argparse's own way out of --help and --version
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call


def assert_refused(outcome: Outcome, *named: str, code: int = 2) -> None:
    """Exit code, three parts on standard error naming `named`, no traceback, nothing on standard output."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    message = outcome.err[outcome.err.index("bench: ") :]
    assert re.match(r"(?s)bench: .+\. Expected .+\. .+[.?]\n?", message), message
    for word in named:
        assert word in message, f"{word!r} is not in {message!r}"


def gradient(width: int, height: int) -> np.ndarray:
    """uint8 (H, W, 3): red grows to the right, green downwards; no two corners are alike."""
    red = np.linspace(20, 230, width)[None, :].repeat(height, 0)
    green = np.linspace(30, 220, height)[:, None].repeat(width, 1)
    return np.stack([red, green, (red + green) / 2], axis=2).round().astype(np.uint8)


def save(path: Path, width: int = 64, height: int = 48, **options: Any) -> Path:
    Image.fromarray(gradient(width, height)).save(path, **options)
    return path


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def runs_of(path: Path) -> list[dict[str, Any]]:
    return store.load(path)


# Wrong use: words

WORDS: list[tuple[list[str], list[str]]] = [
    ([], ["COMMAND"]),
    (["rnu"], ["rnu", "Did you mean run?"]),
    (["weights"], ["ACTION"]),
    (["weights", "imprt"], ["imprt", "Did you mean import?"]),
    (["run"], ["--model", "--res"]),
    (["run", "--model", "can24"], ["--res"]),
    (["run", "--model", "cam24", "--res", "64x48"], ["cam24", "Did you mean can24?"]),
    (["run", "--model", "can24,cna32", "--res", "64x48"], ["cna32", "Did you mean can32?"]),
    (["run", "--model", "zzz", "--res", "64x48"], ["zzz", "can24", "bench models"]),
    (["run", "--model", "can24", "--res", "1441p"], ["1441p", "Did you mean 1440p?"]),
    (["run", "--model", "can24", "--res", "0x48"], ["0x48", "1 to 32768"]),
    (["run", "--model", "can24", "--res", "40000x48"], ["40000x48", "1 to 32768"]),
    ([*RUN, *SMALL, "--engine", "onnxruntim"], ["onnxruntim", "Did you mean onnxruntime?"]),
    ([*RUN, *SMALL, "--engine", "null,opnvino"], ["opnvino", "Did you mean openvino?"]),
    ([*RUN, *SMALL, "--precision", "fp23"], ["fp23", "Did you mean fp32?"]),
    ([*RUN, *SMALL, "--precision", "bf16", "--engine", "null"], ["null", "bf16", "bench engines"]),
    ([*RUN, *SMALL, "--statistics", "imgae"], ["imgae", "Did you mean image?"]),
    ([*RUN, *SMALL, "--device", "cpuu"], ["cpuu", "Did you mean cpu?"]),
    ([*RUN, *SMALL, "--device", "cuda:x"], ["cuda:x", "Did you mean cuda:0?"]),
    ([*RUN, *SMALL, "--budget", "0"], ["--budget 0", "more than 0"]),
    ([*RUN, *SMALL, "--budget", "nan"], ["--budget nan"]),
    ([*RUN, *SMALL, "--budget", "inf"], ["--budget inf"]),
    ([*RUN, *SMALL, "--budget=-1"], ["--budget -1"]),
    ([*RUN, *SMALL, "--budget", "soon"], ["--budget", "soon"]),
    ([*RUN, *SMALL, "--processes", "0"], ["--processes 0", "1 to 100"]),
    ([*RUN, *SMALL, "--processes", "101"], ["--processes 101", "1 to 100"]),
    ([*RUN, *SMALL, "--processes", "1.5"], ["--processes", "1.5"]),
    ([*RUN, *SMALL, "--threads", "0"], ["--threads 0", "cores"]),
    ([*RUN, *SMALL, "--threads", "9999"], ["--threads 9999", "cores"]),
    ([*RUN, *SMALL, "--set", "spin"], ["--set spin", "ENGINE.NAME=VALUE"]),
    ([*RUN, *SMALL, "--set", "onnxruntim.spin=on"], ["onnxruntim", "Did you mean onnxruntime?"]),
    ([*RUN, *SMALL, "--set", "onnxruntime.spni=on"], ["spni", "Did you mean spin?"]),
    ([*RUN, *SMALL, "--set", "onnxruntime.spin=maybe"], ["maybe", "on, off"]),
    ([*RUN, *SMALL, "--set", "null.spin=on"], ["null", "no settings"]),
    (
        ["export", "--model", "can24", "--output", "x.onnx", "--statistics", "thumbnail"],
        ["thumbnail", "image or frozen"],
    ),
    (["export", "--model", "can24", "--output", "x.onnx", "--precision", "fp16"], ["fp16", "fp32"]),
    (["export", "--model", "can24", "--output", "x.txt"], ["x.txt", "FILE.onnx"]),
    (["export", "--model", "can24", "--output", "absent/x.onnx"], ["absent/x.onnx", "existing folder"]),
    (["export", "--model", "can24,can32", "--output", "x.onnx"], ["can24,can32"]),
    (["apply", "--model", "can24", "--input", "a.png"], ["--output"]),
    (["weights", "import", "--model", "can24", "--from", "absent", "--output", "x.safetensors"], ["absent"]),
    (["weights", "import", "--model", "can24", "--from", "absent", "--output", "x.onnx"], ["x.onnx", ".safetensors"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) or "nothing" for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(command(*words), *named)
    assert list(tmp_path.iterdir()) == []


MISSPELT = [
    (["run", "--modle", "can24", "--res", "64x48"], "--modle", "--model"),
    ([*RUN, *SMALL, "--budgett", "3"], "--budgett", "--budget"),
    ([*RUN, *SMALL, "--engines=null"], "--engines", "--engine"),
    (["apply", "--model", "can24", "--inptu", "a.png", "--output", "b.png"], "--inptu", "--input"),
    (["engines", "--setings"], "--setings", "--settings"),
]


@pytest.mark.parametrize(("words", "wrong", "right"), MISSPELT, ids=[wrong for _, wrong, _ in MISSPELT])
def test_a_misspelt_option_is_named_and_the_right_one_suggested(
    words: list[str], wrong: str, right: str, command: Command
) -> None:
    assert_refused(command(*words), wrong, f"Did you mean {right}?")


def test_the_suggestion_comes_from_the_words_given_to_main_and_not_from_the_process(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "export"])
    assert_refused(command("rnu"), "Did you mean run?")


@pytest.mark.parametrize("value", ["x", "1e", "sixty"])
def test_a_value_that_is_no_number_is_not_answered_with_the_option_itself(value: str, command: Command) -> None:
    outcome = command(*RUN, *SMALL, "--budget", value)
    assert_refused(outcome, "--budget", value)
    assert "Did you mean --budget?" not in outcome.err


@pytest.mark.parametrize("option", ["--model", "--res", "--engine", "--precision", "--statistics"])
@pytest.mark.parametrize("value", ["", ","])
def test_an_empty_list_is_refused_by_the_name_of_its_option(option: str, value: str, command: Command) -> None:
    words = {"--model": "can24", "--res": "64x48"} | {option: value}
    outcome = command("run", "--budget", "1", "--processes", "1", *(w for pair in words.items() for w in pair))
    assert_refused(outcome, option)


@pytest.mark.parametrize("option", ["--json", "--output", "--images", "--calibration", "--weights"])
def test_an_empty_path_is_refused_and_not_taken_for_the_default(option: str, command: Command) -> None:
    assert_refused(command(*RUN, *SMALL, "--engine", "null", option, ""))


def test_a_setting_for_an_engine_that_does_not_run_is_refused(command: Command) -> None:
    assert_refused(command(*RUN, *SMALL, "--engine", "null", "--set", "onnxruntime.spin=off"), "`onnxruntime`")


def test_apply_refuses_several_of_one_kind(command: Command, tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png")
    for more in (["--model", "can24,can32"], ["--model", "can24", "--statistics", "image,frozen"]):
        assert_refused(command("apply", *more, "--input", picture, "--output", tmp_path / "b.png"), "one of each")
    assert not (tmp_path / "b.png").exists()


def test_an_engine_that_is_not_installed_is_refused_with_its_install_command(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else real(name, *rest)
    )
    outcome = command(*RUN, *SMALL, "--engine", "openvino")
    assert_refused(outcome, "`openvino` is not installed", "onnxruntime", "pip install")
    assert "openvino" not in outcome.err.split("Expected")[1].split("To install")[0]
    assert re.search(r"openvino +no +", command("engines").out)


@pytest.mark.skipif(cuda_device_count() > 0, reason="a CUDA device is here")
def test_a_cuda_device_that_is_not_there_is_refused_not_replaced(command: Command) -> None:
    assert_refused(command(*RUN, *SMALL, "--device", "cuda:0"), "cuda:0", "does not exist", "--device cpu")
    assert_refused(command(*RUN, *SMALL, "--device", "cuda"), "does not exist")


# Wrong use: files


def _missing(path: Path) -> None:
    assert not path.exists()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:5000])


def _text(path: Path) -> None:
    path.write_text("no picture at all\n" * 100)


def _hundred_megapixels(path: Path) -> None:
    Image.new("1", (10000, 10000)).save(path, format="PNG", compress_level=1)


BAD_PICTURES = [
    (_missing, "cannot be found"),
    (_empty, "empty"),
    (_truncated, "truncated"),
    (_text, "not a picture"),
    (_hundred_megapixels, "10000x10000"),
]
BAD_PICTURE = pytest.mark.parametrize(
    ("spoil", "reason"), BAD_PICTURES, ids=[make.__name__.strip("_") for make, _ in BAD_PICTURES]
)


@BAD_PICTURE
def test_a_bad_picture_for_run_or_apply_is_refused_before_anything_is_made(
    spoil: Callable[[Path], None], reason: str, command: Command, tmp_path: Path
) -> None:
    picture = tmp_path / "bad.png"
    spoil(picture)
    runs, output = tmp_path / "runs.json", tmp_path / "out.png"
    for outcome in (
        command(*RUN, *SMALL, "--images", picture, "--json", runs),
        command(*RUN, *SMALL, "--calibration", picture, "--statistics", "frozen", "--json", runs),
        command("apply", "--model", "can24", "--input", picture, "--output", output),
    ):
        assert_refused(outcome, "bad.png", reason)
        assert "prepare" not in outcome.err
    assert not runs.exists()
    assert not output.exists()


def test_a_folder_without_pictures_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("none here")
    assert_refused(command(*RUN, *SMALL, "--images", tmp_path / "photos"), "photos", "no picture")
    outcome = command("apply", "--model", "can24", "--input", tmp_path / "photos", "--output", tmp_path / "out")
    assert_refused(outcome, "photos", "no picture")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights per network, with which every layer changes the picture and values spread over [0, 1]."""
    import torch
    from safetensors.torch import save_file

    from reference_models import create_model

    found, x = {}, torch.from_numpy(gradient(64, 48).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    for name in ("can24", "can32"):
        torch.manual_seed(3)
        model = create_model(name)
        state = {k: v + 0.05 * torch.randn_like(v) for k, v in model.state_dict().items()}
        state["last.bias"] = torch.zeros(3)
        model.load_state_dict(state)
        with torch.inference_mode():
            y = model(x)[0]
        gain = 0.12 / y.std((1, 2))
        state["last.weight"] = state["last.weight"] * gain.reshape(3, 1, 1, 1)
        state["last.bias"] = 0.5 - gain * y.mean((1, 2))
        found[name] = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save_file(state, found[name])
    return found


def test_bad_weights_files_are_refused_by_their_headers(
    command: Command, tmp_path: Path, weights: dict[str, Path]
) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights["can24"].read_bytes()[:2000])
    empty = tmp_path / "empty.safetensors"
    empty.write_bytes(b"")
    odd = tmp_path / "weights.txt"
    odd.write_text("1 2 3")
    for path in (tmp_path / "absent.safetensors", cut, empty, odd, tmp_path):
        runs = tmp_path / "runs.json"
        outcome = command(*RUN, *SMALL, "--weights", path, "--json", runs)
        assert_refused(outcome, path.name)
        assert "prepare" not in outcome.err
        assert not runs.exists()


def test_weights_of_another_network_are_refused_before_anything_is_measured(
    command: Command, tmp_path: Path, weights: dict[str, Path]
) -> None:
    runs = tmp_path / "runs.json"
    outcome = command(*RUN, *SMALL, "--engine", "null", "--weights", weights["can32"], "--json", runs)
    assert_refused(outcome, "can32.safetensors", "look like weights of can32")
    assert "process 1" not in outcome.err
    assert not runs.exists() or runs_of(runs) == []


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["torch zip", "bare pickle"])
def test_code_in_a_weights_file_is_never_run(kind: str, command: Command, tmp_path: Path) -> None:
    planted, file = tmp_path / "planted", tmp_path / "weights.pt"
    if kind == "bare pickle":
        file.write_bytes(pickle.dumps(_Payload(planted)))
    else:
        import torch

        torch.save({"conv.weight": _Payload(planted)}, file)
    picture = save(tmp_path / "a.png")
    outcome = command(
        "apply", "--model", "can24", "--weights", file, "--input", picture, "--output", tmp_path / "b.png"
    )
    assert_refused(outcome, "weights.pt")
    assert not planted.exists()
    pickle.loads(pickle.dumps(_Payload(planted)))
    assert planted.exists(), "the payload itself does not work, so that its absence would show nothing"


def test_an_output_that_cannot_be_written_is_refused_before_the_first_slow_step(
    command: Command, tmp_path: Path
) -> None:
    block, picture = tmp_path / "file", save(tmp_path / "a.png")
    block.write_text("in the way")
    refused = [
        command(*RUN, *SMALL, "--output", block),
        command(*RUN, *SMALL, "--output", block / "deeper"),
        command(*RUN, *SMALL, "--output", "/proc/results"),
        command(*RUN, *SMALL, "--json", block / "runs.json"),
        command(*RUN, *SMALL, "--json", "/proc/runs.json"),
        command("apply", "--model", "can24", "--input", picture, "--output", block / "b.png"),
        command("apply", "--model", "can24", "--input", picture, "--output", tmp_path / "absent" / "b.png"),
        command("apply", "--model", "can24", "--input", picture, "--output", tmp_path / "b.gif"),
        command("apply", "--model", "can24", "--input", tmp_path, "--output", block),
        command("export", "--model", "can24", "--output", tmp_path),
        command("export", "--model", "can24", "--output", block / "x.onnx"),
    ]
    for outcome in refused:
        assert_refused(outcome)
        assert "prepare" not in outcome.err
    assert block.read_text() == "in the way"


def test_export_to_a_folder_that_only_looks_writable_is_refused_before_the_first_slow_step(command: Command) -> None:
    """/proc passes every permission check of root."""
    outcome = command("export", "--model", "can24", "--output", "/proc/x.onnx")
    assert_refused(outcome, "/proc/x.onnx")
    assert "prepare" not in outcome.err


def test_a_file_that_holds_no_runs_is_refused_and_left_alone(command: Command, tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    for text in ("shopping list", '{"schema": 1, "runs": [', '{"schema": 99, "runs": []}', "[]"):
        notes.write_text(text)
        assert_refused(command(*RUN, *SMALL, "--json", notes), "notes.json")
        assert notes.read_text() == text
    assert_refused(command(*RUN, *SMALL, "--json", tmp_path), "is a folder")


def test_a_refused_runs_file_leaves_no_lock_beside_it(command: Command, tmp_path: Path) -> None:
    """`--json /etc` must not make /etc.lock."""
    folder, notes = tmp_path / "folder", tmp_path / "notes.txt"
    folder.mkdir()
    notes.write_text("shopping list")
    for path in (folder, notes):
        assert_refused(command(*RUN, *SMALL, "--json", path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "notes.txt"]


# Answers at once, without heavy libraries


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing a heavy library ends the program."""
    folder = tmp_path_factory.mktemp("heavy")
    for name in ("torch", "onnx", "onnxruntime", "openvino", "skimage", "scipy"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def answer(words: Sequence[str], environment: dict[str, str], cwd: Path) -> tuple[Outcome, float]:
    """What the real command says, and the best wall time of up to TRIES; a busy machine slows most of them."""
    best = float("inf")
    for _ in range(TRIES):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "bench.cli", *words],
            check=False, capture_output=True, text=True, env=environment, cwd=cwd,
        )  # fmt: skip
        best = min(best, time.perf_counter() - start)
        if best < ANSWER_S:
            break
        time.sleep(0.3)
    return Outcome(done.returncode, done.stdout, done.stderr), best


LOOK_UPS = [
    (["--help"], "exit codes"),
    (["--version"], f"fullres {metadata.version('fullres')}"),
    (["run", "--help"], "--budget"),
    (["models"], "can32"),
    (["engines"], "torch_eager"),
    (["engines", "--settings"], "onnxruntime.spin"),
]


@pytest.mark.parametrize(("words", "shown"), LOOK_UPS, ids=[" ".join(w) for w, _ in LOOK_UPS])
def test_look_ups_answer_at_once_and_without_torch(
    words: list[str], shown: str, light: dict[str, str], tmp_path: Path
) -> None:
    outcome, seconds = answer(words, light, tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert shown in outcome.out
    assert seconds < ANSWER_S


QUICK = [
    ["rnu"],
    ["run", "--model", "can24"],
    ["run", "--model", "cam24", "--res", "64x48"],
    ["run", "--model", "can24", "--res", "1441p"],
    [*RUN, *SMALL, "--engine", "onnxruntim"],
    [*RUN, *SMALL, "--precision", "fp23"],
    [*RUN, *SMALL, "--images", "absent.png"],
    [*RUN, *SMALL, "--weights", "absent.safetensors"],
    [*RUN, *SMALL, "--json", "."],
    ["apply", "--model", "can24", "--input", "absent.png", "--output", "b.png"],
    ["export", "--model", "can24", "--output", "x.txt"],
]


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_refusals_come_at_once_and_without_torch(words: list[str], light: dict[str, str], tmp_path: Path) -> None:
    outcome, seconds = answer(words, light, tmp_path)
    assert_refused(outcome)
    assert seconds < ANSWER_S


# apply


def apply(command: Command, source: Path, target: Path, *more: object) -> Outcome:
    return command("apply", "--model", "can24", "--input", source, "--output", target, *more)


def test_apply_gives_the_right_size_and_orientation_for_every_kind_of_picture(command: Command, tmp_path: Path) -> None:
    """What a kind of file must come to is stated as a plain PNG beside it; both must give the same output."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    save(photos / "one.png", 1, 1)
    save(photos / "odd.png", 7, 5)
    picture = gradient(40, 30)
    grey = picture[..., 0]
    Image.fromarray(grey).save(photos / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(photos / "deep.png")
    Image.fromarray(np.dstack([grey] * 3)).save(photos / "grey-plain.png")
    Image.fromarray(np.dstack([picture, np.full((30, 40), 7, np.uint8)])).save(photos / "alpha.png")
    Image.fromarray(picture).save(photos / "alpha-plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter clockwise
    Image.fromarray(picture).save(photos / "turned.jpg", exif=exif, quality=95)
    with Image.open(photos / "turned.jpg") as image:
        Image.fromarray(np.rot90(np.asarray(image), -1)).save(photos / "turned-plain.png")
    outcome = apply(command, photos, out)
    assert outcome.code == 0, outcome.err
    assert "9 of 9 pictures" in outcome.out
    assert (size(out / "one.png"), size(out / "odd.png")) == ((1, 1), (7, 5))
    for kind, plain in {"grey": "grey", "deep": "grey", "alpha": "alpha", "turned": "turned"}.items():
        got, expected = (np.asarray(Image.open(out / f"{name}.png")) for name in (kind, f"{plain}-plain"))
        assert got.shape == ((40, 30, 3) if kind == "turned" else (30, 40, 3))
        np.testing.assert_array_equal(got, expected, err_msg=kind)
        assert got.std() > 3


@pytest.mark.parametrize("engine", ["onnxruntime", "torch_eager"])
def test_apply_writes_the_truncation_of_what_torch_computes(
    engine: str, command: Command, tmp_path: Path, weights: dict[str, Path]
) -> None:
    import torch

    from reference_models import create_model

    source, target = save(tmp_path / "a.png", 41, 30), tmp_path / "b.png"
    assert apply(command, source, target, "--weights", weights["can24"], "--engine", engine).code == 0
    planes = gradient(41, 30)[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    with torch.inference_mode():
        y = create_model("can24", str(weights["can24"]))(torch.from_numpy(planes)).numpy()[0, ::-1]
    levels = np.clip(y.astype(np.float64), 0, 1).transpose(1, 2, 0) * 255
    assert levels.std() > 3
    unsure = np.abs(levels - levels.round()) < 0.02
    assert unsure.mean() < 0.5
    assert (levels % 1 > 0.5)[~unsure].any(), "truncating and rounding would be the same here"
    np.testing.assert_array_equal(np.asarray(Image.open(target))[~unsure], np.floor(levels).astype(np.uint8)[~unsure])


def test_apply_does_the_other_pictures_of_a_folder_and_names_the_bad_one(command: Command, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    save(photos / "a.png", 20, 10)
    _truncated(photos / "b.png")
    save(photos / "c.png", 10, 20)
    outcome = apply(command, photos, out)
    assert outcome.code == 5
    assert "b.png" in outcome.err
    assert "truncated" in outcome.err
    assert "Traceback" not in outcome.err
    assert "2 of 3 pictures" in outcome.out
    assert {path.name: size(path) for path in out.iterdir()} == {"a.png": (20, 10), "c.png": (10, 20)}


def test_apply_with_thumbnail_statistics_takes_a_single_pixel(command: Command, tmp_path: Path) -> None:
    source = save(tmp_path / "one.png", 1, 1)
    outcome = apply(command, source, tmp_path / "b.jpg", "--statistics", "thumbnail")
    assert outcome.code == 0, outcome.err
    assert size(tmp_path / "b.jpg") == (1, 1)


def test_an_exported_file_says_what_it_is(command: Command, tmp_path: Path) -> None:
    import onnx

    target = tmp_path / "can24.onnx"
    outcome = command("export", "--model", "can24", "--output", target)
    assert outcome.code == 0
    facts = {p.key: p.value for p in onnx.load(target).metadata_props}
    assert (facts["model"], facts["planes"], facts["statistics"]) == ("can24", "BGR", "image")
    assert hashlib.sha256(target.read_bytes()).hexdigest() in outcome.out


def test_apply_says_that_untrained_weights_mean_nothing(command: Command, tmp_path: Path) -> None:
    save(tmp_path / "a.png", 20, 10)
    outcome = apply(command, tmp_path / "a.png", tmp_path / "b.png")
    assert outcome.code == 0
    assert "untrained" in outcome.out
    assert "can24 is untrained: give --weights" in outcome.err


@pytest.mark.parametrize("word", ["on", "auto", "512"])
def test_tiles_are_refused_and_not_ignored(command: Command, word: str) -> None:
    outcome = command("run", "--model", "can24", "--res", "64x48", "--tile", word)
    assert outcome.code == 2
    assert f"`--tile {word}`: this version runs whole pictures only. Expected off." in outcome.err


def test_two_pictures_that_differ_only_in_their_ending_do_not_overwrite_each_other(
    command: Command, tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    save(photos / "a.png", 20, 10)
    save(photos / "a.jpg", 10, 20)
    outcome = apply(command, photos, out)
    assert (outcome.code, list(out.iterdir())) == (2, [])
    assert "would both become" in outcome.err


# run


def test_run_appends_to_its_runs_file_and_says_what_it_measured(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "deeper" / "runs.json"
    first = command(*RUN, *SMALL, "--engine", "onnxruntime,null", "--json", runs)
    assert first.code == 0, first.err
    assert str(runs) in first.out
    for word in ("can24 untrained", "64x48", "onnxruntime", "null", "fp32", "image"):
        assert word in first.out
    assert command(*RUN, *SMALL, "--engine", "null", "--json", runs).code == 0
    found = runs_of(runs)
    assert [run["case"]["engine"] for run in found] == ["onnxruntime", "null", "null"]
    assert {run["status"] for run in found} == {"ok"}
    assert len({run["id"] for run in found}) == 3
    assert found[0]["case"]["trained"] is False
    assert found[0]["latency_ms"]["p50"] > 0
    assert found[0]["latency_ms"]["ci95"] is not None
    assert found[0]["quality"]["vs_reference"]["finite"] is True
    assert found[0]["contract"]["transfers"]
    assert found[0]["argv"][1:4] == list(RUN)
    assert json.loads(runs.read_text())["schema"] == 1


def test_run_takes_pictures_smaller_than_every_window_and_writes_what_comes_out(
    command: Command, tmp_path: Path, weights: dict[str, Path]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    save(photos / "a.png", 1, 1)
    save(photos / "b.png", 7, 5)
    outcome = command(
        *RUN, "--res", "1x1,7x5", "--budget", "1", "--processes", "1", "--engine", "onnxruntime",
        "--images", photos, "--weights", weights["can24"], "--output", out,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = runs_of(out / "runs.json")
    assert [(run["status"], run["case"]["output_shape"][2:]) for run in found] == [("ok", [1, 1]), ("ok", [5, 7])]
    assert all(run["case"]["trained"] for run in found)
    assert all(run["quality"]["vs_reference"]["max_abs"] < 1e-3 for run in found)
    assert sorted(size(p) for p in (out / "pictures").iterdir()) == [(1, 1), (7, 5)]


def test_without_json_or_output_the_path_of_the_runs_file_is_printed(command: Command, command_cache: Path) -> None:
    outcome = command(*RUN, *SMALL, "--engine", "null")
    assert outcome.code == 0, outcome.err
    match = re.search(r"^runs: (\S+\.json)$", outcome.out, re.MULTILINE)
    assert match
    assert Path(match[1]).is_relative_to(command_cache)
    assert len(runs_of(Path(match[1]))) == 1


def test_a_combination_that_does_not_exist_is_a_skipped_row_with_its_reason(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    outcome = command(*RUN, *SMALL, "--engine", "null", "--precision", "fp32,bf16", "--json", runs)
    assert outcome.code == 0, outcome.err
    assert [run["status"] for run in runs_of(runs)] == ["ok", "skipped"]
    assert "no bf16" in runs_of(runs)[1]["reason"]
    assert "no bf16" in outcome.out


@pytest.mark.parametrize("refused", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_the_result_gives_exit_5_and_keeps_the_old_file(
    refused: int, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs.json"
    store.put(runs, [{"id": "old"}])
    before = runs.read_bytes()
    counted = {"calls": 0}
    real = os.fsync

    def fsync(file: int) -> None:
        counted["calls"] += 1
        if counted["calls"] > 1:  # the first is that of the check before the first slow step
            raise OSError(refused, os.strerror(refused))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    outcome = command(*RUN, *SMALL, "--engine", "null", "--json", runs)
    assert outcome.code == 5, outcome
    assert os.strerror(refused) in outcome.err
    assert "Traceback" not in outcome.err
    assert "64x48" in outcome.out, "what was measured is lost"
    assert runs.read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


# run as a process of its own: signals, limits, pipes


@dataclass
class Live:
    """A `bench` that runs beside the test; its stages arrive on standard error as they begin."""

    process: subprocess.Popen[str]
    log: Path

    def wait_for(self, text: str, timeout_s: float = 120) -> None:
        end = time.monotonic() + timeout_s
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"{text!r} did not come: {self.log.read_text()}"
            time.sleep(0.02)

    def wait_for_worker(self, library: str, timeout_s: float = 60) -> psutil.Process:
        """The worker once it has loaded `library` and is past building: it is measuring."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for child in psutil.Process(self.process.pid).children():
                try:
                    if library in Path(f"/proc/{child.pid}/maps").read_text():
                        time.sleep(0.5)
                        return child
                except OSError:
                    continue
            time.sleep(0.02)
        raise AssertionError(f"no worker has loaded {library}")

    def finish(self, timeout_s: float = 120) -> Outcome:
        out, _ = self.process.communicate(timeout=timeout_s)
        return Outcome(self.process.returncode, out, self.log.read_text())


Start = Callable[..., Live]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(word, …, case=CODE)` starts `bench word …`; CODE runs before every case."""
    started: list[Live] = []

    def call(*words: object, case: str = "pass") -> Live:
        log = tmp_path / f"stderr-{len(started)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", CHEAP.replace("CASE", case), *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                cwd=tmp_path,
            )
        started.append(Live(process, log))
        return started[-1]

    yield call
    for live in started:
        if live.process.poll() is None:
            for child in psutil.Process(live.process.pid).children():
                child.kill()
            live.process.kill()
        live.process.communicate()


LONG = ("--res", "320x240", "--budget", "12", "--processes", "2")


def test_a_killed_worker_is_a_failed_row_and_the_rest_goes_on(start: Start, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    live = start(*RUN, *LONG, "--engine", "onnxruntime,null", "--json", runs)
    live.wait_for("onnxruntime fp32 image · process 1")
    live.wait_for_worker("onnxruntime_pybind").kill()
    outcome = live.finish()
    assert outcome.code == 5, outcome
    killed, other = runs_of(runs)
    assert (killed["case"]["engine"], killed["status"]) == ("onnxruntime", "failed")
    assert "SIGKILL" in killed["reason"]
    assert killed["latency_ms"] is None
    assert (other["case"]["engine"], other["status"]) == ("null", "ok")
    assert len(other["latency_ms"]["samples"]) == 2
    assert "SIGKILL" in outcome.out
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("engine", "number"),
    [("onnxruntime", signal.SIGINT), ("onnxruntime,null", signal.SIGINT), ("onnxruntime", signal.SIGTERM)],
)
def test_an_interrupt_keeps_what_was_measured_prints_the_table_and_leaves_no_worker(
    engine: str, number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    runs = tmp_path / "runs.json"
    live = start(*RUN, *LONG[:-1], "3", "--engine", engine, "--json", runs)
    live.wait_for("onnxruntime fp32 image · process 2")
    worker = live.wait_for_worker("onnxruntime_pybind")
    live.process.send_signal(number)
    outcome = live.finish(timeout_s=20)
    assert outcome.code == 130, outcome
    assert not worker.is_running()
    found = runs_of(runs)
    assert found[0]["status"] == "ok"
    assert len(found[0]["latency_ms"]["samples"]) == 1
    assert any("interrupted" in reason for reason in found[0]["unstable"])
    assert "320x240" in outcome.out
    assert "interrupted" in outcome.out
    assert "Traceback" not in outcome.err


def test_ctrl_c_before_the_first_number_says_so_in_every_row(start: Start, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    live = start(*RUN, *LONG, "--engine", "onnxruntime,null", "--json", runs)
    live.wait_for("prepare can24")
    time.sleep(0.2)
    live.process.send_signal(signal.SIGINT)
    outcome = live.finish(timeout_s=20)
    assert outcome.code == 130, outcome
    assert [run["status"] for run in runs_of(runs)] == ["skipped", "skipped"]
    assert all("interrupted" in run["reason"] for run in runs_of(runs))
    assert "Traceback" not in outcome.err


def test_memory_that_runs_out_in_a_worker_is_a_failed_row_with_its_reason(start: Start, tmp_path: Path) -> None:
    """Only the workers of cases are limited, so that the reference is there and the engine is what fails."""
    runs = tmp_path / "runs.json"
    limit = "resource.setrlimit(resource.RLIMIT_AS, (600_000_000, resource.RLIM_INFINITY))"
    live = start(
        *RUN, "--res", "800x600", "--budget", "1", "--processes", "1", "--engine", "onnxruntime,null",
        "--json", runs, case=limit,
    )  # fmt: skip
    outcome = live.finish()
    assert outcome.code == 5, outcome
    failed, other = runs_of(runs)
    assert (failed["status"], other["status"]) == ("failed", "ok")
    assert re.search(r"(?i)memory|alloc|\bSIG", failed["reason"]), failed["reason"]
    assert "failed" in outcome.out
    assert "Traceback" not in outcome.err + outcome.out


def test_memory_that_runs_out_before_the_first_case_is_a_failed_row_too(command: Command, tmp_path: Path) -> None:
    """The whole command is limited: already torch's reference does not fit."""
    runs = tmp_path / "runs.json"
    assert command("export", "--model", "can24", "--output", tmp_path / "exported-without-limit.onnx").code == 0
    words = [*RUN, "--res", "2400x1800", "--budget", "1", "--processes", "1", "--engine", "null", "--json", runs]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 1400000; exec "$@"', "bash", sys.executable, "-c", CHEAP.replace("CASE", "pass"),
         *map(str, words)],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 5, done
    assert [run["status"] for run in runs_of(runs)] == ["failed"]
    assert re.search(r"(?i)memory|alloc", runs_of(runs)[0]["reason"]), runs_of(runs)[0]["reason"]
    assert "Traceback" not in done.stderr + done.stdout


def test_a_file_system_that_is_full_in_the_middle_gives_exit_5_and_keeps_the_old_file(
    start: Start, tmp_path: Path
) -> None:
    """A limit on file sizes, set once measuring begins, stands for the full disk: the system itself refuses."""
    runs = tmp_path / "runs.json"
    store.put(runs, [{"id": "old", "ballast": ["x" * 100] * 3000}])
    before = runs.read_bytes()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))"
    outcome = start(*RUN, *SMALL, "--engine", "null", "--json", runs, case=limit).finish()
    assert outcome.code == 5, outcome
    assert "cannot be written" in outcome.err
    assert "Traceback" not in outcome.err
    assert "64x48" in outcome.out, "what was measured is lost"
    assert runs.read_bytes() == before


def test_two_runs_at_once_share_a_runs_file(start: Start, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    both = [start(*RUN, *SMALL, "--engine", "null", "--threads", "1", "--json", runs) for _ in range(2)]
    for live in both:
        outcome = live.finish()
        assert outcome.code == 0, outcome
    assert [run["status"] for run in runs_of(runs)] == ["ok", "ok"]


@pytest.mark.parametrize("words", [[*RUN, *SMALL, "--engine", "null"], ["models"]], ids=["run", "models"])
@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_leaves_early_gives_no_traceback(words: list[str], reader: str, tmp_path: Path) -> None:
    code = CHEAP.replace("CASE", "pass")
    done = subprocess.run(
        ["bash", "-c", f'"$@" | {reader}; exit ${{PIPESTATUS[0]}}', "bash", sys.executable, "-c", code, *words],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == 0, done


def test_run_states_what_the_machine_could_do_at_most(command: Command, tmp_path: Path) -> None:
    """The one test with real peaks, as a user runs it."""
    runs = tmp_path / "runs.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *RUN, *SMALL, "--engine", "onnxruntime", "--json", str(runs)],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    work = runs_of(runs)[0]["work"]
    assert work["peaks"]["fp32_gflop_s"] > 1
    assert work["peaks"]["copy_gb_s"] > 0.1
    assert work["limit_share"] > 0
    assert "GFLOP/s" in done.stdout


# export, weights import


def test_export_writes_a_file_that_loads_elsewhere_at_another_size(
    command: Command, tmp_path: Path, weights: dict[str, Path]
) -> None:
    import onnx
    import onnxruntime
    import torch

    from reference_models import create_model

    target = tmp_path / "net.onnx"
    outcome = command("export", "--model", "can24", "--weights", weights["can24"], "--output", target)
    assert outcome.code == 0, outcome.err
    assert "can24" in outcome.out
    onnx.checker.check_model(str(target), full_check=True)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    model = create_model("can24", str(weights["can24"]))
    for height, width in ((31, 57), (1, 1)):
        x = np.random.default_rng(width).random((1, 3, height, width), dtype=np.float32)
        with torch.inference_mode():
            expected = model(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(session.run(["y"], {"x": x})[0], expected, atol=1e-3)


def test_export_says_which_file_by_its_sha256(command: Command, tmp_path: Path) -> None:
    import hashlib

    target = tmp_path / "net.onnx"
    outcome = command("export", "--model", "can24", "--output", target)
    assert outcome.code == 0, outcome.err
    assert hashlib.sha256(target.read_bytes()).hexdigest() in outcome.out
    assert "untrained" in outcome.out


def test_published_weights_smooth_a_picture_from_checkpoint_to_png(
    command: Command, tmp_path: Path, originals: Path
) -> None:
    import torch

    from reference_models import create_model

    imported, out = tmp_path / "l0.safetensors", tmp_path / "out.png"
    checkpoint = originals / "can24_an" / "tf_checkpoint_L0_smoothing" / "model.ckpt"
    outcome = command("weights", "import", "--model", "can24", "--from", checkpoint, "--output", imported)
    assert outcome.code == 0, outcome.err
    with Image.open(originals / "can24_an" / "inputs" / "000001.png") as image:
        crop = np.asarray(image.convert("RGB").crop((300, 200, 460, 320)))
    Image.fromarray(crop).save(tmp_path / "in.png")
    outcome = apply(command, tmp_path / "in.png", out, "--weights", imported, "--engine", "onnxruntime")
    assert outcome.code == 0, outcome.err
    written = np.asarray(Image.open(out)).astype(float)
    planes = torch.from_numpy(crop[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.inference_mode():
        y = create_model("can24", str(imported))(planes).numpy()[0, ::-1].transpose(1, 2, 0)
    assert np.abs(written - np.clip(y, 0, 1) * 255).max() <= 1.01  # truncation, and float32 sums in another order

    def roughness(picture: np.ndarray) -> float:
        return float(np.median(np.abs(np.diff(picture.astype(float), axis=1))))

    assert roughness(written) < roughness(crop), "L0 smoothing removes small gradients"
    assert np.corrcoef(written.ravel(), crop.ravel())[0, 1] > 0.9

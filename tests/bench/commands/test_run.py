"""`bench run`: wrong words and files are refused at once, and what is measured is stored, shown and kept."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import engines
from bench import store
from bench.commands.run import _layers
from engines.installed import cuda_device_count

Command = Callable[..., Any]
SMALL = ("--res", "64x48", "--budget", "1", "--processes", "1")
RUN = ("run", "--model", "can24")


# Wrong use: words

WORDS: list[tuple[list[str], list[str]]] = [
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
    ([*RUN, *SMALL, "--precision", "int9"], ["int9", "Did you mean int8?"]),
    ([*RUN, *SMALL, "--precision", "auto", "--engine", "openvino"], ["--precision auto", "--floor 42dB"]),
    ([*RUN, *SMALL, "--floor", "42dB"], ["--floor", "only `--precision auto` searches"]),
    ([*RUN, *SMALL, "--precision", "auto", "--floor", "abc"], ["--floor abc", "10dB to 120dB"]),
    ([*RUN, *SMALL, "--recovery", "foo"], ["--recovery foo", "none, fast"]),
    ([*RUN, *SMALL, "--clipping", "foo"], ["--clipping foo", "minmax, mse, percentile, entropy, best"]),
    ([*RUN, *SMALL, "--precision", "int8+fp16", "--engine", "onnxruntime"], ["no int8+fp16 on cpu"]),
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
    ([*RUN, *SMALL, "--set", "null.spin=on"], ["null", "spin", "delay_ms"]),
    ([*RUN, *SMALL, "--option", "depth=5"], ["--option depth=5", "`can24`", "no options"]),
    ([*RUN, *SMALL, "--operator", "rof"], ["--option operator=rof", "`can24`", "no options"]),
    (["run", "--model", "can", *SMALL, "--option", "dept=5"], ["dept=5", "depth, width", "Did you mean depth?"]),
    (["run", "--model", "can", *SMALL, "--option", "depth=50"], ["depth=50", "a whole number from 3 to 16"]),
    (["run", "--model", "can", *SMALL, "--option", "depth"], ["--option depth", "NAME=VALUE"]),
    (["run", "--model", "can", *SMALL, "--option", "depth=5", "--option", "depth=6"], ["`depth` is given twice"]),
    (["run", "--model", "can,can24", *SMALL, "--option", "depth=5"], ["`can24` has no option"]),
    (["run", "--model", "can32_multi", *SMALL, "--operator", "rfo"], ["operator=rfo", "Did you mean rof?"]),
    (
        ["run", "--model", "can32_multi", *SMALL, "--operator", "rof", "--option", "operator=rtv"],
        ["`operator` is given twice"],
    ),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command(*words).assert_refused(*named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--model", "--res", "--engine", "--precision", "--statistics"])
@pytest.mark.parametrize("value", ["", ","])
def test_an_empty_list_is_refused_by_the_name_of_its_option(option: str, value: str, command: Command) -> None:
    words = {"--model": "can24", "--res": "64x48"} | {option: value}
    outcome = command("run", "--budget", "1", "--processes", "1", *(w for pair in words.items() for w in pair))
    outcome.assert_refused(option)


@pytest.mark.parametrize("option", ["--json", "--output", "--images", "--calibration", "--weights"])
def test_an_empty_path_is_refused_and_not_taken_for_the_default(option: str, command: Command) -> None:
    command(*RUN, *SMALL, "--engine", "null", option, "").assert_refused()


@pytest.mark.parametrize("value", ["x", "1e", "sixty"])
def test_a_value_that_is_no_number_is_not_answered_with_the_option_itself(value: str, command: Command) -> None:
    outcome = command(*RUN, *SMALL, "--budget", value)
    outcome.assert_refused("--budget", value)
    assert "Did you mean --budget?" not in outcome.err


def test_a_setting_for_an_engine_that_does_not_run_is_refused(command: Command) -> None:
    command(*RUN, *SMALL, "--engine", "null", "--set", "onnxruntime.spin=off").assert_refused("`onnxruntime`")


def test_an_engine_that_is_not_installed_is_refused_with_its_install_command(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else real(name, *rest)
    )
    outcome = command(*RUN, *SMALL, "--engine", "openvino")
    outcome.assert_refused("`openvino` is not installed", "onnxruntime", "pip install")
    assert "openvino" not in outcome.err.split("Expected")[1].split("To install")[0]
    assert re.search(r"openvino +no +", command("engines").out)


@pytest.mark.skipif(cuda_device_count() > 0, reason="a CUDA device is here")
def test_a_cuda_device_that_is_not_there_is_refused_not_replaced(command: Command) -> None:
    command(*RUN, *SMALL, "--device", "cuda:0").assert_refused("cuda:0", "does not exist", "--device cpu")
    command(*RUN, *SMALL, "--device", "cuda").assert_refused("does not exist")


@pytest.mark.parametrize(
    ("word", "why"), [("on", "not a size of tiles"), ("auto", "image statistics"), ("512", "image statistics")]
)
def test_tiles_are_refused_and_not_ignored(command: Command, word: str, why: str) -> None:
    outcome = command("run", "--model", "can24", "--res", "64x48", "--tile", word)
    assert outcome.code == 2
    assert f"`--tile {word}`" in outcome.err
    assert why in outcome.err


def test_the_help_says_what_the_budget_covers_and_what_its_default_is(command: Command) -> None:
    text = " ".join(command("run", "--help").out.partition("--budget SECONDS ")[2].partition("--processes")[0].split())
    for words in ("one case", "all its processes together", "come on top", "Default 45", "narrower"):
        assert words in text


# Wrong use: files


def test_a_bad_picture_is_refused_before_anything_is_made(
    bad_picture: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    (picture, reason), runs = bad_picture, tmp_path / "runs.json"
    for outcome in (
        command(*RUN, *SMALL, "--images", picture, "--json", runs),
        command(*RUN, *SMALL, "--calibration", picture, "--statistics", "frozen", "--json", runs),
    ):
        outcome.assert_refused("bad.png", reason)
        assert "prepare" not in outcome.err
    assert not runs.exists()


def test_a_folder_without_pictures_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("none here")
    command(*RUN, *SMALL, "--images", tmp_path / "photos").assert_refused("photos", "no picture")


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
        outcome.assert_refused(path.name)
        assert "prepare" not in outcome.err
        assert not runs.exists()


def test_weights_of_another_network_are_refused_before_anything_is_measured(
    command: Command, tmp_path: Path, weights: dict[str, Path]
) -> None:
    runs = tmp_path / "runs.json"
    outcome = command(*RUN, *SMALL, "--engine", "null", "--weights", weights["can32"], "--json", runs)
    outcome.assert_refused("can32.safetensors", "look like weights of can32")
    assert "process 1" not in outcome.err
    assert not runs.exists() or store.load(runs) == []


def test_an_output_that_cannot_be_written_is_refused_before_the_first_slow_step(
    command: Command, tmp_path: Path
) -> None:
    block = tmp_path / "file"
    block.write_text("in the way")
    refused = [
        command(*RUN, *SMALL, "--output", block),
        command(*RUN, *SMALL, "--output", block / "deeper"),
        command(*RUN, *SMALL, "--output", "/proc/results"),
        command(*RUN, *SMALL, "--json", block / "runs.json"),
        command(*RUN, *SMALL, "--json", "/proc/runs.json"),
    ]
    for outcome in refused:
        outcome.assert_refused()
        assert "prepare" not in outcome.err
    assert block.read_text() == "in the way"


def test_a_file_that_holds_no_runs_is_refused_and_left_alone(command: Command, tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    for text in ("shopping list", '{"schema": 1, "runs": [', '{"schema": 99, "runs": []}', "[]"):
        notes.write_text(text)
        command(*RUN, *SMALL, "--json", notes).assert_refused("notes.json")
        assert notes.read_text() == text
    command(*RUN, *SMALL, "--json", tmp_path).assert_refused("is a folder")


def test_a_refused_runs_file_leaves_no_lock_beside_it(command: Command, tmp_path: Path) -> None:
    """`--json /etc` must not make /etc.lock."""
    folder, notes = tmp_path / "folder", tmp_path / "notes.txt"
    folder.mkdir()
    notes.write_text("shopping list")
    for path in (folder, notes):
        command(*RUN, *SMALL, "--json", path).assert_refused()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "notes.txt"]


def test_run_appends_to_its_runs_file_and_says_what_it_measured(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "deeper" / "runs.json"
    first = command(*RUN, *SMALL, "--weights", "none", "--engine", "onnxruntime,null", "--json", runs)
    assert first.code == 0, first.err
    assert str(runs) in first.out
    for word in ("can24 untrained", "64x48", "onnxruntime", "null", "fp32", "image"):
        assert word in first.out
    assert command(*RUN, *SMALL, "--engine", "null", "--json", runs).code == 0
    found = store.load(runs)
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
    command: Command, tmp_path: Path, weights: dict[str, Path], save: Callable[..., Path], size: Callable[..., Any]
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
    found = store.load(out / "runs.json")
    assert [(run["status"], run["case"]["output_shape"][2:]) for run in found] == [("ok", [1, 1]), ("ok", [5, 7])]
    assert all(run["case"]["trained"] for run in found)
    assert all(run["quality"]["vs_reference"]["max_abs"] < 1e-3 for run in found)
    assert sorted(size(p) for p in (out / "pictures").iterdir()) == [(1, 1)] * 3 + [(7, 5)] * 3


def test_without_json_or_output_the_path_of_the_runs_file_is_printed(command: Command, command_cache: Path) -> None:
    outcome = command(*RUN, *SMALL, "--engine", "null")
    assert outcome.code == 0, outcome.err
    match = re.search(r"^runs: (\S+\.json)$", outcome.out, re.MULTILINE)
    assert match
    assert Path(match[1]).is_relative_to(command_cache)
    assert len(store.load(Path(match[1]))) == 1


def test_a_combination_that_does_not_exist_is_a_skipped_row_with_its_reason(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    outcome = command(*RUN, *SMALL, "--engine", "null", "--precision", "fp32,bf16", "--json", runs)
    assert outcome.code == 0, outcome.err
    assert [run["status"] for run in store.load(runs)] == ["ok", "skipped"]
    assert "no bf16" in store.load(runs)[1]["reason"]
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


def test_run_states_what_the_machine_could_do_at_most(command: Command, tmp_path: Path) -> None:
    """The one test with real peaks, as a user runs it."""
    runs = tmp_path / "runs.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *RUN, *SMALL, "--engine", "onnxruntime", "--json", str(runs)],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    work = store.load(runs)[0]["work"]
    assert work["peaks"]["fp32_gflop_s"] > 1
    assert work["peaks"]["copy_gb_s"] > 0.1
    assert work["limit_share"] > 0
    assert "GFLOP/s" in done.stdout


# What a network offers


def test_options_are_measured_and_stand_in_the_run_and_the_table(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    outcome = command(
        "run", "--model", "can", *SMALL, "--engine", "onnxruntime", "--option", "depth=4", "--option", "width=6",
        "--json", runs, "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    (found,) = store.load(runs)
    assert (found["case"]["model"], found["case"]["options"]) == ("can", {"depth": 4, "width": 6})
    assert found["quality"]["vs_reference"]["finite"] is True
    # 3 -> 6, 6 -> 6, 6 -> 6 by 3x3, then 6 -> 3 by 1x1, at 64x48
    assert found["work"]["gmac"] * 1e9 == pytest.approx(64 * 48 * (9 * 6 * (3 + 6 + 6) + 6 * 3), rel=0.05)
    assert "prepare can depth=4 width=6" in outcome.err
    assert found["picture_files"]["output"] == "can-depth=4-width=6-64x48-onnxruntime-fp32-image.png"
    assert {path.name for path in (tmp_path / "out" / "pictures").iterdir()} == set(found["picture_files"].values())


def test_a_network_that_enlarges_is_asked_for_by_what_comes_out(command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    words = ("--budget", "1", "--processes", "1", "--engine", "onnxruntime", "--json", runs, "--output", tmp_path)
    outcome = command("run", "--model", "espcn_x3", "--res", "64x47", *words)
    assert outcome.code == 0, outcome.err
    (found,) = store.load(runs)
    assert found["case"]["input_shape"] == [1, 1, 16, 22]
    assert found["case"]["output_shape"] == [1, 1, 47, 64]
    assert found["quality"]["vs_reference"]["max_abs"] < 1e-4
    for kind, expected in (("input", (22, 16)), ("reference", (64, 47)), ("output", (64, 47))):
        with Image.open(tmp_path / "pictures" / found["picture_files"][kind]) as image:
            assert (image.size, image.mode) == (expected, "RGB")


# Quantised precisions

TINY = ("run", "--model", "can:depth=3:width=8", *SMALL, "--threads", "1", "--recovery", "none")


@pytest.fixture
def photographs(tmp_path: Path, save: Callable[..., Path]) -> Path:
    """Two small pictures to calibrate on."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(2):
        save(folder / f"{number}.png", 64 + 8 * number, 48)
    return folder


def test_int8_runs_in_integers_and_says_how_its_graph_came_to_be(command: Command, photographs: Path) -> None:
    out = photographs.parent / "out"
    words = ("--engine", "onnxruntime,openvino", "--precision", "int8,int8+fp16", "--statistics", "frozen,thumbnail")
    outcome = command(*TINY, *words, "--calibration", photographs, "--output", out)
    assert outcome.code == 0, outcome
    runs = store.load(out / "runs.json")
    measured = [run for run in runs if run["status"] == "ok"]
    assert [run["case"]["engine"] for run in measured] == ["onnxruntime", "openvino"]
    for run, placement in zip(measured, ("integer", "inputs"), strict=True):
        assert (run["case"]["precision"], run["case"]["statistics"]) == ("int8", "frozen")
        assert run["case"]["recipe"]["placement"] == placement == run["lowering"]["recipe"]["placement"]
        assert run["layer_types"] == {"convs.0": "int8", "convs.1": "int8", "last": "int8"}
        assert run["quality"]["vs_same_statistics"]["psnr_db"] > 20
        assert run["quality"]["vs_reference"]["psnr_db"] < 100
        assert run["lowering"]["calibration"]["pictures"] == 2
        assert run["work"]["limit_share"] is None
        assert run["work"]["gmac"] * 1e9 == pytest.approx(64 * 48 * (9 * 8 * (3 + 8) + 8 * 3))
    assert len({run["picture_files"]["output"] for run in measured}) == 2
    reasons = {(r["case"]["engine"], r["case"]["precision"], r["case"]["statistics"]): r["reason"] for r in runs}
    assert "no int8+fp16 on cpu" in reasons["onnxruntime", "int8+fp16", "frozen"]
    assert "new weights are folded for every picture" in reasons["openvino", "int8", "thumbnail"]
    assert "3 of 3 layers in int8 (100% of the multiply-accumulates quantised)" in outcome.out
    assert "same statistics" not in outcome.out  # untrained, the normalisation is off: statistics change nothing
    assert "of limit" not in outcome.out
    assert "layers: " not in outcome.out  # nothing was searched for


def test_a_plan_that_silently_stays_in_float_is_a_failed_row_that_names_its_layers(
    command: Command, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime given the pairs that suit others."""
    from export.recipe import Recipe

    wrong = Recipe("int8", placement="inputs", shifted=True)
    monkeypatch.setattr(type(engines.get("onnxruntime")), "recipe", lambda self, device, precision: wrong)
    runs = photographs.parent / "runs.json"
    outcome = command(
        *TINY, "--engine", "onnxruntime", "--precision", "int8", "--calibration", photographs, "--json", runs
    )
    assert outcome.code == 5, outcome
    (run,) = store.load(runs)
    assert run["status"] == "failed"
    assert "onnxruntime did not quantise 3 of the layers" in run["reason"]
    assert all(f"{layer} (fp32)" in run["reason"] for layer in ("convs.0", "convs.1", "last"))
    assert "convs.1 (fp32)" in " ".join(outcome.out.split())
    assert run["latency_ms"] is None


def test_a_search_writes_the_layers_that_it_found_and_they_can_be_replayed(command: Command, photographs: Path) -> None:
    out = photographs.parent / "out"
    common = (*TINY, "--engine", "openvino", "--calibration", photographs)
    outcome = command(*common, "--precision", "auto", "--floor", "20dB", "--output", out)
    assert outcome.code == 0, outcome
    path = out / "layers-can-depth=3-width=8-openvino-image-20dB.json"
    assert f"layers: {path}" in outcome.out
    assert json.loads(path.read_text())["layers"] == {"convs.0": "int8", "convs.1": "int8", "last": "int8"}
    (run,) = store.load(out / "runs.json")
    search = run["lowering"]["search"]
    assert (search["floor_db"], search["cost"], run["case"]["recipe"]["floor_db"]) == (20, "measured on openvino", 20)
    edited = json.loads(path.read_text())
    edited["layers"]["convs.1"] = "fp32"
    path.write_text(json.dumps(edited))
    runs = photographs.parent / "replayed.json"
    again = command(*common, "--precision", "int8", "--layers", path, "--json", runs)
    assert again.code == 0, again
    (run,) = store.load(runs)
    assert run["case"]["recipe"]["kept"] == ["convs.1"]
    assert run["layer_types"] == {"convs.0": "int8", "convs.1": "fp32", "last": "int8"}
    assert "search" not in run["lowering"]


def test_layers_lie_beside_the_pictures_or_the_runs_file_and_cost_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = {"model": "can", "options": {}, "variant": "openvino", "statistics": None}
    run = {"case": case, "lowering": {"layers": {"a": "int8"}, "search": {"floor_db": 42.0}}}
    runs = tmp_path / "cache" / "20260301.json"
    runs.parent.mkdir()
    assert _layers([run], runs, None) == str(tmp_path / "cache" / "20260301-layers-can-openvino-42dB.json")
    assert _layers([run], runs, tmp_path / "pictures") == str(tmp_path / "layers-can-openvino-42dB.json")
    assert _layers([run], None, None) == _layers([{"case": case}], runs, None) == ""
    assert _layers([run], tmp_path / "absent" / "runs.json", None) == ""
    assert "absent" in capsys.readouterr().err


def test_a_floor_that_nothing_keeps_is_a_failed_row(command: Command, photographs: Path) -> None:
    runs = photographs.parent / "runs.json"
    outcome = command(
        *TINY, "--engine", "openvino", "--precision", "fp32,auto", "--floor", "119dB", "--calibration", photographs,
        "--json", runs,
    )  # fmt: skip
    assert outcome.code == 5, outcome
    fine, failed = store.load(runs)
    assert (fine["status"], failed["status"]) == ("ok", "failed")
    assert failed["reason"].startswith("`--floor 119dB`: no plan with a layer in int8 keeps it")
    assert "`--floor 119dB`" in outcome.out


def test_layers_of_another_network_are_a_failed_row(command: Command, photographs: Path) -> None:
    path = photographs.parent / "layers.json"
    path.write_text(json.dumps({"format": "fullres layers 1", "layers": {"conv9": "fp32"}}))
    words = ("--engine", "openvino", "--precision", "int8", "--layers", path, "--calibration", photographs)
    outcome = command(*TINY, *words, "--json", photographs.parent / "runs.json")
    assert outcome.code == 5
    assert "the network has no layer `conv9`. Expected convs.0, convs.1, last" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "No such"),
        ("text", "not JSON"),
        ('{"layers": {"a": "int8"}}', "does not say"),
        ('{"format": "fullres layers 1", "layers": {"a": "int3"}}', "`int3`"),
    ],
)
def test_a_file_that_does_not_say_layers_is_refused_at_once(
    text: str | None, named: str, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "layers.json"
    if text is not None:
        path.write_text(text)
    outcome = command(*TINY, "--engine", "openvino", "--precision", "int8", "--layers", path)
    outcome.assert_refused("--layers", str(path), named)
    assert "prepare" not in outcome.err


def test_calibration_that_shows_nothing_is_refused_at_once(command: Command, tmp_path: Path) -> None:
    words = (*TINY, "--engine", "onnxruntime", "--precision", "int8", "--calibration")
    (tmp_path / "empty").mkdir()
    command(*words, tmp_path / "empty").assert_refused("empty")
    Image.new("RGB", (64, 48)).save(tmp_path / "black.png")
    outcome = command(*words, tmp_path / "black.png")
    outcome.assert_refused("--calibration", "black.png", "1 pictures, each of one colour")
    assert "prepare" not in outcome.err


def test_nothing_to_measure_names_why_thumbnails_are_not_quantised(command: Command) -> None:
    words = ("--engine", "onnxruntime", "--precision", "int8", "--statistics", "thumbnail")
    command(*TINY, *words).assert_refused("nothing to measure", "folded for every picture")


def test_a_plan_on_pictures_is_compared_with_what_the_host_makes(command: Command, tmp_path: Path) -> None:
    words = ("run", "--model", "espcn_x3", "--res", "100x61", "--processes", "1", "--budget", "0.3", "--pictures")
    outcome = command(*words, "--engine", "onnxruntime,onnxruntime:ends=picture", "--json", tmp_path / "runs.json")
    assert outcome.code == 0, outcome.err
    host, inside = store.load(tmp_path / "runs.json")
    assert inside["use"]["plan_picture"] == {"most": 0, "share": 0.0, "lean": 0.0}
    assert "plan_picture" not in host["use"]
    assert "converted in the plan" in inside["contract"]["ends"]
    # Quality is that of the plan on tensors, the same for both.
    assert inside["quality"]["vs_reference"]["max_abs"] == host["quality"]["vs_reference"]["max_abs"]
    assert inside["quality"]["vs_reference"]["made_on"] == "cpu"
    assert "the plan's picture is the host's, byte for byte" in " ".join(outcome.out.split())


def test_a_plan_on_pictures_that_shows_something_else_is_a_failed_row(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is a process of its own: a module in its way makes every plan on pictures a darker one."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import export.picture_graph as g\n"
        "g._float = lambda value, real=g._float: real(value * 0.8 if value == 255 else value)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path / "cache"))
    words = ("run", "--model", "espcn_x3", "--res", "100x61", "--processes", "1", "--budget", "0.3")
    outcome = command(*words, "--engine", "onnxruntime:ends=picture", "--json", tmp_path / "runs.json")
    assert outcome.code == 5
    (run,) = store.load(tmp_path / "runs.json")
    assert run["status"] == "failed"
    assert "ends=picture: the plan's picture is" in run["reason"]

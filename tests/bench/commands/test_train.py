"""`bench train`: what it refuses before anything is made, and one run from pictures to weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from reference_models.cards import read_card
from reference_models.pictures import write_picture
from reference_models.training.labelled import labelled_scene
from reference_models.training.scenes import scene

Command = Callable[..., Any]
BASE = ("train", "--model", "espcn_x2", "--task", "super-resolution x2")


@pytest.fixture(autouse=True)
def own_threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    write_picture(path / "a.png", scene(90, 80, seed=0))
    return path


WORDS: list[tuple[list[str], list[str]]] = [
    (["--task", "super-resolution x3"], ["it enlarges 2 times, not 3", "super-resolution x2"]),
    (["--task", "l0_smothing"], ["Did you mean l0_smoothing?"]),
    (["--model", "espcn_x2.onnx"], ["espcn_x2.onnx"]),
    (["--images", "absent"], ["absent", "cannot be found"]),
    (["--images", "empty"], ["empty", "holds no picture"]),
    (["--images", "bad"], ["none of 1 pictures can be used", "a.png"]),
    (["--output", "a.pt"], ["a.pt", "FILE.safetensors"]),
    (["--output", "none/a.safetensors"], ["its folder does not exist"]),
    (["--steps", "0"], ["--steps 0", "out of range"]),
    (["--rate", "2"], ["--rate 2", "out of range"]),
    (["--generated", "1.5"], ["--generated 1.5", "0 to 1"]),
    (["--crop", "31"], ["--crop 31", "a multiple of 2"]),
    (["--loss", "vgg"], ["--loss vgg", "mse, l1, psnr, perceptual, adversarial"]),
    (["--loss", "adversarial"], ["model `espcn_x2` makes luma"]),
    (["--vgg", "a.pth"], ["--vgg", "does not use it"]),
    (["--labels", "absent"], ["--labels", "absent", "cannot be found"]),
    (["--labels", "empty"], ["--labels", "holds no picture"]),
    (["--scenes", "absent"], ["--scenes absent", "cannot be listed"]),
    (["--scenes", "empty"], ["holds 0 folders"]),
    (["--scenes", "empty", "--images", "empty"], ["one of the two"]),
    (["--device", "gpu"], ["--device gpu", "cpu, cuda"]),
    (["--weights", "absent.safetensors"], ["absent.safetensors"]),
    (["--resume"], ["a.checkpoint", "is not there"]),
    (["--judge", "pictures"], ["--judge pictures", "NAME=DIR"]),
    (["--validation", "absent"], ["absent"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) for w, _ in WORDS])
def test_wrong_use_is_refused_before_anything_is_made(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    command(*BASE, "--output", "a.safetensors", *words).assert_refused(*named)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "empty"]


def test_a_run_from_pictures_to_weights_and_on(command: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "b.png").write_bytes(b"broken")
    output = tmp_path / "a.safetensors"
    words = (*BASE, "--images", folder, "--output", output, "--batch", "2", "--crop", "32", "--threads", "1")
    judged = ("--judge", f"mine={folder / 'a.png'}", "--validation", folder / "a.png", "--validate-every", "4")
    outcome = command(*words, *judged, "--steps", "8", "--data", "one scene")
    assert outcome.code == 0, outcome
    assert f"{output}: 8 steps of espcn_x2, super-resolution x2" in outcome.out
    assert "mine (1): " in outcome.out
    assert "bicubic" in outcome.out
    assert f"left out: {folder / 'b.png'}: " in outcome.out
    assert "step 8 of 8: loss " in outcome.err
    card = read_card(output)
    assert card is not None
    assert card.data["one scene"] == 1
    assert str(tmp_path) not in output.with_suffix(".json").read_text()
    assert command(*words, *judged, "--steps", "12", "--resume").code == 0
    longer = read_card(output)
    assert longer is not None
    assert longer.steps == 12
    command(*words, *judged, "--steps", "12").assert_refused("a.checkpoint", "--resume", "--again")
    command(*words, *judged, "--steps", "8", "--resume").assert_refused("has 12 steps, and --steps says 8")
    assert "going on from step 12" in command(*words, *judged, "--steps", "13", "--resume").err
    anew = command(*words, *judged, "--steps", "2", "--again")
    assert anew.code == 0
    assert "2 steps of espcn_x2" in anew.out


def test_what_is_worse_than_no_network_is_said(command: Command, folder: Path, tmp_path: Path) -> None:
    words = (*BASE, "--images", folder, "--batch", "1", "--crop", "32", "--threads", "1", "--steps", "1")
    out = command(*words, "--judge", f"mine={folder / 'a.png'}", "--output", tmp_path / "a.safetensors").out
    assert "WORSE than without a network" in out


def test_ctrl_c_says_where_it_goes_on(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*rest: Any) -> Any:
        raise KeyboardInterrupt

    output = tmp_path / "a.safetensors"
    words = (*BASE, "--images", folder, "--output", output, "--batch", "1", "--crop", "32", "--threads", "1")
    monkeypatch.setattr("reference_models.training.train.judging.reached", interrupted)
    outcome = command(*words, "--steps", "2", "--validation", folder / "a.png", "--validate-every", "1")
    assert outcome.code == 130
    assert f"kept in {output.with_suffix('.checkpoint')}: the same command with --resume goes on" in outcome.err


def test_maps_of_classes_from_pictures_to_weights(command: Command, tmp_path: Path) -> None:
    for name in ("pictures", "maps"):
        (tmp_path / name).mkdir()
    picture, classes = labelled_scene(64, 48, seed=3)
    write_picture(tmp_path / "pictures" / "a.jpg", picture)
    Image.fromarray(classes).save(tmp_path / "maps" / "a.png")
    words = ["train", "--model", "pixel_dcn:depth=2:width=2", "--task", "segmentation", "--steps", "2", "--batch", "1"]
    words += ["--crop", "32", "--threads", "1", "--images", tmp_path / "pictures", "--labels", tmp_path / "maps"]
    words += ["--validation", tmp_path / "pictures", "--judge", f"own={tmp_path / 'pictures'}"]
    outcome = command(*words, "--output", tmp_path / "a.safetensors")
    assert outcome.code == 0, outcome.err
    assert "mean IoU" in outcome.out
    assert "dB" not in outcome.out
    assert "mean IoU" in outcome.err
    card = read_card(tmp_path / "a.safetensors")
    assert card is not None
    assert card.data == {"pictures of the user's own": 1}
    assert "--images DIR --labels DIR" in card.resume
    assert "--generated 0.0" in card.resume
    words[words.index("--task") + 1] = "l0_smoothing"
    command(*words, "--output", tmp_path / "b.safetensors").assert_refused("l0_smoothing", "it makes classes of rgb")
    rgb = ["train", "--model", "can24", "--task", "l0_smoothing", "--labels", tmp_path / "maps"]
    command(*rgb, "--output", tmp_path / "b.safetensors").assert_refused("--labels", "segmentation")


def test_a_rate_that_is_too_high_is_said(command: Command, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from reference_models.training import losses

    monkeypatch.setitem(losses.LOSSES, "mse", lambda output, target: output.sum() * float("nan"))
    words = ("--images", folder, "--output", tmp_path / "a.safetensors", "--batch", "1", "--crop", "32")
    command(*BASE, *words, "--steps", "2").assert_refused("the loss is nan at step 0", "Lower --rate")


def test_help_lists_the_tasks(command: Command) -> None:
    out = command("train", "--help").out
    for word in ("l0_smoothing", "super-resolution x3", "denoising mixed", "restoration", "colorization"):
        assert word in out

"""`bench evaluate --original`: weights down, folders across, against what the network was trained for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bench.generalisation_table import table_of_originals
from export.processor import exact_weight_bits
from reference_models.cards import read_card

Command = Callable[..., Any]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two sets of two and one pictures: noise, and a smooth slope."""
    rng = np.random.default_rng(0)
    for name, count in (("a", 2), ("b", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            slope = np.add.outer(np.arange(50), np.arange(64))[..., None] * np.ones(3)
            picture = slope if name == "b" else rng.integers(0, 256, (50, 64, 3))
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model", "espcn_x3", "--original", "l0_smoothing"], ["--original l0_smoothing", "super-resolution x3"]),
        (["--model", "can24", "--original", "l0_smothing"], ["l0_smothing", "Did you mean l0_smoothing?"]),
        (["--model", "can24", "--original", "rof", "--res", "320p,720p"], ["--res 320p,720p", "several sizes"]),
        (["--model", "can24", "--original", "rof", "--images", "absent"], ["absent"]),
        (["--model", "can24", "--original", "rof", "--weights", "absent"], ["absent"]),
        (["--model", "can24", "--original", "rof", "--statistics", "thumbnail"], ["thumbnail"]),
        (["--model", "can24", "--original", "rof", "--precision", "int9"], ["int9", "Did you mean int8?"]),
        (["--model", "can24", "--original", "rof", "--precision", "fp32,tf32"], ["tf32"]),
        (
            ["--model", "can24", "--original", "rof", "--precision", "bf16", "--engine", "openvino"],
            ["no graph says how"],
        ),
    ],
    ids=str,
)
def test_wrong_use(words: list[str], named: list[str], command: Command) -> None:
    command("evaluate", *words).assert_refused(*named)


def test_two_sets_of_one_name_are_refused(command: Command, folders: tuple[Path, Path]) -> None:
    a, b = folders
    words = ("evaluate", "--model", "can24", "--original", "rof", "--images", f"x={a},x={b}")
    command(*words).assert_refused("two sets are called x")


def test_weights_down_and_sets_across(command: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = folders
    path = tmp_path / "rows.json"
    outcome = command(
        "evaluate", "--model", "espcn_x3", "--weights", "bsds,none", "--original", "super-resolution x3",
        "--images", f"noise={a},{b}", "--json", path,
    )  # fmt: skip
    assert outcome.code == 0, outcome
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 3 * 3  # pictures by bicubic, bsds and untrained
    means = {
        (weights, name): np.mean(
            [row["quality"]["psnr_db"] for row in rows if (row["weights"], row["set"]) == (weights, name)]
        )
        for weights in (None, "bsds", "untrained")
        for name in ("noise", "b")
    }
    lines = {line.split()[0]: line for line in outcome.out.splitlines() if line.strip()}
    for (weights, _), mean in means.items():
        word = "bicubic" if weights is None else "espcn_x3"
        shown = [line for line in outcome.out.splitlines() if line.startswith(word) and (weights or "") in line]
        assert f"{mean:.2f}" in shown[0]
    assert "noise 2, b 1, at their own size" in " ".join(lines["against"].split())
    assert means["bsds", "b"] > means["untrained", "b"] + 6


def test_operators_and_their_sizes(command: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    outcome = command(
        "evaluate", "--model", "can:depth=3:width=8", "--original", "rof", "--images", folders[0], "--res", "40x32",
        "--precision", "fp32,int8", "--json", path,
    )  # fmt: skip
    assert outcome.code == 0, outcome
    rows = json.loads(path.read_text())["rows"]
    assert [row["precision"] for row in rows] == [None, "fp32", "int8"] * 2
    assert "the picture as it is" in outcome.out
    assert "at 40x32" in outcome.out


def test_the_figures_are_those_of_the_card(command: Command, originals: Path) -> None:
    card = read_card(Path(__file__).parents[2] / "reference_models" / "weights" / "espcn_x3-bsds.safetensors")
    assert card is not None
    (figure,) = [f for f in card.figures if f.pictures == "Set5"]
    outcome = command(
        "evaluate", "--model", "espcn_x3", "--original", card.task, "--images", originals / "datasets" / "Set5"
    )
    for decibels in (figure.psnr_db, figure.baselines["bicubic"]):
        assert f"{decibels:.2f}" in outcome.out


def row(weights: str | None, quality: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    found = {
        "model": "m", "weights": weights, "precision": "fp32", "set": "s", "picture": "p", "original": "rof",
        "engine": "tensorrt", "statistics": None, "convention": "words", "size": None, "reason": None,
    }  # fmt: skip
    return found | ({"quality": quality} if quality else {"reason": "does not fit"}) | changes


GOOD = {"psnr_db": 30.0, "ssim": 0.5, "finite": True, "identical": False}
EXACT = GOOD | {"psnr_db": None, "ssim": 1.0, "identical": True}
BROKEN = {"psnr_db": None, "ssim": None, "finite": False, "identical": False}


def printed(rows: list[dict[str, Any]]) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table_of_originals(rows))
    return console.export_text()


@pytest.mark.parametrize("other", [BROKEN, None])
def test_no_figure_is_made_up_whatever_the_order(other: dict[str, Any] | None) -> None:
    for pair in ((GOOD, other), (other, GOOD), (EXACT, other), (other, EXACT)):
        text = printed([row("w", pair[0]), row("w", pair[1], picture="q")])
        assert text.splitlines()[1].split()[3:] == ["–", "–"]
    assert printed([row("w", EXACT), row("w", GOOD, picture="q")]).splitlines()[1].split()[3:] == ["∞", "0.7500"]


def test_figures_of_two_conventions_stand_in_two_tables() -> None:
    text = printed([row("w", GOOD), row("v", GOOD | {"psnr_db": 20.0}, convention="other words")])
    first, second = text.partition("\nother")[0], text.partition("words\n")[2]
    assert "30.00" in first.partition("words")[0]
    assert "20.00" not in first.partition("words")[0]
    assert "20.00" in second


def test_files_are_told_by_their_names_where_these_differ() -> None:
    lines = printed([row("deep/a.safetensors", GOOD), row("deep/b.safetensors", GOOD), row("bsds", GOOD)]).splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["a.safetensors", "b.safetensors", "bsds"]
    lines = printed([row("one/a.safetensors", GOOD), row("two/a.safetensors", GOOD)]).splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["one/a.safetensors", "two/a.safetensors"]


def test_names_are_no_markup() -> None:
    text = printed([row("[bold]w", GOOD, set="[/x]"), row("v", None, set="[/x]", reason="[/conv] refused")])
    for words in ("[bold]w", "[/x] dB", "[/conv] refused"):
        assert words in text


def test_whose_placement_it_is_is_said(command: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    words = ("--model", "espcn_x3", "--original", "super-resolution x3", "--images", folders[1], "--json", path)
    outcome = command("evaluate", *words, "--precision", "int8", "--engine", "onnxruntime", "--recovery", "none")
    bits = "" if exact_weight_bits() == 8 else ", weights of 7 bits"
    assert f"Q/DQ as for onnxruntime{bits}; graphs computed" in " ".join(outcome.out.split())
    made = json.loads(path.read_text())["rows"][-1]
    assert made["recipe"]["placement"] == "integer"
    assert made["trained"]
    assert len(made["weights_sha256"]) == 64


@pytest.mark.parametrize(("original", "weights"), [("rof", ["rof", "rof"]), ("tvl1", ["l0_smoothing", "l0_smoothing"])])
def test_weights_trained_for_the_original_are_judged_where_they_ship(
    command: Command, tmp_path: Path, original: str, weights: list[str]
) -> None:
    path = tmp_path / "rows.json"
    words = ("--model", "can24,can32", "--original", original, "--res", "64x48", "--json", path)
    assert command("evaluate", *words).code == 0
    assert [row["weights"] for row in json.loads(path.read_text())["rows"] if row["weights"]] == weights


def test_every_kind_of_statistics_has_rows(command: Command, folders: tuple[Path, Path]) -> None:
    words = ("--model", "can:depth=3:width=8", "--original", "rof", "--images", folders[1])
    outcome = command("evaluate", *words, "--statistics", "image,frozen")
    assert outcome.code == 0, outcome
    assert " image " in outcome.out
    assert " frozen " in outcome.out

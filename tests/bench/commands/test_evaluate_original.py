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

from bench.generalisation_table import table_of_originals
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
    card = read_card(Path(__file__).parents[3] / "reference_models" / "weights" / "espcn_x3-bsds.safetensors")
    assert card is not None
    (figure,) = [f for f in card.figures if f.pictures == "Set5"]
    outcome = command(
        "evaluate", "--model", "espcn_x3", "--original", card.task, "--images", originals / "datasets" / "Set5"
    )
    for decibels in (figure.psnr_db, figure.baselines["bicubic"]):
        assert f"{decibels:.2f}" in outcome.out


def test_no_figure_is_made_up() -> None:
    from rich.console import Console

    def row(weights: str, quality: dict[str, Any] | None, picture: str = "p") -> dict[str, Any]:
        found = {
            "model": "m", "weights": weights, "precision": "fp32", "set": "s", "picture": picture, "original": "rof",
            "statistics": None, "reason": None if quality else "does not fit",
        }  # fmt: skip
        return found | ({"quality": quality} if quality else {})

    good = {"psnr_db": 30.0, "ssim": 0.5, "finite": True, "identical": False}
    rows = [
        row("mixed", good), row("mixed", good | {"finite": False}, "q"),
        row("exact", good | {"psnr_db": None, "identical": True}),
        row("none", None),
    ]  # fmt: skip
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table_of_originals(rows, "words", "own"))
    lines = {line.split()[1]: line.split()[3:] for line in console.export_text().splitlines() if line.startswith("m ")}
    assert lines["mixed"] == ["–", "–"]
    assert lines["exact"] == ["∞", "0.5000"]
    assert lines["none"] == ["–", "–"]

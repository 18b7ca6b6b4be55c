"""`bench weights import`: a release in, a safetensors file out; wrong words are refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

Command = Callable[..., Any]
OUTPUT = ("--output", "x.safetensors")

WORDS: list[tuple[list[str], list[str]]] = [
    ([], ["ACTION"]),
    (["imprt"], ["imprt", "Did you mean import?"]),
    (["import", "--model", "can24"], ["--from", "--output"]),
    (["import", "--model", "can24", "--from", "absent", *OUTPUT], ["absent"]),
    (["import", "--model", "can24", "--from", "absent", "--output", "x.onnx"], ["x.onnx", ".safetensors"]),
    (["import", "--model", "cam24", "--from", "absent", *OUTPUT], ["cam24", "Did you mean can24?"]),
    (["import", "--model", "can", "--option", "dpth=4", "--from", "absent", *OUTPUT], ["Did you mean depth?"]),
    (["import", "--model", "can24", "--operator", "rof", "--from", "absent", *OUTPUT], ["no options"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) or "nothing" for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command("weights", *words).assert_refused(*named)
    assert list(tmp_path.iterdir()) == []


def released(width: int, planes: int, scopes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Random tensors under the names and in the layout of the CAN release, moving averages among them."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"g_conv_last/weights": (1, 1, width, 3), "g_conv_last/biases": (3,)}
    for index, number in enumerate(scopes):
        shapes[f"g_conv{number}/weights"] = (3, 3, width if index else planes, width)
        shapes |= {f"g_conv{number}/w0": (), f"g_conv{number}/w1": (), f"g_conv{number}/BatchNorm/beta": (width,)}
        shapes[f"g_conv{number}/BatchNorm/moving_mean"] = (width,)
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}


def test_a_checkpoint_becomes_a_file_that_the_network_takes(
    command: Command, write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    from reference_models import create_model

    tensors = released(24, 3, (1, 2, 3, 4, 5, 6, 7, 9))
    source, target = write_checkpoint(tmp_path / "model.ckpt", tensors), tmp_path / "w.safetensors"
    outcome = command("weights", "import", "--model", "can24", "--from", source, "--output", target)
    assert outcome.code == 0, outcome.err
    assert "34 tensors, 37219 parameters of can24" in outcome.out
    assert "left out: 8 tensors" in outcome.out
    assert f"--weights {target}" in outcome.out
    stored = load_file(target)
    np.testing.assert_array_equal(stored["convs.7.weight"], tensors["g_conv9/weights"].transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(create_model("can24", str(target)).norms[3].beta.detach(), stored["norms.3.beta"])


def test_options_say_which_shapes_are_wanted(
    command: Command, write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """A CAN of depth 4 and width 5: three dilated layers, the last of which the release calls 9."""
    source = write_checkpoint(tmp_path / "model.ckpt", released(5, 3, (1, 2, 9)))
    target = tmp_path / "w.safetensors"
    words = ("weights", "import", "--model", "can", "--from", source, "--output", target)
    command(*words).assert_refused("model `can`", "missing")
    assert not target.exists()
    outcome = command(*words, "--option", "depth=4", "--option", "width=5")
    assert outcome.code == 0, outcome.err
    assert load_file(target)["convs.2.weight"].shape == (5, 5, 3, 3)


def test_one_file_serves_all_operators(command: Command, write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model.ckpt", released(32, 13, (1, 2, 3, 4, 5, 6, 7, 8, 9)))
    found = []
    for operator in ("l0_smoothing", "rtv"):
        target = tmp_path / f"{operator}.safetensors"
        outcome = command(
            "weights", "import", "--model", "can32_multi", "--operator", operator, "--from", source, "--output", target
        )
        assert outcome.code == 0, outcome.err
        found.append(load_file(target))
    assert found[0]["convs.0.weight"].shape == (32, 13, 3, 3)
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_the_document_shows_what_ships(command: Command) -> None:
    from bench.commands.weights import table_of_shipped

    outcome = command("weights", "list")
    assert outcome.code == 0
    assert outcome.out == table_of_shipped() + "\n"
    text = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text()
    assert f"<!-- table: bench weights list -->\n\n{table_of_shipped()}\n" in text
    assert "| `espcn_x3` | `bsds` | super-resolution x3 |" in outcome.out

"""Cards: written and read back, refused where damaged, and whom their weights are for."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from reference_models import get
from reference_models.cards import Card, Figure, card_path, read_card, write_card
from reference_models.errors import UserError

CARD = Card(
    task="super-resolution x3",
    model="srcnn_955",
    options={},
    sha256=sha256(b"abc").hexdigest(),
    data={"BSDS500 train": 200, "generated scenes": 64},
    settings={"loss": "mse", "batch": 16},
    steps=10,
    seconds=1.5,
    seed=0,
    commit="abc",
    versions={"torch": "2.13.0"},
    machine="a processor",
    figures=(Figure("Set5", 5, "Y", 32.5, {"bicubic": 30.4}),),
    licence="Apache-2.0",
    resume="bench train --resume",
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"abc")
    return path


def test_a_card_is_read_back_as_it_was_written(weights: Path) -> None:
    write_card(weights, CARD)
    assert card_path(weights) == weights.with_name("a.json")
    assert read_card(weights) == CARD


def test_weights_without_a_card_have_none(weights: Path) -> None:
    assert read_card(weights) is None
    card_path(weights).write_text('{"schema": 1, "width": 32}')  # somebody's own settings
    assert read_card(weights) is None


BEGIN = '{"schema": 1, "task": "rof", "model": "can24"'


@pytest.mark.parametrize(
    "text", ["", BEGIN, BEGIN + "}", BEGIN.replace("1", "2", 1) + "}", BEGIN + ', "x": 1, "figures": []}']
)
def test_a_damaged_card_is_refused_by_name(weights: Path, text: str) -> None:
    card_path(weights).write_text(text)
    with pytest.raises(UserError, match=r"card `.*a\.json`"):
        read_card(weights)


def test_the_card_of_other_weights_is_refused(weights: Path) -> None:
    write_card(weights, CARD)
    weights.write_bytes(b"abd")
    with pytest.raises(UserError, match="SHA-256 differ"):
        read_card(weights)


def test_a_card_is_plain_json(weights: Path) -> None:
    write_card(weights, CARD)
    data = json.loads(card_path(weights).read_text())
    assert data["schema"] == 1
    assert data["figures"][0]["baselines"] == {"bicubic": 30.4}


def card_of(model: str, **options: int | str) -> Card:
    return replace(CARD, model=model, options=options)


def test_weights_are_for_the_scale_that_they_were_trained_with() -> None:
    assert CARD.why_not(get("srcnn_955")) == ""
    assert CARD.why_not(get("srcnn_955", {"border": "zeros"})) == ""
    assert "3 times the size, and this is 2 times" in CARD.why_not(get("srcnn_955", {"scale": 2}))
    assert card_of("srcnn_955", scale=2).why_not(get("srcnn_955", {"scale": 2})) == ""
    assert "2 times the size" in card_of("srcnn_955", scale=2).why_not(get("srcnn_955"))


def test_weights_for_mixed_scales_are_for_all_of_them() -> None:
    mixed = replace(CARD, task="super-resolution mixed")
    assert mixed.why_not(get("srcnn_955", {"scale": 4})) == ""


def test_networks_of_the_same_shapes_are_told_apart() -> None:
    """Their tensors would load: dilated or not, tanh or ReLU."""
    assert "can32, and this is can32_plain_conv" in card_of("can32").why_not(get("can32_plain_conv"))
    assert "activation=relu" in card_of("espcn_x3").why_not(get("espcn_x3", {"activation": "relu"}))
    assert card_of("srgan_x4", batch_norm="kept").why_not(get("srgan_x4")) == ""


def test_the_same_network_may_be_named_otherwise() -> None:
    assert card_of("can24").why_not(get("can", {"depth": 9, "width": 24})) == ""
    assert card_of("own:Factory").why_not(get("can24")) == ""

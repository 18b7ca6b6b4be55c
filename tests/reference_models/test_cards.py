"""Cards: written and read back, refused where damaged, and whom their weights are for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import reference_models
from reference_models.cards import Card, Figure, card_path, read_card, write_card
from reference_models.errors import UserError

CARD = Card(
    task="super-resolution x3",
    model="srcnn_955",
    options={},
    sha256="0" * 64,
    data={"BSDS500 train": 200, "generated scenes": 0},
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


def test_a_card_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    weights = tmp_path / "a.safetensors"
    write_card(weights, CARD)
    assert card_path(weights) == tmp_path / "a.json"
    assert read_card(weights) == CARD


def test_weights_without_a_card_have_none(tmp_path: Path) -> None:
    assert read_card(tmp_path / "a.safetensors") is None


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "figures": [], "x": 1}'])
def test_what_is_no_card_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"card `.*a\.json`"):
        read_card(tmp_path / "a.safetensors")


def test_a_card_is_plain_json(tmp_path: Path) -> None:
    write_card(tmp_path / "a.safetensors", CARD)
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["schema"] == 1
    assert data["figures"][0]["baselines"] == {"bicubic": 30.4}


def test_weights_are_for_the_network_and_the_scale_that_they_were_trained_with() -> None:
    get = reference_models.get
    own = Card(**{**CARD.__dict__, "options": {"scale": 2}})
    assert CARD.why_not(get("srcnn_955")) == ""
    assert CARD.why_not(get("srcnn_955", {"border": "zeros"})) == ""
    assert "scale=2" in CARD.why_not(get("srcnn_955", {"scale": 2}))
    assert own.why_not(get("srcnn_955", {"scale": 2})) == ""
    assert "scale=2" in own.why_not(get("srcnn_955"))
    assert "srcnn_955" in CARD.why_not(get("srcnn_915"))


def test_weights_for_mixed_scales_are_for_all_of_them() -> None:
    mixed = Card(**{**CARD.__dict__, "task": "super-resolution mixed"})
    assert mixed.why_not(reference_models.get("srcnn_955", {"scale": 4})) == ""

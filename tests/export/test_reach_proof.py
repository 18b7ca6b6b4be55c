"""The proof by changed pixels: it agrees with the graph's reach, and catches one that says too little."""

from __future__ import annotations

from dataclasses import replace

import pytest

from export.reach_proof import prove
from export.receptive_field import reach_of
from tests.export.reach_graphs import TILEABLE


@pytest.mark.parametrize("name", [name for name in TILEABLE if name not in {"with_branch", "quantised"}])
def test_no_pixel_reaches_further_than_said(name: str) -> None:
    model = TILEABLE[name]()
    for proof in prove(model, reach_of(model)):
        assert proof.holds, proof


@pytest.mark.parametrize("name", ["dilated", "uneven", "shuffled"])
def test_stacks_of_convolutions_reach_exactly_as_far_as_said(name: str) -> None:
    model = TILEABLE[name]()
    assert all(proof.found_px == proof.said_px for proof in prove(model, reach_of(model)))


def test_a_reach_that_says_too_little_is_found_out() -> None:
    model = TILEABLE["dilated"]()
    reach = reach_of(model)
    assert reach.width is not None
    wrong = replace(reach, width=replace(reach.width, before=4))
    assert [proof.end for proof in prove(model, wrong) if not proof.holds] == ["left"]


def test_a_branch_of_the_whole_picture_is_not_proven_so() -> None:
    model = TILEABLE["with_branch"]()
    with pytest.raises(ValueError, match="bounded part"):
        prove(model, reach_of(model))

"""ModelSpec: derived values, JSON and back, and that a declaration cannot be changed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from reference_models.spec import Evaluation, Figure, ModelSpec, Option

REQUIRED: dict[str, Any] = {
    "name": "n", "family": "f", "factory": "p:C", "source": "s", "licence": "MIT", "description": "d",
}  # fmt: skip


def spec(**more: Any) -> ModelSpec:
    return ModelSpec(**REQUIRED, **more)


FULL = spec(
    task="super-resolution",
    options={"width": 24, "dilations": [1, 2]},
    offers=(Option("scale", 3, "larger", choices=(2, 3, 4)), Option("gain", 0.5, "strength", low=0.0, high=1.0)),
    configure="p:configure",
    chosen={"scale": 2, "gain": 0.25},
    input="luma",
    constant_planes=(0.0, 1.0),
    pre_upscale=2,
    output="luma",
    input_planes=3,
    output_planes=1,
    output_range=(-1.0, 1.0),
    rounding="truncate",
    upscale=3,
    size_multiple=4,
    min_size=8,
    receptive_field_px=13,
    whole_picture="a global branch",
    statistics=("image", "frozen"),
    style=True,
    evaluation=Evaluation("Y", 2, "bicubic"),
    figures=(Figure("Set5 x3", 32.75, "dB", "table 2"),),
    weights={"best": "best.safetensors"},
    importer="p:importer",
    onnx="own.onnx",
)
"""Every field with a value of its own."""


@pytest.mark.parametrize(("field", "halo"), [(1, 0), (3, 1), (257, 128), (513, 256), (None, None)])
def test_halo_is_what_the_receptive_field_reaches_on_each_side(field, halo):
    assert spec(receptive_field_px=field).halo_px == halo


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().name = "other"


def test_what_a_spec_does_not_declare():
    plain = spec()
    assert (plain.input, plain.output, plain.input_planes, plain.output_planes) == ("rgb", "rgb", 3, 3)
    assert (plain.rounding, plain.output_range, plain.constant_planes) == ("nearest", (0, 1), ())
    assert (plain.upscale, plain.pre_upscale, plain.size_multiple, plain.min_size) == (1, 1, 1, 1)
    assert plain.receptive_field_px is plain.importer is plain.configure is plain.onnx is None
    assert plain.statistics == plain.offers == plain.figures == ()
    assert not any((plain.options, plain.chosen, plain.weights, plain.style, plain.whole_picture))


def test_two_specs_share_no_options():
    first, second = spec(), spec()
    assert first.options is not second.options
    assert first.weights is not second.weights
    assert first.chosen is not second.chosen


@pytest.mark.parametrize(("before", "after", "enlarges"), [(1, 1, 1), (3, 1, 3), (1, 4, 4), (2, 3, 6)])
def test_a_picture_is_enlarged_before_the_network_and_in_it(before, after, enlarges):
    assert spec(pre_upscale=before, upscale=after).enlarges == enlarges


@pytest.mark.parametrize(
    ("more", "width", "height", "expected"),
    [
        ({}, 7, 5, (5, 7)),
        ({"size_multiple": 8}, 17, 16, (16, 24)),
        ({"size_multiple": 8}, 1, 1, (8, 8)),
        ({"pre_upscale": 3}, 7, 5, (15, 21)),
        ({"pre_upscale": 3, "size_multiple": 4}, 7, 5, (16, 24)),
        ({"min_size": 10}, 7, 30, (30, 10)),
        ({"min_size": 10, "size_multiple": 4}, 7, 30, (32, 12)),
        ({"min_size": 10, "pre_upscale": 2}, 4, 6, (12, 10)),
        ({"upscale": 4}, 7, 5, (5, 7)),
    ],
)
def test_the_tensor_is_the_picture_enlarged_then_padded(more, width, height, expected):
    assert spec(**more).tensor_size(width, height) == expected


def test_the_tensor_is_the_smallest_that_the_network_takes():
    """Against a search from below."""
    for k, least, side in ((1, 1, 5), (3, 1, 7), (4, 10, 3), (5, 15, 15), (8, 20, 33)):
        smallest = next(n for n in range(1, 100) if n >= max(side, least) and n % k == 0)
        assert spec(size_multiple=k, min_size=least).tensor_size(side, side) == (smallest, smallest)


def test_the_title_names_what_was_chosen_and_the_original_stays():
    plain = spec()
    chosen = plain.with_choices({"depth": 7, "width": 24})
    assert chosen.title == "n depth=7 width=24"
    assert (plain.title, dict(plain.chosen)) == ("n", {})
    assert dataclasses.replace(chosen, chosen={}) == plain


def test_every_field_has_a_value_of_its_own_in_the_full_spec():
    """Otherwise a field that JSON loses would not be seen below."""
    plain = spec()
    same = [f.name for f in dataclasses.fields(ModelSpec) if getattr(FULL, f.name) == getattr(plain, f.name)]
    assert set(same) == set(REQUIRED) | {"input_planes"}


@pytest.mark.parametrize("given", [spec(), FULL], ids=["plain", "full"])
def test_json_gives_the_same_spec_back(given):
    again = ModelSpec.from_json(given.to_json())
    assert again == given
    assert hash(again.offers) == hash(given.offers)  # tuples all through, as a frozen spec promises
    assert isinstance(again.evaluation, Evaluation)
    assert again.tensor_size(11, 13) == given.tensor_size(11, 13)


def test_json_is_one_plain_object():
    data = json.loads(FULL.to_json())
    assert data["output_range"] == [-1, 1]
    assert data["offers"][0]["choices"] == [2, 3, 4]
    assert data["evaluation"] == {"channels": "Y", "border_px": 2, "note": "bicubic"}


def test_tuples_among_the_factorys_options_come_back_as_lists():
    again = ModelSpec.from_json(spec(options={"dilations": (1, 2, 4), "width": 3}).to_json())
    assert again.options == {"dilations": [1, 2, 4], "width": 3}


def test_a_field_of_another_version_is_refused():
    with pytest.raises(TypeError, match="extra"):
        ModelSpec.from_json(json.dumps({**json.loads(FULL.to_json()), "extra": 1}))

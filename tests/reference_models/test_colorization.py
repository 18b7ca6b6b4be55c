"""What the colorization spec declares, its choices, and that the network takes them."""

from __future__ import annotations

import pytest

from reference_models import get
from reference_models.colorization import SPECS, configure
from reference_models.networks.colorization import PLANES
from reference_models.spec import ModelSpec


def test_defaults_are_the_registered_spec():
    (spec,) = SPECS
    assert spec.name == "colorization"
    defaults = {"space": "lab", "classifier": "yes", "batch_norm": "folded"}
    assert {option.name: option.default for option in spec.offers} == defaults
    assert configure("colorization", **defaults) == spec
    assert spec.options == {"space": "lab", "classifier": True}
    assert configure("colorization", **(defaults | {"batch_norm": "kept"})).options["batch_norm"] is True


def test_lightness_goes_in_and_ab_comes_out():
    (spec,) = SPECS
    assert (spec.input, spec.input_planes, spec.output, spec.output_planes) == ("lightness", 1, "ab", 2)
    assert spec.task == "colorization"
    assert spec.tensor_size(427, 240) == (240, 432)
    assert spec.style
    assert spec.halo_px is None
    assert spec.whole_picture


@pytest.mark.parametrize(("space", "output"), [("lab", "ab"), ("rgb", "recoloured"), ("yuv", "yuv")])
def test_spaces(space, output):
    spec = get("colorization", {"space": space})
    assert spec.output == output
    assert spec.options["space"] == space
    assert spec.output_planes == PLANES[space]


def test_without_classifier():
    spec = get("colorization", {"classifier": "no"})
    assert spec.options["classifier"] is False
    assert spec.output == "ab"
    assert spec.title == "colorization classifier=no"


def test_weights_that_may_not_be_sold_do_not_ship():
    (spec,) = SPECS
    assert not spec.weights
    assert "BY-NC-SA" in spec.licence


def test_spec_survives_json():
    (spec,) = SPECS
    assert ModelSpec.from_json(spec.to_json()) == spec

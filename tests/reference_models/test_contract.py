"""What every network of the registry promises: a declaration that holds together, and tensors of the declared shapes.

Receptive field, halo and size multiple are measured by each family's own tests. Networks of more than 20 million
parameters are built in memory by the slow tests only.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

import reference_models
from reference_models.choices import callable_from_path
from reference_models.colour import picture_from_tensor, tensor_from_picture
from reference_models.networks.statistics import Foldable
from reference_models.spec import Evaluation, ModelSpec

FOLDER = Path(reference_models.__file__).parent
EVERY = pytest.mark.parametrize("name", reference_models.names())
PLANES_IN = {"rgb": 3, "bgr": 3, "luma": 1, "lightness": 1}
PLANES_OUT = {"rgb": 3, "bgr": 3, "luma": 1, "ab": 2, "yuv": 2}
SANE = 10.0
"""Largest output of an untrained network: beyond it, decibels between engines mean nothing."""


def values_of(option):
    """Every value of a list, else the two ends; a default alone where there are none."""
    if option.choices:
        return option.choices
    limits = [type(option.default)(limit) for limit in (option.low, option.high) if limit is not None]
    return (option.default, *limits)


def every_choice():
    """(name, {option: value}) with one option at a time away from its default."""
    for name in reference_models.names():
        for option in reference_models.get(name).offers:
            for value in values_of(option):
                if value != option.default:
                    yield pytest.param(name, {option.name: value}, id=f"{name} {option.name}={value}")


CHOICES = pytest.mark.parametrize(("name", "chosen"), list(every_choice()))


def without_memory(spec):
    with torch.device("meta"):
        return reference_models.model_from_spec(spec)


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def check_declaration(spec: ModelSpec) -> None:
    for field, known in typing.get_type_hints(ModelSpec).items():
        if typing.get_origin(known) is typing.Literal:
            assert getattr(spec, field) in typing.get_args(known), field
    check_planes(spec)
    low, high = spec.output_range
    assert math.isfinite(low)
    assert low < high < math.inf
    assert (low, high) == (0, 1) or spec.output in {"rgb", "bgr"}, "colour.py reads it of these alone"
    assert min(spec.upscale, spec.pre_upscale, spec.size_multiple, spec.min_size) >= 1
    assert spec.receptive_field_px is None or spec.receptive_field_px % 2 == 1
    assert spec.receptive_field_px is not None or spec.whole_picture, "says neither how far it sees nor why not"
    assert len(set(spec.statistics)) == len(spec.statistics)
    assert spec.evaluation.channels in typing.get_args(typing.get_type_hints(Evaluation)["channels"])
    assert spec.evaluation.border_px >= 0
    for figure in spec.figures:
        assert math.isfinite(figure.value)
        assert all((figure.what, figure.unit, figure.where))


def check_planes(spec: ModelSpec) -> None:
    own = spec.input_planes - len(spec.constant_planes)
    assert own == PLANES_IN.get(spec.input, own)
    assert own >= 1
    assert spec.output_planes == PLANES_OUT.get(spec.output, spec.output_planes)
    assert spec.output_planes >= 2 or spec.output != "classes"
    assert spec.output not in {"ab", "yuv"} or spec.enlarges == 1, "the picture's lightness has its own size"


@EVERY
def test_a_declaration_holds_together(name):
    spec = reference_models.get(name)
    check_declaration(spec)
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", spec.name), "a word for the command line and for file names"
    assert "http" in spec.source
    assert all((spec.family, spec.licence, spec.description))
    assert len(spec.description) <= 110, "one line of `bench models`"
    assert "\n" not in spec.description
    assert spec.onnx is None
    assert spec.title == name
    assert not spec.chosen
    assert (spec.configure is None) == (not spec.offers)
    assert all((FOLDER / "weights" / file).is_file() for file in spec.weights.values())


@EVERY
def test_what_a_network_offers_can_be_asked_for(name):
    for option in reference_models.get(name).offers:
        assert option.name.isidentifier(), "a keyword of create_model"
        assert option.name not in {"name", "weights"}
        assert option.doc
        assert "\n" not in option.doc
        assert all(type(value) is type(option.default) for value in option.choices)
        assert not option.choices or option.default in option.choices
        assert option.choices or not isinstance(option.default, str), "any word at all is no choice"
        assert option.low is None or option.low <= option.default
        assert option.high is None or option.default <= option.high
        assert not (option.choices and (option.low, option.high) != (None, None))


@EVERY
def test_the_defaults_make_the_network_itself(name):
    """Its file declares it once."""
    spec = reference_models.get(name)
    defaults = {option.name: option.default for option in spec.offers}
    assert reference_models.get(name, defaults) is spec
    if spec.configure is not None:
        assert callable_from_path(spec.configure)(spec.name, **defaults) == spec


@CHOICES
def test_every_choice_makes_a_network_that_differs(name, chosen):
    plain, made = reference_models.get(name), reference_models.get(name, chosen)
    check_declaration(made)
    assert (made.name, dict(made.chosen)) == (name, chosen)
    assert made.offers == plain.offers, "what was chosen can be chosen again"
    assert dataclasses.replace(made, chosen={}) != plain, "an option that changes nothing"
    words = {option: str(value) for option, value in chosen.items()}
    assert reference_models.get(name, words) == made
    assert ModelSpec.from_json(made.to_json()).to_json() == made.to_json()
    assert shapes(without_memory(made))


@EVERY
def test_json_gives_the_same_declaration_and_network(name):
    """Workers get their spec as JSON, in which tuples among the factory's options become lists."""
    spec = reference_models.get(name)
    again = ModelSpec.from_json(spec.to_json())
    assert dataclasses.replace(again, options=spec.options) == spec
    assert again.to_json() == spec.to_json()
    assert shapes(without_memory(again)) == shapes(without_memory(spec))


@EVERY
def test_a_network_has_what_its_declaration_makes_others_rely_on(name):
    spec = reference_models.get(name)
    model = without_memory(spec)
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) > 100
    if {"frozen", "thumbnail"} & set(spec.statistics):
        assert isinstance(model, Foldable)
    if spec.statistics:
        assert spec.statistics[0] == "image", "the published way first"
    assert spec.style == hasattr(model, "styled")


@EVERY
def test_a_family_lies_in_a_file_of_its_own(name):
    """`reference_models/NAME.py` declares what `reference_models/networks/…` defines."""
    spec = reference_models.get(name)
    module, _, _ = spec.factory.partition(":")
    assert module.startswith("reference_models.networks.")
    declared = [
        path.stem
        for path in FOLDER.glob("*.py")
        if spec in getattr(importlib.import_module(f"reference_models.{path.stem}"), "SPECS", ())
    ]
    assert len(declared) == 1


def photograph(height, width):
    """uint8 (H, W, 3) with gradients and noise: no two corners are alike."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [columns * 255 / width, rows * 255 / height, (rows + columns) * 255 / (height + width)]
    noise = np.random.default_rng(height).uniform(-20, 20, (height, width, 3))
    return np.clip(np.stack(planes, 2) + noise, 0, 255).astype(np.uint8)


def expected_size(spec, height, width):
    """Height and width of the tensor, by searching for the smallest that is allowed."""
    k = spec.size_multiple
    sides = (side * spec.pre_upscale for side in (height, width))
    return tuple(next(n for n in range(k, 100_000, k) if n >= max(side, spec.min_size)) for side in sides)


@pytest.mark.parametrize(("height", "width"), [(13, 9), (1, 1)])
def test_pictures_go_through_in_the_declared_shapes(any_model, height, width):
    spec = reference_models.get(any_model)
    picture = photograph(height, width)
    x = tensor_from_picture(picture, spec)
    size = expected_size(spec, height, width)
    assert (x.shape, x.dtype) == ((1, spec.input_planes, *size), np.float32)
    assert np.isfinite(x).all()
    with torch.inference_mode():
        y = reference_models.create_model(any_model)(torch.from_numpy(x)).numpy()
    assert (y.shape, y.dtype) == ((1, spec.output_planes, *(side * spec.upscale for side in size)), np.float32)
    assert np.abs(y).max() < SANE
    assert (height, width) == (1, 1) or y.std() > 1e-5, "the untrained network says the same whatever it sees"
    shown = picture_from_tensor(y, spec, picture)
    assert (shown.shape, shown.dtype) == ((height * spec.enlarges, width * spec.enlarges, 3), np.uint8)
    assert picture_from_tensor(y, spec, picture, (1, 1)).shape == (1, 1, 3)


def test_making_a_network_leaves_the_callers_random_numbers_alone(any_model):
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()
    reference_models.create_model(any_model)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_tensors_have_plain_names_and_finite_values(any_model):
    model = reference_models.create_model(any_model)
    for name, tensor in model.state_dict().items():
        assert re.fullmatch(r"[a-z0-9_.]+", name), name
        assert torch.isfinite(tensor).all(), name

"""ModelSpec: derived values, and that a declaration cannot be changed."""

from __future__ import annotations

import dataclasses

import pytest

from reference_models.spec import ModelSpec

REQUIRED = {"name": "n", "family": "f", "factory": "p:C", "source": "s", "licence": "MIT", "description": "d"}


@pytest.mark.parametrize(("field", "halo"), [(1, 0), (3, 1), (257, 128), (513, 256), (None, None)])
def test_halo_is_what_the_receptive_field_reaches_on_each_side(field, halo):
    assert ModelSpec(**REQUIRED, receptive_field_px=field).halo_px == halo


def test_a_spec_cannot_be_changed():
    spec = ModelSpec(**REQUIRED)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"


def test_what_a_spec_does_not_declare():
    spec = ModelSpec(**REQUIRED)
    assert (spec.channels, spec.rounding, spec.upscale, spec.size_multiple) == ("RGB", "nearest", 1, 1)
    assert spec.receptive_field_px is None
    assert spec.importer is None
    assert spec.statistics == ()
    assert not spec.options
    assert not spec.weights


def test_two_specs_share_no_options():
    first, second = ModelSpec(**REQUIRED), ModelSpec(**REQUIRED)
    assert first.options is not second.options
    assert first.weights is not second.weights

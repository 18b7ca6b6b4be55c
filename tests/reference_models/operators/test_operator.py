"""What every operator promises about sizes, types and wrong input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reference_models import operators
from reference_models.errors import UserError
from reference_models.operators.operator import Operator, picture_from_unit

EVERY = pytest.mark.parametrize("name", operators.names())


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@EVERY
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (3, 200), (2, 2), (41, 37)])
def test_a_picture_of_any_size_becomes_one_of_the_same_size(name, height, width):
    picture = noise(height, width)
    before = picture.copy()
    made = operators.get(name)(picture, threads=1)
    assert made.dtype == np.uint8
    assert made.shape == picture.shape
    np.testing.assert_array_equal(picture, before)


@EVERY
def test_the_same_picture_gives_the_same_picture_whatever_the_threads_and_the_layout(name):
    picture = noise(48, 52)
    made = operators.get(name)(picture, threads=1)
    np.testing.assert_array_equal(operators.get(name)(picture, threads=2), made)
    flipped = np.ascontiguousarray(picture[:, ::-1])[:, ::-1]  # the same values, stored backwards
    np.testing.assert_array_equal(operators.get(name)(flipped), made)


@EVERY
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_colour_stays_one(name, value):
    made = operators.get(name)(np.full((20, 24, 3), value, np.uint8))
    assert np.ptp(made.reshape(-1, 3).astype(int), axis=0).max() <= 1


@EVERY
def test_what_is_no_picture_is_refused(name):
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
            operators.get(name)(wrong)


def test_values_are_clipped_and_rounded_and_nan_is_refused():
    values = np.array([[[-1.0, 0.5 / 255, 2.0]]])
    np.testing.assert_array_equal(picture_from_unit(values), [[[0, 1, 255]]])
    with pytest.raises(ValueError, match="NaN"):
        picture_from_unit(np.full((1, 1, 3), np.nan))


def test_a_missing_package_is_named_with_the_command_that_brings_it():
    operator = dataclasses.replace(operators.get("l0_smoothing"), needs="no_such_package", extra="operators")
    with pytest.raises(UserError, match=r"`no_such_package` is not installed.*pip install 'fullres\[operators\]'"):
        operator(noise(4, 4))


def test_the_parameters_listed_are_those_used():
    seen = {}

    def compute(picture, **parameters):
        seen.update(parameters)
        return picture

    operator = Operator("mine", "Mine", "https://", {"weight": 3}, compute)
    picture = noise(4, 4)
    np.testing.assert_array_equal(operator(picture), picture)
    assert seen == {"weight": 3}

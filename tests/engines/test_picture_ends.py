"""What is no picture is refused with the line that makes one of it; what is one goes through as colour.py says."""

from __future__ import annotations

import numpy as np
import pytest

import reference_models
from engines.picture_ends import checked_picture, finished, prepared
from reference_models.colour import tensor_from_picture
from reference_models.errors import UserError

WRONG = {
    "grey": (np.zeros((4, 5), np.uint8), "Repeat the grey plane"),
    "one plane": (np.zeros((4, 5, 1), np.uint8), "Repeat the grey plane"),
    "alpha": (np.zeros((4, 5, 4), np.uint8), "picture[..., :3]"),
    "planes first": (np.zeros((3, 4, 5), np.uint8), "transpose(1, 2, 0)"),
    "floats": (np.zeros((4, 5, 3)), "* 255"),
    "16 bits": (np.zeros((4, 5, 3), np.uint16), "257"),
    "a batch": (np.zeros((2, 4, 5, 3), np.uint8), "once per picture"),
    "nothing": (np.zeros((0, 5, 3), np.uint8), "Leave empty pictures out"),
    "a list": ([[1]], "numpy.asarray"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_picture_is_refused_with_the_line_that_helps(kind: str) -> None:
    given, todo = WRONG[kind]
    with pytest.raises(UserError, match="picture: got") as error:
        checked_picture(given)
    assert todo in error.value.todo


@pytest.mark.parametrize("kind", ["grey", "one plane", "alpha", "planes first", "floats", "16 bits"])
def test_the_line_that_is_told_makes_a_picture(kind: str) -> None:
    given, _ = WRONG[kind]
    with pytest.raises(UserError) as error:
        checked_picture(given)
    cure = error.value.todo.partition(": ")[2]
    checked_picture(eval(cure, {"numpy": np, "picture": given}))


def test_a_picture_goes_in_and_out_as_the_spec_says() -> None:
    spec = reference_models.get("can24")
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    given = prepared(checked_picture(picture), spec)
    np.testing.assert_array_equal(given.tensor, tensor_from_picture(picture, spec))
    np.testing.assert_array_equal(finished(given.tensor, given, spec), picture)


def test_of_a_picture_for_a_generator_only_the_size_counts() -> None:
    spec = reference_models.get("pixel_vae")
    given = prepared(np.zeros((33, 20, 3), np.uint8), spec)
    assert given.size == (33, 20)
    assert given.tensor.shape[2] * spec.upscale >= 33

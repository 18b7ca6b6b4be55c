"""Pairs of planes: orders and ranges of every kind of network, reduction, noise."""

from __future__ import annotations

import numpy as np
import pytest

from reference_models import get, operators, tasks
from reference_models.colour import tensor_from_picture
from reference_models.training.pairs import Pair, float_planes, pair_from_picture
from reference_models.training.targets import Targets

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)


def pair(model: str, task: str, **options: int | str) -> Pair:
    return pair_from_picture(tasks.get(task), get(model, options), PICTURE, np.random.default_rng(0), Targets())


def test_operators_get_planes_in_the_networks_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "get", lambda name: lambda picture: 255 - picture)
    found = pair("can24", "l0_smoothing")
    spec = get("can24")
    np.testing.assert_array_equal(float_planes(found.input), tensor_from_picture(PICTURE, spec)[0])
    np.testing.assert_array_equal(float_planes(found.target), tensor_from_picture(255 - PICTURE, spec)[0])


def test_espcn_gets_the_reduced_luma_and_srcnn_the_enlarged() -> None:
    small, large = pair("espcn_x3", "super-resolution x3"), pair("srcnn_915", "super-resolution x3")
    assert small.input.shape == (1, 8, 12)
    assert large.input.shape == small.target.shape == large.target.shape == (1, 24, 36)
    np.testing.assert_array_equal(small.target, large.target)
    assert large.input.std() < 0.7 * large.target.std()


def test_what_an_enlarging_network_is_trained_on_is_what_it_is_given_in_use() -> None:
    """Up to the rounding of the reduced picture, which in use has 8 bits."""
    task, spec = tasks.get("super-resolution x3"), get("srcnn_915")
    smooth = np.add.outer(np.arange(24), np.arange(36))[..., None].repeat(3, 2).astype(np.uint8)
    reduced, _ = task.pictures(smooth, spec, np.random.default_rng(0))
    found = pair_from_picture(task, spec, smooth, np.random.default_rng(0), Targets())
    assert np.abs(tensor_from_picture(reduced, spec)[0] - found.input).max() < 1 / 255


def test_noise_is_left_to_the_crops() -> None:
    found = pair("red10", "denoising sigma 30")
    assert found.sigma == pytest.approx(30 / 255)
    assert found.input is found.target


def test_three_planes_for_a_network_of_colour_pictures() -> None:
    assert pair("red10", "denoising sigma 30", planes=3).input.shape == (3, 24, 36)
    assert pair("srgan_x4", "super-resolution x4").input.shape == (3, 6, 9)


@pytest.mark.parametrize(("space", "planes"), [("lab", 2), ("yuv", 2), ("rgb", 3)])
def test_colours(space: str, planes: int) -> None:
    found = pair("colorization", "colorization", space=space)
    assert found.input.shape == (1, 24, 36)
    assert found.target.shape == (planes, 24, 36)
    assert found.target.min() >= 0
    assert found.target.max() <= 1

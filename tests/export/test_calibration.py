"""Calibration pictures: how they are cropped, padded and varied, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest

import reference_models
from export.calibration import GAMMAS, calibration_inputs, further_inputs
from reference_models.colour import tensor_from_picture
from reference_models.errors import UserError


def smooth(height=40, width=56, seed=0):
    """uint8 (H, W, 3): waves and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 3, height)[:, None], np.linspace(0, 5, width)
    waves = np.stack([np.sin((i + 1) * y + seed) * np.cos((3 - i) * x) for i in range(3)], 2)
    return np.clip(128 + 70 * waves + rng.uniform(-30, 30, (height, width, 3)), 0, 255).astype(np.uint8)


def test_no_pictures_or_none_but_of_one_colour_are_refused():
    with pytest.raises(UserError, match="calibration: no pictures"):
        calibration_inputs((), reference_models.get("espcn_x3"))
    red = np.zeros((9, 9, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    for pictures in ((np.zeros((9, 9, 3), np.uint8),), (red, red + np.uint8(3))):
        for name in ("espcn_x3", "can24"):
            with pytest.raises(UserError, match=f"{len(pictures)} pictures of one colour each"):
                calibration_inputs(pictures, reference_models.get(name))
    assert len(calibration_inputs((red, smooth()), reference_models.get("can24"))) == 2


def test_pictures_are_cropped_around_their_centre_and_small_ones_padded():
    large = smooth(700, 900)
    (x,) = calibration_inputs((large,), reference_models.get("can24"))
    assert np.array_equal(x, tensor_from_picture(large[94:606, 194:706], reference_models.get("can24")))
    (x,) = calibration_inputs((smooth(5, 40),), reference_models.get("encoder_decoder"))
    assert x.shape == (1, 3, 16, 48)


@pytest.mark.parametrize("name", ["vdsr", "srgan_x4", "pixel_vae"])
def test_where_a_network_enlarges_the_side_is_that_of_its_output(name):
    spec = reference_models.get(name)
    (x,) = calibration_inputs((smooth(700, 900),), spec)
    assert max(x.shape[2:]) * spec.upscale <= 512


def test_every_picture_is_seen_brighter_and_darker_too():
    picture, spec = smooth(16, 20), reference_models.get("can32_no_norm")
    (x,) = calibration_inputs((picture,), spec)
    brighter, darker = further_inputs((picture,), spec, None)
    assert GAMMAS == (0.5, 2.0)
    for found, wanted in ((brighter, np.sqrt(x)), (darker, x**2)):
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() <= 0.5 / 255 + 1e-6
    assert len(further_inputs((picture, picture), spec, "frozen")) == 4


@pytest.mark.parametrize(
    ("size", "seen"), [((540, 600), 256), ((300, 450), 142), ((20, 30), 20), ((1, 900), 1), ((1079, 1200), 512)]
)
def test_with_the_picture_s_statistics_small_pictures_are_seen_as_parts_of_large_ones_too(size, seen):
    spec, picture = reference_models.get("can24"), smooth(*size)
    enlarged = further_inputs((picture,), spec, "image")[2]
    factor = min(1080 / size[0], 4)
    height, width = min(size[0], seen), min(size[1], round(512 / factor))
    assert abs(enlarged.shape[2] - factor * height) <= 4
    assert abs(enlarged.shape[3] - factor * width) <= 4
    assert max(enlarged.shape[2:]) <= 516
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    cut = picture[top : top + height, left : left + width] / 255
    assert enlarged.mean() == pytest.approx(cut.mean(), abs=0.02)
    assert np.abs(np.diff(enlarged, axis=3)).mean() < np.abs(np.diff(cut, axis=1)).mean() * (
        1.1 if factor < 1.1 else 0.6
    )


@pytest.mark.parametrize(("height", "statistics"), [(1080, "image"), (300, "frozen"), (300, None)])
def test_none_are_enlarged_where_they_are_large_or_statistics_stay_as_they_are(height, statistics):
    assert len(further_inputs((smooth(height, 1200),), reference_models.get("can24"), statistics)) == 2


@pytest.mark.parametrize("name", ["vdsr", "espcn_x3"])
def test_networks_that_enlarge_see_pictures_as_they_are(name):
    assert further_inputs((smooth(),), reference_models.get(name), None) == []

"""Lightness and colour planes against the CIE 1976 formulas by hand, tabulated values, and pictures that come back."""

from __future__ import annotations

import numpy as np
import pytest

from reference_models.lightness import (
    ab_from_picture,
    lightness_from_picture,
    picture_from_ab,
    picture_from_rgb,
    picture_from_yuv,
    uv_from_picture,
)

# L*, a*, b* of sRGB colours under D65, as colour tables print them.
TABLE = {
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 128, 0): (46.23, -51.70, 49.90),
    (128, 128, 128): (53.59, 0.0, 0.0),
}


@pytest.fixture(scope="module")
def photograph():
    from skimage import data

    return data.astronaut()[60:360:2, 100:400:2]


def pixels(*colours):
    return np.array([colours], np.uint8)


def lightness_by_hand(rgb):
    """CIE 15: L* = 116 f(Y) - 16; IEC 61966-2-1: the curve of sRGB and the weights of its Y."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb)]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16 if y > (6 / 29) ** 3 else y * (29 / 3) ** 3


def luma(picture):
    return picture.astype(np.float64) @ [0.299, 0.587, 0.114]


def test_lightness_is_the_cie_formula():
    colours = [*TABLE, (1, 2, 3), (12, 5, 9), (200, 30, 90), (17, 90, 240)]
    got = lightness_from_picture(pixels(*colours))
    assert got.shape == (1, 1, 1, len(colours))
    assert got.dtype == np.float32
    wanted = [lightness_by_hand(colour) / 100 for colour in colours]
    assert np.abs(got[0, 0, 0] - wanted).max() < 1e-4


def test_planes_are_tabulated_lab_on_the_published_scale():
    picture = pixels(*TABLE)
    lab = np.array(list(TABLE.values()))
    assert np.abs(100 * lightness_from_picture(picture)[0, 0, 0] - lab[:, 0]).max() < 0.02
    assert np.abs(100 * (2 * ab_from_picture(picture)[0, :, 0].T - 1) - lab[:, 1:]).max() < 0.03


def test_only_blue_lies_outside_of_the_scale():
    assert ab_from_picture(pixels((0, 0, 255)))[0, 1, 0, 0] == 0
    corners = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255) if (r, g, b) != (0, 0, 255)]
    planes = ab_from_picture(pixels(*corners))
    assert 0 < planes.min() < planes.max() < 1


def test_chroma_planes_reach_exactly_from_zero_to_one():
    """U is 0.436 where only blue is, V 0.615 where only red is (BT.601)."""
    got = uv_from_picture(pixels((0, 0, 255), (255, 255, 0), (255, 0, 0), (0, 255, 255), (9, 9, 9)))[0, :, 0]
    assert np.abs(got[0, :2] - [1, 0]).max() < 1e-3
    assert np.abs(got[1, 2:4] - [1, 0]).max() < 1e-3
    assert np.abs(got[:, 4] - 0.5).max() < 1e-3


@pytest.mark.parametrize(("planes", "back"), [(ab_from_picture, picture_from_ab), (uv_from_picture, picture_from_yuv)])
def test_a_photographs_own_colours_give_it_back(photograph, planes, back):
    assert photograph.shape[0] > 128  # more than one strip
    colours = planes(photograph)
    assert colours.shape == (1, 2, *photograph.shape[:2])
    assert colours.dtype == np.float32
    got = back(colours, photograph)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - photograph).max() <= 1


def test_rgb_of_a_photograph_gives_it_back(photograph):
    rgb = np.ascontiguousarray(photograph.transpose(2, 0, 1)[None]).astype(np.float32) / 255
    assert np.abs(picture_from_rgb(rgb, photograph).astype(int) - photograph).max() <= 1


def test_an_rgb_prediction_gives_its_hue_and_the_picture_its_luma(photograph):
    rgb = np.empty((1, 3, *photograph.shape[:2]), np.float32)
    rgb[0] = np.array([0.5, 0.45, 0.4])[:, None, None]
    middling = np.clip(photograph, 60, 190)
    got = picture_from_rgb(rgb, middling).astype(np.float64)
    assert np.abs(luma(got) - luma(middling)).max() < 1
    assert np.abs((got[..., 0] - got[..., 2]) - 255 * 0.1).max() < 1.01


def test_neutral_planes_give_grey_of_the_same_lightness(photograph):
    neutral = np.full((1, 2, *photograph.shape[:2]), 0.5, np.float32)
    grey = picture_from_ab(neutral, photograph)
    assert np.ptp(grey.astype(int), axis=2).max() <= 1
    assert np.abs(lightness_from_picture(grey) - lightness_from_picture(photograph)).max() < 0.004
    grey = picture_from_yuv(neutral, photograph)
    assert np.ptp(grey.astype(int), axis=2).max() == 0
    assert np.abs(grey[..., 0] - luma(photograph)).max() < 0.51


def test_colours_are_painted_where_they_belong(photograph):
    colours = np.full((1, 2, *photograph.shape[:2]), 0.5, np.float32)
    colours[0, 0, 140, 3] = 0.8  # in the second strip: red
    redness = np.ptp(picture_from_ab(colours, photograph).astype(int), axis=2)
    assert redness[140, 3] > 30
    assert (redness > 1).sum() == 1


def test_impossible_colours_are_clipped_without_a_warning(recwarn):
    picture = pixels((0, 0, 40), (250, 250, 250))
    low, high = (np.full((1, 2, 1, 2), value, np.float32) for value in (-3, 4))
    assert np.array_equal(picture_from_ab(low, picture), picture_from_ab(np.zeros_like(low), picture))
    assert np.array_equal(picture_from_yuv(high, picture), picture_from_yuv(np.ones_like(high), picture))
    assert not recwarn.list


def test_planes_smaller_than_the_picture_take_its_upper_left_part(photograph):
    colours = ab_from_picture(photograph)[..., :140, :90]
    assert np.abs(picture_from_ab(colours, photograph).astype(int) - photograph[:140, :90]).max() <= 1


def test_half_precision_planes_are_taken(photograph):
    got = picture_from_yuv(uv_from_picture(photograph).astype(np.float16), photograph)
    assert np.abs(got.astype(int) - photograph).max() <= 2


def test_misshapen_planes_are_refused(photograph):
    with pytest.raises(ValueError, match=r"expected \(1, 2, H, W\)"):
        picture_from_ab(np.zeros((1, 3, 4, 4), np.float32), photograph)
    with pytest.raises(ValueError, match=r"expected \(1, 3, H, W\)"):
        picture_from_rgb(np.zeros((2, 4, 4), np.float32), photograph)
    with pytest.raises(ValueError, match="smaller than"):
        picture_from_yuv(np.zeros((1, 2, 500, 4), np.float32), photograph)

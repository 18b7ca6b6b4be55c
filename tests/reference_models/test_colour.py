"""Pictures ↔ tensors by every kind of planes, against formulas written in another way."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from reference_models.colour import (
    class_colours,
    luma_from_picture,
    picture_from_tensor,
    tensor_from_picture,
    unit_range,
)
from reference_models.pictures import Picture
from reference_models.resample import imresize
from reference_models.spec import ModelSpec

RNG = np.random.default_rng(7)
LUMA: dict[str, Any] = {"input": "luma", "output": "luma", "input_planes": 1, "output_planes": 1}
KINDS: list[dict[str, Any]] = [
    {"input": "rgb"}, {"input": "bgr"}, LUMA, {"input": "lightness", "input_planes": 1},
    {"input": "rgb", "pre_upscale": 2}, {"input": "bgr", "pre_upscale": 3}, {**LUMA, "pre_upscale": 3},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def spec(**more: Any) -> ModelSpec:
    return ModelSpec("m", "f", "p:F", "s", "l", "d", **more)


def planes(kind: str, rounding: str = "nearest") -> ModelSpec:
    return spec(input=kind, output=kind, rounding=rounding)


def noise(width: int, height: int) -> Picture:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def smooth(width: int, height: int) -> Picture:
    """Without black, white and pure colours, so that nothing is clipped on the way."""
    x, y = np.arange(width), np.arange(height)[:, None]
    found = (127 + 40 * np.sin(x / 9 + y / 17), 120 + 40 * np.cos(x / 23) + 0 * y, 100 + 50 * np.sin(y / 11) + 0 * x)
    return np.stack(found, axis=-1).astype(np.uint8)


def shown(tensor: np.ndarray, chosen: ModelSpec, source: Picture | None = None) -> Picture:
    """The output as a picture, its size that of the tensor."""
    source = np.zeros((*tensor.shape[2:], 3), np.uint8) if source is None else source
    return picture_from_tensor(tensor, chosen, source, tensor.shape[2:])


def ycc(picture: np.ndarray) -> np.ndarray:
    """float64 (..., 3): Y, Cb, Cr by the definition of BT.601: luma from Kr and Kb, chroma as differences to it."""
    red, green, blue = (picture[..., i].astype(np.float64) / 255 for i in range(3))
    luma = 0.299 * red + (1 - 0.299 - 0.114) * green + 0.114 * blue
    cb, cr = (blue - luma) / (2 * (1 - 0.114)), (red - luma) / (2 * (1 - 0.299))
    return np.stack([16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr], -1)


# Three planes


def test_the_tensor_has_the_networks_planes() -> None:
    picture = noise(5, 4)
    for kind, order in (("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))):
        tensor = tensor_from_picture(picture, planes(kind))
        assert tensor.shape == (1, 3, 4, 5)
        assert tensor.dtype == np.float32
        assert tensor.flags.c_contiguous
        expected = np.float32(picture[..., order].transpose(2, 0, 1)[None]) / np.float32(255)
        np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("kind", ["rgb", "bgr"])
@pytest.mark.parametrize("rounding", ["truncate", "nearest"])
def test_every_value_survives_the_round_trip(kind: str, rounding: str) -> None:
    values = np.arange(256, dtype=np.uint8)
    picture = np.stack([values, values[::-1], np.roll(values, 77)], axis=-1)[None]
    chosen = planes(kind, rounding)
    again = picture_from_tensor(tensor_from_picture(picture, chosen), chosen, np.zeros_like(picture))
    np.testing.assert_array_equal(again, picture)


def test_rounding_is_the_declared_one() -> None:
    levels = np.array([99.0, 99.25, 99.5, 99.75, 254.4, 254.6, 255.0], np.float32) / np.float32(255)
    tensor = np.broadcast_to(levels, (1, 3, 1, 7))
    assert shown(tensor, planes("rgb", "truncate"))[0, :, 0].tolist() == [99, 99, 99, 99, 254, 254, 255]
    assert shown(tensor, planes("rgb", "nearest"))[0, [0, 1, 3, 4, 5, 6], 2].tolist() == [99, 99, 100, 254, 255, 255]


def test_truncation_equals_the_released_codes_expression() -> None:
    # demo.py of https://github.com/CQFIO/FastImageProcessing: np.minimum(np.maximum(y, 0), 1) * 255, then uint8.
    tensor = RNG.uniform(-0.2, 1.2, (1, 3, 40, 50)).astype(np.float32)
    expected = (np.minimum(np.maximum(tensor, 0), 1) * 255).astype(np.uint8)[0].transpose(1, 2, 0)[..., ::-1]
    np.testing.assert_array_equal(shown(tensor, planes("bgr", "truncate")), expected)


@pytest.mark.parametrize("rounding", ["truncate", "nearest"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_output_is_clipped(rounding: str, dtype: type) -> None:
    row: np.ndarray = np.array([-np.inf, -0.01, 0, 1, 1.01, 9000, np.inf], dtype)
    tensor = np.broadcast_to(row, (1, 3, 1, 7))
    assert shown(tensor, planes("rgb", rounding))[0, :, 1].tolist() == [0, 0, 0, 255, 255, 255, 255]
    assert tensor[0, 0, 0, 4] == dtype(1.01)  # the network's output is left as it was


@pytest.mark.parametrize("kind", ["rgb", "bgr"])
def test_black_and_white_are_what_the_network_calls_so(kind: str) -> None:
    row: np.ndarray = np.array([-9, -1, -0.5, 0, 0.5, 1, 9], np.float32)
    tensor = np.stack([row, row[::-1], np.full(7, -1, np.float32)])[None, :, None]
    for rounding, grey in (("truncate", [63, 127, 191]), ("nearest", [64, 128, 191])):
        got = shown(tensor, spec(output=kind, output_range=(-1.0, 1.0), rounding=rounding))
        if kind == "bgr":
            got = got[..., ::-1]
        assert got[0, :, 0].tolist() == [0, 0, *grey, 255, 255]
        assert got[0, :, 1].tolist() == [255, 255, *grey[::-1], 0, 0]
        assert not got[..., 2].any()


def test_metrics_see_black_as_0_and_white_as_1() -> None:
    y = np.array([-1, 0, 1, 3], np.float32)
    assert unit_range(y, spec()) is y
    got = unit_range(y, spec(output_range=(-1.0, 1.0)))
    assert got.dtype == np.float32
    assert got.tolist() == [0, 0.5, 1, 2]
    assert unit_range(y, spec(output_range=(0.0, 255.0))).tolist() == pytest.approx([-1 / 255, 0, 1 / 255, 3 / 255])


# Size: enlarged first, then padded; what comes out is cropped


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k['input']} x{k.get('pre_upscale', 1)}")
@pytest.mark.parametrize("size", [{"size_multiple": 8}, {"min_size": 40}, {"size_multiple": 16, "min_size": 33}])
def test_padding_repeats_the_last_column_and_then_the_last_row(kind: dict[str, Any], size: dict[str, int]) -> None:
    picture = noise(7, 5)
    plain = tensor_from_picture(picture, spec(**kind))
    padded = tensor_from_picture(picture, spec(**kind, **size))
    height, width = plain.shape[2:]
    below, right = padded.shape[2] - height, padded.shape[3] - width
    assert below > 0
    assert right > 0
    np.testing.assert_array_equal(padded, np.pad(plain, ((0, 0), (0, 0), (0, below), (0, right)), "edge"))


def test_what_padding_added_is_cropped() -> None:
    picture, chosen = noise(7, 5), spec(size_multiple=8)
    np.testing.assert_array_equal(picture_from_tensor(tensor_from_picture(picture, chosen), chosen, picture), picture)
    larger = spec(size_multiple=8, upscale=3)
    y = np.repeat(np.repeat(tensor_from_picture(picture, larger), 3, 2), 3, 3)
    expected = picture.repeat(3, 0).repeat(3, 1)
    np.testing.assert_array_equal(picture_from_tensor(y, larger, picture), expected)
    np.testing.assert_array_equal(picture_from_tensor(y, larger, picture, (14, 20)), expected[:14, :20])


@pytest.mark.parametrize("kind", ["rgb", "bgr"])
def test_a_picture_is_enlarged_as_imresize_does_it(kind: str) -> None:
    picture = noise(9, 6)
    got = tensor_from_picture(picture, spec(input=kind, pre_upscale=3))[0]
    expected = imresize(picture.astype(np.float64).transpose(2, 0, 1) / 255, 18, 27)
    np.testing.assert_allclose(got if kind == "rgb" else got[::-1], expected, atol=1e-6)


def test_output_smaller_than_the_picture_is_no_picture() -> None:
    tensor, source = np.zeros((1, 3, 5, 7), np.float32), noise(7, 5)
    assert picture_from_tensor(tensor, spec(), source).shape == (5, 7, 3)
    for larger in ((6, 7), (5, 8)):
        with pytest.raises(ValueError, match=f"at least {larger[0]} rows and {larger[1]} columns"):
            picture_from_tensor(tensor, spec(), source, larger)
    with pytest.raises(ValueError, match="at least 10 rows"):
        picture_from_tensor(tensor, spec(upscale=2), source)


# Constant planes and noise


def test_constant_planes_come_last_and_reach_into_the_padding() -> None:
    chosen = spec(input="bgr", constant_planes=(0.0, 1.0, 0.25), input_planes=6, size_multiple=4)
    tensor = tensor_from_picture(noise(5, 6), chosen)
    assert tensor.shape == (1, 6, 8, 8)
    for plane, value in ((3, 0), (4, 1), (5, 0.25)):
        assert (tensor[0, plane] == value).all()
    without = tensor_from_picture(np.zeros((6, 5, 3), np.uint8), chosen)
    assert not without[0, :3].any()
    np.testing.assert_array_equal(without[0, 3:], tensor[0, 3:])


def test_noise_is_the_same_every_time_and_takes_only_the_size() -> None:
    chosen = spec(input="noise", input_planes=64)
    tensor = tensor_from_picture(noise(30, 20), chosen)
    assert (tensor.shape, tensor.dtype) == ((1, 64, 20, 30), np.float32)
    np.testing.assert_array_equal(tensor, tensor_from_picture(noise(30, 20), chosen))
    assert abs(tensor.mean()) < 0.02  # 38400 numbers: five standard errors are 0.026
    assert tensor.std() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(tensor[0].reshape(64, -1)) - np.eye(64)).max() < 0.25


# Luma


def test_luma_is_that_of_bt_601() -> None:
    picture = noise(40, 30)
    np.testing.assert_allclose(luma_from_picture(picture), ycc(picture)[..., 0], atol=1e-4)
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert luma_from_picture(ends)[0].tolist() == pytest.approx([16, 235])


def test_a_luma_network_sees_luma_over_255() -> None:
    picture = noise(9, 7)
    tensor = tensor_from_picture(picture, spec(**LUMA))
    assert (tensor.shape, tensor.dtype) == ((1, 1, 7, 9), np.float32)
    np.testing.assert_allclose(tensor[0, 0], ycc(picture)[..., 0] / 255, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_luma_is_enlarged_bicubically(factor: int) -> None:
    picture = noise(9, 7)
    tensor = tensor_from_picture(picture, spec(**LUMA, pre_upscale=factor))
    expected = imresize(ycc(picture)[..., 0] / 255, 7 * factor, 9 * factor)
    np.testing.assert_allclose(tensor[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("rounding", ["truncate", "nearest"])
def test_the_input_as_output_gives_the_picture_back(rounding: str) -> None:
    """Every colour: the chroma of the picture is carried along."""
    picture, chosen = noise(60, 50), spec(**LUMA, rounding=rounding)
    again = picture_from_tensor(tensor_from_picture(picture, chosen), chosen, picture)
    assert np.abs(again.astype(int) - picture).max() <= (1 if rounding == "truncate" else 0)


@pytest.mark.parametrize("more", [{"pre_upscale": 3}, {"pre_upscale": 2, "size_multiple": 16}])
def test_chroma_is_enlarged_with_the_luma(more: dict[str, int]) -> None:
    """Resizing is linear: luma and chroma enlarged apart are the picture enlarged."""
    picture, chosen = smooth(21, 15), spec(**LUMA, **more)
    got = picture_from_tensor(tensor_from_picture(picture, chosen), chosen, picture)
    k = more["pre_upscale"]
    expected = imresize(picture.astype(np.float64).transpose(2, 0, 1), 15 * k, 21 * k).transpose(1, 2, 0)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 0.51


def test_a_larger_output_takes_the_chroma_of_the_enlarged_picture() -> None:
    picture, chosen = smooth(12, 9), spec(**LUMA, upscale=3)
    y = RNG.uniform(0.3, 0.5, (1, 1, 27, 36)).astype(np.float32)
    got = ycc(picture_from_tensor(y, chosen, picture))
    expected = imresize(ycc(picture)[..., 1:].transpose(2, 0, 1), 27, 36)
    assert np.abs(got[..., 0] - 255 * y[0, 0]).max() < 1  # rounding to uint8, in three planes
    assert np.abs(got[..., 1:].transpose(2, 0, 1) - expected).max() < 1


def test_luma_beyond_its_range_is_clipped() -> None:
    grey = np.full((1, 4, 3), 128, np.uint8)
    y = np.array([[[[-np.inf, 0, 1.5, np.inf]]]], np.float32)
    assert picture_from_tensor(y, spec(**LUMA), grey)[0].tolist() == [[0] * 3, [0] * 3, [255] * 3, [255] * 3]


# Lightness and colours for it


def test_lightness_is_that_of_cie_lab() -> None:
    picture = noise(6, 5)
    linear = np.where(picture / 255 <= 0.04045, picture / 255 / 12.92, ((picture / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126729, 0.7151522, 0.0721750])  # of D65 white, sRGB
    expected = np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)
    tensor = tensor_from_picture(picture, spec(input="lightness", input_planes=1))
    np.testing.assert_allclose(tensor[0, 0], expected / 100, atol=2e-5)


@pytest.mark.parametrize("kind", ["ab", "yuv"])
def test_the_pictures_own_colours_give_it_back(kind: str) -> None:
    from reference_models import lightness

    picture, chosen = smooth(13, 9), spec(output=kind, output_planes=2, size_multiple=8)
    own = lightness.ab_from_picture(picture) if kind == "ab" else lightness.uv_from_picture(picture)
    padded = np.pad(own, ((0, 0), (0, 0), (0, 7), (0, 3)))  # to 16x16, as the network would see it
    assert np.abs(picture_from_tensor(padded, chosen, picture).astype(int) - picture).max() <= 1


# Classes


def test_class_colours_are_those_of_pascal_voc() -> None:
    """Of the devkit's palette; 255 is the colour of what is not labelled."""
    known = {
        0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128),
        6: (0, 128, 128), 7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0), 12: (64, 0, 128), 15: (192, 128, 128),
        16: (0, 64, 0), 20: (0, 64, 128), 255: (224, 224, 192),
    }  # fmt: skip
    colours = class_colours(256)
    assert colours.dtype == np.uint8
    assert {number: tuple(map(int, colours[number])) for number in known} == known
    assert len({tuple(colour) for colour in colours}) == 256
    assert class_colours(21).shape == (21, 3)


def test_scores_are_shown_as_the_colour_of_the_highest() -> None:
    scores = np.full((1, 21, 2, 3), -5.0, np.float32)
    numbers = [[0, 15, 2], [20, 0, 1]]
    for row, line in enumerate(numbers):
        for column, number in enumerate(line):
            scores[0, number, row, column] = 1 + row + column
    got = shown(scores, spec(output="classes", output_planes=21))
    assert got.dtype == np.uint8
    assert got[0].tolist() == [[0, 0, 0], [192, 128, 128], [0, 128, 0]]
    assert got[1].tolist() == [[0, 64, 128], [0, 0, 0], [128, 0, 0]]


# What is refused


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_nan_raises(plane: int) -> None:
    tensor = np.full((1, 3, 6, 5), 0.5, np.float32)
    tensor[0, plane, 3, 2] = np.nan
    with pytest.raises(ValueError, match=f"NaN in plane {plane}"):
        shown(tensor, planes("bgr"))


def test_nan_in_what_is_cropped_is_nobodys_business() -> None:
    tensor = np.full((1, 3, 8, 8), np.nan, np.float32)
    tensor[..., :5, :7] = 0.5
    assert (picture_from_tensor(tensor, spec(), noise(7, 5)) == 128).all()


@pytest.mark.parametrize("wrong", [np.zeros((3, 4, 5)), np.zeros((1, 1, 4, 5)), np.zeros((1, 3, 4, 5), np.uint8)])
def test_another_output_shape_or_type_raises(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(1, 3, H, W\) of floating point"):
        picture_from_tensor(wrong, spec(), noise(5, 4))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
@pytest.mark.parametrize("kind", ["rgb", "luma", "lightness", "noise"])
def test_what_is_not_a_picture_raises(wrong: Picture, kind: str) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
        tensor_from_picture(wrong, spec(input=kind))


def test_no_wide_temporaries() -> None:
    import tracemalloc

    picture, mib = np.zeros((1000, 1000, 3), np.uint8), 2**20
    tracemalloc.start()
    try:
        tensor = tensor_from_picture(picture, spec())  # 12 MB out
        to_tensor = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        picture_from_tensor(tensor, spec(), picture)  # 3 MB out and one plane of 4 MB
        to_picture = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert to_tensor < 13 * mib
    assert to_picture < 8 * mib


def test_recoloured_planes_keep_the_lightness_of_the_input() -> None:
    """Constant colours for a picture full of edges: what comes out has its edges."""
    from reference_models import get
    from reference_models.lightness import lightness_from_picture

    source = RNG.integers(0, 256, (16, 24, 1), np.uint8).repeat(3, 2)
    planes = np.full((1, 3, 16, 24), 0.5, np.float32)
    planes[:, 0] = 0.6
    made = picture_from_tensor(planes, get("colorization", {"space": "rgb"}), source)
    assert np.corrcoef(lightness_from_picture(made).ravel(), lightness_from_picture(source).ravel())[0, 1] > 0.99


def test_the_largest_score_wins_and_the_first_of_equal_ones() -> None:
    from reference_models import get

    spec = get("pixel_dcn")
    scores = RNG.normal(size=(1, spec.output_planes, 16, 16)).astype(np.float32)
    scores[0, 3, 0, 0] = scores[0, 7, 0, 0] = 99
    made = picture_from_tensor(scores, spec, np.zeros((16, 16, 3), np.uint8))
    np.testing.assert_array_equal(made, class_colours(spec.output_planes)[scores[0].argmax(0)])

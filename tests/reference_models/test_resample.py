"""imresize against MATLAB's stored results, a slow independent implementation, and what any resizing must keep."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from reference_models.resample import imresize

SIZES = [
    ((7, 5), (14, 15)),
    ((5, 9), (20, 9)),
    ((9, 13), (4, 5)),
    ((12, 7), (6, 21)),
    ((1, 1), (3, 2)),
    ((2, 3), (1, 1)),
]


def keys(x):
    """The kernel through its conditions, piece by piece: Keys 1981, equation 15."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def slow_line(line, size):
    """One line at a time, every input weighed with every mirror image of it that the kernel can reach."""
    count = len(line)
    shrink = min(size / count, 1.0)
    reach = math.ceil(2 / shrink) + 2
    extended = line
    while len(extended) < count + 2 * reach:  # mirrored on both sides until the kernel never leaves it
        extended = np.concatenate([extended[:count][::-1], extended, extended[-count:][::-1]])
    before = (len(extended) - count) // 2
    out = []
    for k in range(size):
        # MATLAB counts from 1: u = x / scale + (1 - 1 / scale) / 2
        scale = size / count
        u = (k + 1) / scale + 0.5 * (1 - 1 / scale) - 1
        weights = np.array([keys(shrink * (u - (i - before))) for i in range(len(extended))])
        out.append((weights @ extended) / weights.sum())
    return np.array(out)


def slow_imresize(plane, height, width):
    rows = np.stack([slow_line(column, height) for column in plane.T], 1)
    return np.stack([slow_line(row, width) for row in rows])


@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_against_the_slow_implementation(size, new_size):
    plane = np.random.default_rng(0).uniform(0, 255, size)
    assert np.abs(imresize(plane, *new_size) - slow_imresize(plane, *new_size)).max() < 1e-11


def test_lines_longer_than_a_block_of_outputs():
    plane = np.random.default_rng(1).normal(size=(1, 90))
    assert np.abs(imresize(plane, 1, 270) - slow_line(plane[0], 270)).max() < 1e-12
    assert np.abs(imresize(plane.T, 270, 1)[:, 0] - slow_line(plane[0], 270)).max() < 1e-12


@pytest.mark.parametrize("picture", ["baby", "bird", "butterfly", "head", "woman"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlabs_own_results(originals, picture, scale):
    with np.load(originals / "vdsr" / "set5" / f"{picture}_x{scale}.npz") as stored:
        low, wanted = stored["lr_y"], stored["input"]
    got = imresize(low, low.shape[0] * scale, low.shape[1] * scale)
    assert got.dtype == low.dtype
    assert np.abs(got - 255 * wanted.astype(np.float64)).max() < 1e-4


@pytest.mark.parametrize("picture", ["bird", "woman"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlabs_antialiasing(originals, picture, scale):
    with np.load(originals / "vdsr" / "set5" / f"{picture}_x{scale}.npz") as stored:
        high, wanted = stored["gt_y"], stored["lr_y"]
    assert np.abs(imresize(high, *wanted.shape) - wanted).max() < 1e-4


@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_a_constant_stays_constant(size, new_size):
    assert np.abs(imresize(np.full(size, 0.7), *new_size) - 0.7).max() < 1e-15


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_same_size_is_the_same_picture_in_memory_of_its_own(dtype):
    planes = np.random.default_rng(2).uniform(size=(2, 5, 6)).astype(dtype)
    got = imresize(planes, 5, 6)
    assert np.array_equal(got, planes)
    assert not np.shares_memory(got, planes)
    assert got.dtype == dtype


def test_planes_are_resized_one_by_one_whatever_comes_before():
    planes = np.random.default_rng(3).uniform(size=(2, 3, 6, 5))
    got = imresize(planes, 12, 4)
    assert got.shape == (2, 3, 12, 4)
    assert got.flags.c_contiguous
    for i, j in np.ndindex(2, 3):
        assert np.allclose(got[i, j], imresize(planes[i, j], 12, 4), atol=1e-14)


def test_a_view_that_is_not_contiguous_gives_the_same():
    plane = np.random.default_rng(4).uniform(size=(8, 6))
    assert np.array_equal(imresize(plane.T[::-1], 9, 16), imresize(np.ascontiguousarray(plane.T[::-1]), 9, 16))


def test_a_picture_turned_over_gives_the_result_turned_over():
    plane = np.random.default_rng(5).uniform(size=(7, 8))
    for size in ((14, 24), (3, 5)):
        assert np.allclose(imresize(plane[::-1, ::-1], *size), imresize(plane, *size)[::-1, ::-1], atol=1e-14)


def test_float32_is_summed_in_float64():
    plane = np.random.default_rng(6).uniform(0, 255, (40, 30))
    once_rounded = imresize(plane.astype(np.float32).astype(np.float64), 80, 90)
    assert np.abs(imresize(plane.astype(np.float32), 80, 90) - once_rounded).max() < 4e-5  # two roundings at 255


def test_temporaries_are_small_beside_input_and_output():
    plane = np.zeros((540, 960), np.float32)
    tracemalloc.start()
    imresize(plane, 1080, 1920)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (1080 * 1920 + 1080 * 960) * 4 * 1.25


@pytest.mark.parametrize(
    ("planes", "size"),
    [
        (np.zeros((4, 4), np.uint8), (8, 8)),
        (np.zeros(4), (8, 8)),
        (np.zeros((4, 4)), (0, 8)),
        (np.zeros((0, 4)), (8, 8)),
    ],
)
def test_what_cannot_be_resized_is_refused(planes, size):
    with pytest.raises(ValueError, match=r"expected|at least 1"):
        imresize(planes, *size)

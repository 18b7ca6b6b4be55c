"""L0 smoothing keeps strong edges at their full height, flattens faint texture, and is the published algorithm."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get
from reference_models.operators.l0_smoothing import smooth

SMOOTH = get("l0_smoothing")


def by_the_paper(picture):
    """With the growth of the authors' program: the operator's own is coarser, as the released networks learned it."""
    return np.clip(smooth(picture, 0.02, 2.0) * 255 + 0.5, 0, 255).astype(np.uint8)


def test_the_operator_is_the_one_that_the_released_network_reproduces():
    assert SMOOTH.parameters == {"weight": 0.02, "growth": 8.0}


def step_with_noise(amplitude: int, seed: int = 0) -> np.ndarray:
    picture = np.full((64, 96, 3), 60, np.int64)
    picture[:, 48:] = 190
    picture += np.random.default_rng(seed).integers(-amplitude, amplitude + 1, picture.shape)
    return picture.astype(np.uint8)


def plain(picture: np.ndarray, weight: float, growth: float) -> np.ndarray:
    """Algorithm 1 of the paper once more, in float64 with complex transforms and whole arrays."""
    s = picture / 255
    delta_x, delta_y = np.zeros((2, *s.shape[:2]))
    np.add.at(delta_x, (0, [0, -1]), [-1, 1])
    np.add.at(delta_y, ([0, -1], 0), [-1, 1])
    response = sum(np.abs(np.fft.fft2(d)) ** 2 for d in (delta_x, delta_y))[..., None]
    start, beta = np.fft.fft2(s, axes=(0, 1)), 2 * weight
    while beta < 1e5:
        h, v = np.roll(s, -1, 1) - s, np.roll(s, -1, 0) - s
        cut = (h**2 + v**2).sum(2) < weight / beta
        h[cut] = v[cut] = 0
        back = np.roll(h, 1, 1) - h + np.roll(v, 1, 0) - v
        s = np.fft.ifft2((start + beta * np.fft.fft2(back, axes=(0, 1))) / (1 + beta * response), axes=(0, 1)).real
        beta *= growth
    return s


def test_a_strong_edge_keeps_its_height_and_place_and_the_noise_beside_it_goes():
    picture = step_with_noise(10)
    made = by_the_paper(picture)
    assert picture[:, 4:44].std() > 5
    assert made[:, 4:44].std() < 0.5
    assert made[:, 52:92].std() < 0.5
    heights = made[:, 48].astype(int) - made[:, 47]
    assert np.abs(heights - 130).max() <= 3


def test_few_gradients_are_left():
    picture = step_with_noise(10)

    def gradients(p: np.ndarray) -> int:
        return int((np.abs(np.diff(p.astype(int), axis=1)).max(2) > 1).sum())

    assert gradients(by_the_paper(picture)) <= 2 * 64  # the edge may take two pixels
    assert gradients(picture) > 60 * 64


def test_a_larger_weight_leaves_fewer_gradients():
    picture = np.random.default_rng(1).integers(60, 190, (40, 40, 3)).astype(np.uint8)

    def left(weight: float) -> int:
        return int((np.abs(np.diff(smooth(picture, weight, 2.0), axis=0)).max(2) > 2 / 255).sum())

    assert left(0.2) < left(0.02) < left(0.002)


def test_it_is_the_published_algorithm_at_odd_and_even_sizes_and_over_several_bands():
    for height, width in ((37, 53), (64, 40), (100, 600)):
        picture = step_with_noise(25, seed=height).repeat(7, axis=1)[:height, :width]
        picture = np.resize(picture, (height, width, 3))
        expected = plain(picture, 0.02, 2.0)
        made = smooth(picture, 0.02, 2.0)
        # A gradient within rounding of the threshold may be kept here and cut there.
        assert 10 * np.log10(1 / np.mean((made - expected) ** 2)) > 60
        assert np.median(np.abs(made - expected)) < 1e-5


def test_grey_stays_grey():
    grey = step_with_noise(10)[..., :1].repeat(3, axis=2)
    made = SMOOTH(grey)
    assert np.ptp(made.astype(int), axis=2).max() == 0

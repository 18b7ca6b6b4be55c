"""A haze that was planted is found, its light and its density, and removed to within a bound."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get
from reference_models.operators.dark_channel import air_light, guided


def scene(seed: int = 0) -> np.ndarray:
    """Blocks of saturated colours: something near every pixel is dark."""
    rng = np.random.default_rng(seed)
    colours = rng.uniform(0, 0.8, (16, 24, 3))
    colours[np.arange(16)[:, None], np.arange(24), rng.integers(0, 3, (16, 24))] = 0.0
    return colours.repeat(5, axis=0).repeat(5, axis=1)


def hazed(clear: np.ndarray, transmission: float, light: np.ndarray) -> np.ndarray:
    hazy = clear * transmission + light * (1 - transmission)
    hazy[:20, :20] = light  # sky
    return np.rint(hazy * 255).astype(np.uint8)


def test_a_planted_haze_is_removed_to_within_a_bound():
    clear, light = scene(), np.array([0.9, 0.92, 0.95])
    picture = hazed(clear, 0.5, light)
    made = get("dark_channel")(picture) / 255
    away = np.s_[40:, 40:]
    before = np.abs(picture[away] / 255 - clear[away]).mean()
    after = np.abs(made[away] - clear[away]).mean()
    assert before > 0.2
    assert after < 0.25 * before


def test_the_light_of_the_air_is_that_of_the_sky():
    light = np.array([0.9, 0.92, 0.95])
    values = (hazed(scene(), 0.5, light) / np.float32(255)).astype(np.float32)
    from scipy.ndimage import minimum_filter

    np.testing.assert_allclose(air_light(values, minimum_filter(values.min(2), 15)), light, atol=0.01)


def test_the_guided_filter_keeps_a_function_of_the_guide_and_blurs_what_the_guide_does_not_show():
    rng = np.random.default_rng(0)
    guide = rng.random((40, 50, 3)).astype(np.float32)
    linear = (guide @ np.array([0.2, -0.5, 0.9], np.float32)) + np.float32(0.3)
    np.testing.assert_allclose(guided(guide, linear, 11, 1e-6), linear, atol=1e-3)
    flat = np.full((40, 50, 3), 0.5, np.float32)
    noise = rng.random((40, 50)).astype(np.float32)
    assert guided(flat, noise, 11, 1e-3).std() < 0.3 * noise.std()

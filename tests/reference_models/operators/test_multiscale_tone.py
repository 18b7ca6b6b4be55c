"""Multiscale tone: detail grows, edges do not blur or ring, and the curve is the one described."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get
from reference_models.operators.multiscale_tone import curve, smoothed


def textured_steps() -> np.ndarray:
    x = np.arange(96)
    row = np.where(x < 48, 70, 170) + 6 * np.sin(x)
    return np.repeat(np.rint(row).astype(np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)


def test_detail_on_both_sides_of_an_edge_is_boosted():
    picture = textured_steps()
    made = get("multiscale_tone")(picture)
    for columns in (slice(8, 40), slice(56, 88)):
        assert made[20, columns, 1].std() > 1.5 * picture[20, columns, 1].std()


def test_the_smoothing_takes_the_detail_and_leaves_the_edge():
    lightness = textured_steps()[..., 0].astype(np.float32) / 2.55
    made = smoothed(lightness, 0.5, 1.2)
    assert made[:, 8:40].std() < 0.6 * lightness[:, 8:40].std()
    assert made[20, 48:72].mean() - made[20, 24:48].mean() > 0.9 * 100 / 2.55
    assert made[20, 48] - made[20, 47] > 0.8 * (lightness[20, 48] - lightness[20, 47])


def test_the_curve_is_steep_in_the_middle_and_keeps_its_ends():
    values = np.array([-50, -1, 0, 1, 50], np.float32)
    np.testing.assert_allclose(curve(values, 25.0)[[0, 2, 4]], [-50, 0, 50], atol=1e-4)
    assert curve(values, 25.0)[3] > 5
    np.testing.assert_allclose(curve(values, 0.01), values, rtol=1e-3)

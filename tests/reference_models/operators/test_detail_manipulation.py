"""Detail manipulation amplifies small differences, leaves large edges their height, and makes no halo."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get


def test_detail_is_amplified_and_an_edge_keeps_its_height_without_halo():
    x = np.arange(128)
    row = np.where(x < 64, 60, 190) + 3 * np.sin(x * 1.1)
    picture = np.repeat(np.rint(row).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    made = get("detail_manipulation")(picture).astype(float)[32, :, 1]
    before = picture[32, :, 1].astype(float)
    for columns in (slice(16, 56), slice(72, 112)):
        assert made[columns].std() > 2 * before[columns].std()
    assert abs((made[72:112].mean() - made[16:56].mean()) - 130) < 15
    flat = picture.copy()
    flat[:, :64], flat[:, 64:] = 60, 190
    plain = get("detail_manipulation")(flat).astype(int)[32, :, 1]
    assert plain[:60].max() - 60 <= 4
    assert 190 - plain[68:].min() <= 4


def test_colours_keep_their_ratios():
    rng = np.random.default_rng(0)
    picture = (rng.integers(90, 110, (40, 40, 1)) * np.array([1.0, 0.8, 0.6])).astype(np.uint8)
    made = get("detail_manipulation")(picture).astype(float)
    np.testing.assert_allclose(made[..., 2] / made[..., 0], picture[..., 2] / picture[..., 0], atol=0.03)

"""Relative total variation takes texture of high contrast and leaves an edge of lower contrast."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get


def test_texture_goes_and_a_weaker_edge_stays():
    rng = np.random.default_rng(0)
    picture = np.full((80, 120, 3), 90, np.int64)
    picture[:, 60:] = 150
    picture += np.where(rng.random((80, 120, 1)) < 0.5, -45, 45)  # taller than half the edge
    made = get("rtv")(picture.astype(np.uint8)).astype(float)
    inner = np.s_[10:-10, 10:45]
    assert picture[inner].std() > 40
    assert made[inner].std() < 12
    jump = made[10:-10, 64:68].mean() - made[10:-10, 52:56].mean()
    assert jump > 0.6 * 60

"""TV-L1: what is small goes whatever its contrast, what is large keeps its full contrast; salt and pepper vanish."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get
from reference_models.operators.tvl1 import restore


def disc(radius: int, contrast: int) -> np.ndarray:
    y, x = np.mgrid[-30:31, -30:31]
    picture = np.full((61, 61, 3), 60, np.uint8)
    picture[x * x + y * y <= radius * radius] = 60 + contrast
    return picture


def test_size_decides_and_contrast_does_not():
    def height(radius: int, contrast: int) -> float:
        made = restore(disc(radius, contrast), fidelity=0.4, rounds=400)  # 2 / fidelity: a radius of 5 px
        return float(made[30, 30, 0] - 60 / 255) * 255

    for contrast in (20, 150):
        assert height(2, contrast) < 0.1 * contrast
        assert height(14, contrast) > 0.95 * contrast


def test_salt_and_pepper_go_and_the_edge_keeps_its_contrast():
    picture = np.full((48, 64, 3), 70, np.uint8)
    picture[:, 32:] = 180
    rng = np.random.default_rng(3)
    hit = rng.random((48, 64)) < 0.08
    dirty = picture.copy()
    dirty[hit] = rng.choice([0, 255], hit.sum())[:, None]
    made = get("tvl1")(dirty).astype(int)
    assert np.abs(made - picture).mean() < 0.2 * np.abs(dirty.astype(int) - picture).mean()
    assert np.median(made[:, 34:] - made[:, 29:30]) > 105

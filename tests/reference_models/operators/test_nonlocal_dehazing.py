"""Non-local dehazing: colours on one line get their depths, and a planted haze is undone."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get
from reference_models.operators.nonlocal_dehazing import haze_lines, sphere


def test_the_distance_along_a_line_is_the_transmission():
    """Few true colours, each seen clearly somewhere and through haze elsewhere: what the paper assumes."""
    rng = np.random.default_rng(0)
    colours, light = rng.uniform(0, 0.6, (12, 3)), np.array([0.95, 0.95, 0.95])
    transmission = rng.uniform(0.2, 1, (60, 80))
    transmission[0] = 1
    index = np.arange(80) % 12
    index = np.broadcast_to(index, (60, 80))
    hazy = colours[index] * transmission[..., None] + light * (1 - transmission[..., None])
    rays = haze_lines((hazy - light).astype(np.float32), 4000)
    assert np.abs(rays.share - transmission).mean() < 0.02


def test_a_planted_haze_is_thinner_afterwards():
    rng = np.random.default_rng(1)
    colours, light = rng.uniform(0, 0.7, (20, 3)), np.array([0.9, 0.9, 0.9])
    clear = colours[rng.integers(0, 20, (24, 32))].repeat(3, axis=0).repeat(3, axis=1)
    transmission = np.linspace(0.3, 1, 72)[:, None, None]
    hazy = clear * transmission + light * (1 - transmission)
    picture = np.rint(hazy * 255).astype(np.uint8)
    made = get("nonlocal_dehazing")(picture) / 255
    contrast_before = picture[:24].std() / picture[48:].std()
    contrast_after = made[:24].std() / made[48:].std()
    assert contrast_before < 0.6
    assert contrast_after > 0.75


def test_directions_are_spread_evenly_over_the_sphere():
    from scipy.spatial import KDTree

    points = sphere(500)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    np.testing.assert_allclose(points.mean(0), 0, atol=0.01)
    gaps = KDTree(points).query(points, k=2)[0][:, 1]
    assert gaps.max() < 2 * gaps.min()

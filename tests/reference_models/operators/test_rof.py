"""ROF removes noise and keeps edges better than a Gaussian of the same smoothing; its total variation falls."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get


def variation(picture: np.ndarray) -> float:
    values = picture.astype(float)
    return float(np.abs(np.diff(values, axis=0)).sum() + np.abs(np.diff(values, axis=1)).sum())


def test_noise_goes_and_an_edge_stays_better_than_under_a_gaussian():
    from scipy.ndimage import gaussian_filter

    clean = np.full((64, 96, 3), 80, np.uint8)
    clean[:, 48:] = 180
    noise = np.random.default_rng(0).normal(0, 12, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    made = get("rof")(noisy)
    assert variation(made) < 0.3 * variation(noisy)
    assert np.abs(made[:, :44].astype(float) - 80).std() < 4

    def error(picture: np.ndarray) -> float:
        return float(np.mean((picture.astype(float) - clean) ** 2))

    blurred = [gaussian_filter(noisy.astype(float), (s, s, 0)) for s in (0.5, 1, 1.5, 2, 3)]
    assert error(made) < 0.5 * min(map(error, blurred))

"""Style transfer: the tones of what comes out are the model's, and its gradients come nearer to the model's."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get
from reference_models.operators.photographic_style import _model_luma, gradient_lengths, matched
from reference_models.pictures import default_picture

STYLE = get("photographic_style")
MODEL = _model_luma(STYLE.parameters["model"])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between distributions: the mean difference of their quantiles."""
    share = np.linspace(0, 1, 101)
    return float(np.abs(np.quantile(a, share) - np.quantile(b, share)).mean())


def test_tones_are_the_models_and_gradients_come_nearer():
    picture = (default_picture() // 3 + 90)[::2, ::2]  # a dull one
    made = STYLE(picture)
    assert np.ptp(made.astype(int), axis=2).max() == 0
    before, after = picture.mean(2) / 255, made[..., 0] / 255
    assert distance(after, MODEL) < 0.02 < distance(before, MODEL)
    wanted = gradient_lengths(MODEL)
    assert distance(gradient_lengths(after), wanted) < 0.5 * distance(gradient_lengths(before), wanted)


def test_matching_keeps_the_order_and_gives_the_distribution():
    rng = np.random.default_rng(0)
    values, wanted = rng.random((50, 60), np.float32), np.sort(rng.random(5000, np.float32) ** 3)
    made = matched(values, wanted)
    order = np.argsort(values, axis=None)
    assert (np.diff(made.ravel()[order]) >= 0).all()
    assert distance(made, wanted) < 0.01

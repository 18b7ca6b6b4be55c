"""A drawing is grey, mostly paper, dark along edges, and has the tones of pencil."""

from __future__ import annotations

import numpy as np

from reference_models.operators import get
from reference_models.operators.pencil import tone_histogram
from reference_models.pictures import default_picture

DRAW = get("pencil")


def test_it_is_grey_and_bright():
    made = DRAW(default_picture()[::2, ::2])
    assert np.ptp(made.astype(int), axis=2).max() == 0
    assert np.median(made) > 200


def test_an_edge_becomes_a_stroke_that_runs_along_it_and_reaches_beyond_it():
    picture = np.full((80, 80, 3), 200, np.uint8)
    picture[20:60, 40:] = 90
    made = DRAW(picture).astype(int)[..., 0]
    assert made[40, 39] < made[40, 25] - 60
    assert made[40, 39] < made[40, 70]
    assert made[15, 39] < made[15, 20] - 10  # above the corner, where the picture has no edge


def test_the_histogram_of_tones_sums_to_one_and_most_of_it_is_paper():
    share = tone_histogram()
    np.testing.assert_allclose(share.sum(), 1)
    assert share[226:].sum() > 0.5
    assert share[:60].sum() < 0.02

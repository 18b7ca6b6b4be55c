"""The generator: any size, the same every time, and the statistics that it is for."""

from __future__ import annotations

import numpy as np
import pytest

from reference_models.training.scenes import scene


@pytest.mark.parametrize(("width", "height"), [(64, 48), (33, 200), (1, 1)])
def test_a_scene_is_a_picture_of_the_size_asked_for(width: int, height: int) -> None:
    made = scene(width, height, seed=0)
    assert made.shape == (height, width, 3)
    assert made.dtype == np.uint8


def test_the_same_seed_gives_the_same_scene_and_another_one_another() -> None:
    np.testing.assert_array_equal(scene(80, 60, 3), scene(80, 60, 3))
    assert (scene(80, 60, 3) != scene(80, 60, 4)).mean() > 0.5


def test_scenes_have_flat_areas_and_sharp_edges() -> None:
    """As photographs: most steps between neighbours are small, and some large; noise of the same range has neither."""
    steps = np.concatenate([np.abs(np.diff(scene(160, 120, s).astype(int), axis=1)).ravel() for s in range(6)])
    assert (steps <= 4).mean() > 0.5
    assert (steps >= 64).mean() > 0.005
    assert steps.max() > 150

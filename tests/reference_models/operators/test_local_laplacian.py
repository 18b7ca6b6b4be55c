"""The local Laplacian filter: nothing added gives the picture back; pyramids rebuild exactly."""

from __future__ import annotations

import numpy as np
import pytest

from reference_models.operators.local_laplacian import gaussian_pyramid, laplacian_pyramid, local_laplacian


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (17, 40), (64, 64)])
def test_a_curve_that_adds_nothing_gives_the_plane_back(height, width):
    plane = np.random.default_rng(0).random((height, width), np.float32)
    made = local_laplacian(plane, lambda p, reference: np.zeros_like(p), 5)
    np.testing.assert_allclose(made, plane, atol=1e-5)


def test_a_linear_curve_doubles_all_detail():
    """With the same gain at every reference the fast form is exact: twice the picture, but for the coarsest level."""
    plane = np.random.default_rng(0).random((32, 32), np.float32)
    made = local_laplacian(plane, lambda p, reference: p - np.float32(reference), 7)
    gaussian = gaussian_pyramid(plane, 5)
    expected = 2 * plane - local_laplacian_of_coarsest(gaussian)
    np.testing.assert_allclose(made, expected, atol=1e-4)


def local_laplacian_of_coarsest(gaussian: list[np.ndarray]) -> np.ndarray:
    from reference_models.operators.local_laplacian import _enlarged

    out = gaussian[-1]
    for finer in reversed(gaussian[:-1]):
        out = _enlarged(out, finer.shape)
    return out


def test_a_laplacian_pyramid_of_a_flat_plane_is_empty_but_for_its_last_level():
    levels = laplacian_pyramid(gaussian_pyramid(np.full((37, 21), 0.5, np.float32), 4))
    assert max(np.abs(level).max() for level in levels[:-1]) < 1e-6
    np.testing.assert_allclose(levels[-1], 0.5, atol=1e-6)

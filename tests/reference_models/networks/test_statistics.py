"""Where statistics come from: thumbnails, calibration sets, and how they are folded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference_models.networks.can import Can
from reference_models.networks.statistics import THUMBNAIL_SCALE, Foldable, ThumbnailAffines, calibrated_affines, fold_

SMALL = {"width": 5, "dilations": (1, 2, 1)}


@pytest.fixture
def can(randomise):
    return randomise(Can(**SMALL)).eval()


def reduced(x):
    """Means over squares of 4 pixels a side, cut where the picture ends; one by one, in float64."""
    height, width = x.shape[2:]
    small = np.empty((1, 3, -(-height // 4), -(-width // 4)))
    for row, column in np.ndindex(*small.shape[2:]):
        part = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].astype(np.float64)
        small[:, :, row, column] = part.mean((2, 3))
    return torch.from_numpy(small.astype(np.float32))


def test_a_can_is_foldable(can):
    assert isinstance(can, Foldable)
    assert not isinstance(torch.nn.Identity(), Foldable)


def test_the_thumbnail_is_a_quarter_per_side():
    assert THUMBNAIL_SCALE == 4


@pytest.mark.parametrize(("height", "width"), [(48, 64), (23, 41), (9, 30)])
def test_thumbnail_statistics_are_those_of_the_reduced_picture(can, picture, height, width):
    x = picture(height, width)
    with torch.inference_mode():
        wanted = can.affines(can.statistics(reduced(x)))[0]
        got = ThumbnailAffines(can)(torch.from_numpy(x))
    assert got.shape == (3, 2, 5)
    assert torch.allclose(got, wanted, atol=1e-4, rtol=1e-4)


def test_a_picture_below_the_thumbnails_scale_still_has_one(can, picture):
    with torch.inference_mode():
        assert torch.isfinite(ThumbnailAffines(can)(torch.from_numpy(picture(1, 3)))).all()


def test_calibration_averages_statistics_and_every_picture_counts_the_same(can, picture):
    pictures = [
        torch.from_numpy(picture(height, width, seed)) for seed, (height, width) in enumerate([(9, 12), (40, 31)])
    ]
    pictures[1] *= 0.3
    with torch.inference_mode():
        statistics = [can.statistics(p) for p in pictures]
        wanted = can.affines((statistics[0] + statistics[1]) / 2)[0]
        of_affines = (can.affines(statistics[0]) + can.affines(statistics[1]))[0] / 2
        got = calibrated_affines(can, iter(pictures))
    assert got.shape == (3, 2, 5)
    assert torch.allclose(got, wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got, of_affines, atol=1e-3)


def test_calibration_with_one_picture_is_its_own_statistics(can, picture):
    x = torch.from_numpy(picture(24, 32))
    folded = fold_(can.folded(), calibrated_affines(can, [x]))
    with torch.inference_mode():
        assert torch.allclose(folded(x), can(x), atol=1e-4)
        assert not torch.allclose(folded(0.5 * x), can(0.5 * x), atol=1e-2)  # frozen: no longer the picture's own


def test_folding_scales_the_outputs_of_a_convolution_and_sets_its_bias(can):
    folded, affines = can.folded(), torch.rand(3, 2, 5)
    before = folded.convs[1].weight.detach().clone()
    assert fold_(folded, affines) is folded
    assert not folded.training
    for plane in range(5):
        assert torch.equal(folded.convs[1].weight[plane], before[plane] * affines[1, 0, plane])
    assert torch.equal(folded.convs[1].bias, affines[1, 1])
    assert torch.equal(folded.last.weight, can.last.weight)


def test_folding_refuses_another_number_of_layers(can):
    with pytest.raises(ValueError, match="zip"):
        fold_(can.folded(), torch.rand(2, 2, 5))

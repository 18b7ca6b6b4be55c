"""Sizes counted by hand from the papers' layer lists."""

from __future__ import annotations

import pytest

from reference_models import get
from reference_models.counting import count_size


def convolutions(*layers: tuple[int, int, int], biases: bool = True) -> tuple[int, int]:
    """Parameters and multiply-accumulates per pixel of (in, out, kernel side) convolutions at one size."""
    weights = sum(a * b * k * k for a, b, k in layers)
    return weights + (sum(b for _, b, _ in layers) if biases else 0), weights


def test_srcnn_counts_at_the_size_that_comes_out() -> None:
    parameters, per_pixel = convolutions((1, 64, 9), (64, 32, 5), (32, 1, 5))
    size = count_size(get("srcnn_955"), 300, 201)  # three times 100x67
    assert (size.parameters, size.macs) == (parameters, per_pixel * 300 * 201)


def test_espcn_counts_at_the_size_that_goes_in() -> None:
    parameters, per_pixel = convolutions((1, 64, 5), (64, 32, 3), (32, 9, 3))
    size = count_size(get("espcn_x3"), 300, 201)
    assert (size.parameters, size.macs) == (parameters, per_pixel * 100 * 67)


def test_vdsr_has_no_biases() -> None:
    parameters, per_pixel = convolutions((1, 64, 3), *[(64, 64, 3)] * 18, (64, 1, 3), biases=False)
    size = count_size(get("vdsr"), 64, 48)
    assert (size.parameters, size.macs) == (parameters, per_pixel * 64 * 48)


def test_padding_up_to_the_size_multiple_is_counted() -> None:
    spec = get("pixel_dcn")
    k = spec.size_multiple
    assert count_size(spec, 4 * k - 1, 4 * k - 1).macs == count_size(spec, 4 * k, 4 * k).macs


@pytest.mark.parametrize("name", ["can24", "can32"])
def test_can_equals_the_count_over_its_published_layers(name: str) -> None:
    spec = get(name)
    width, layers = spec.options["width"], len(spec.options["dilations"])  # type: ignore[arg-type]
    assert isinstance(width, int)
    weights = 9 * 3 * width + 9 * width * width * (layers - 1) + 3 * width
    size = count_size(spec, 64, 48)
    # Besides weights: the last layer's biases, and two scalars and `width` offsets for every normalisation.
    assert size.parameters == weights + 3 + layers * (2 + width)
    assert size.macs == weights * 64 * 48

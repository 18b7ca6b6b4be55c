"""What the CAN specs declare: the published architectures, and every declaration measured."""

from __future__ import annotations

import pytest
import torch

from reference_models import create_model
from reference_models.can import SPECS
from reference_models.networks.statistics import fold_

# Table 1 of the paper (CAN32: depth 10) and CAN24_AN/demo.py of its release, which has no layer 8.
PUBLISHED = {
    "can24": (24, [1, 2, 4, 8, 16, 32, 64, 1]),
    "can32": (32, [1, 2, 4, 8, 16, 32, 64, 128, 1]),
}
SPEC = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def test_both_published_networks_are_declared():
    assert [spec.name for spec in SPECS] == list(PUBLISHED)


@SPEC
def test_layers_are_those_published(spec):
    width, dilations = PUBLISHED[spec.name]
    can = create_model(spec.name)
    assert [conv.dilation for conv in can.convs] == [(d, d) for d in dilations]
    assert [conv.padding for conv in can.convs] == [(d, d) for d in dilations]
    assert {conv.kernel_size for conv in can.convs} == {(3, 3)}
    assert {conv.stride for conv in can.convs} == {(1, 1)}
    assert {conv.padding_mode for conv in can.convs} == {"zeros"}
    assert [conv.bias for conv in can.convs] == [None] * len(dilations)
    assert [(conv.in_channels, conv.out_channels) for conv in can.convs] == [(3, width)] + [(width, width)] * (
        len(dilations) - 1
    )
    assert (can.last.in_channels, can.last.out_channels, can.last.kernel_size) == (width, 3, (1, 1))
    assert can.last.bias is not None


@SPEC
def test_number_of_parameters(spec):
    width, dilations = PUBLISHED[spec.name]
    layers = len(dilations)
    convs = 9 * 3 * width + (layers - 1) * 9 * width**2
    assert sum(p.numel() for p in create_model(spec.name).parameters()) == (
        convs + layers * (width + 2) + 3 * width + 3
    )


def test_what_the_release_does_to_pictures():
    for spec in SPECS:
        assert (spec.channels, spec.rounding, spec.upscale) == ("BGR", "truncate", 1)
        assert spec.statistics == ("image", "frozen", "thumbnail")  # the published way first


@SPEC
def test_the_receptive_field_is_the_square_that_one_pixel_reaches(spec, randomise):
    field = spec.receptive_field_px
    can = randomise(create_model(spec.name, width=4))  # what is measured does not depend on the width
    folded = can.folded()
    layers, width = len(folded.convs), can.last.in_channels
    affines = torch.stack([torch.ones(layers, width), torch.rand(layers, width)], 1)
    fold_(folded, affines).double()
    with torch.no_grad():
        for conv in folded.convs:  # positive weights: no path cancels another; far ones are 1e-9 of the whole
            conv.weight.abs_().div_(conv.weight.sum((1, 2, 3), keepdim=True))
    before = torch.rand(1, 3, field + 8, field + 6, dtype=torch.float64)
    y, x = field // 2 + 5, field // 2 + 2
    after = before.clone()
    after[0, 1, y, x] += 1
    with torch.inference_mode():
        changed = (folded(after) != folded(before)).any(1)[0].nonzero()
    halo = spec.halo_px
    assert changed.amin(0).tolist() == [y - halo, x - halo]
    assert changed.amax(0).tolist() == [y + halo, x + halo]
    assert changed.shape[0] == field**2


@SPEC
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5), (23, 41)])
def test_size_multiple_and_upscale_hold_at_sizes_that_are_no_round_numbers(spec, height, width):
    height, width = height * spec.size_multiple, width * spec.size_multiple
    with torch.inference_mode():
        y = create_model(spec.name)(torch.rand(1, 3, height, width))
    assert y.shape == (1, 3, height * spec.upscale, width * spec.upscale)
    assert y.dtype == torch.float32

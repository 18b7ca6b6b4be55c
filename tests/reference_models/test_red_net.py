"""What the RED-Net specs declare: layers, parameters, receptive field, sizes and options, all measured."""

from __future__ import annotations

import pytest
import torch

from reference_models import create_model, get
from reference_models.networks.red_net import Deconvolution, RedNet
from reference_models.red_net import SPECS, configured

DEPTHS = {"red10": 10, "red20": 20, "red30": 30}
SPEC = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def test_the_three_networks_of_the_paper_are_declared():
    assert [spec.name for spec in SPECS] == list(DEPTHS)
    assert {spec.task for spec in SPECS} == {"denoising"}


@SPEC
def test_layers_are_those_of_the_paper(spec):
    n = DEPTHS[spec.name] // 2
    model = create_model(spec.name)
    assert [(c.in_channels, c.out_channels) for c in model.convs] == [(1, 64)] + [(64, 64)] * (n - 1)
    assert [(c.in_channels, c.out_channels) for c in model.deconvs] == [(64, 64)] * (n - 1) + [(64, 1)]
    layers = [*model.convs, *model.deconvs]
    assert {(c.kernel_size, c.stride, c.padding, c.dilation) for c in layers} == {((3, 3), (1, 1), (1, 1), (1, 1))}
    assert all(isinstance(c, Deconvolution) for c in model.deconvs)


@pytest.mark.parametrize(
    ("name", "planes", "parameters"),
    # 9 * 64 * 64 + 64 for every inner layer; 9 * 64 * planes + 64 for the first, 9 * 64 * planes + planes for the last
    [
        ("red10", 1, 8 * 36928 + 640 + 577),
        ("red20", 1, 18 * 36928 + 640 + 577),
        ("red30", 1, 28 * 36928 + 640 + 577),
        ("red30", 3, 28 * 36928 + 1792 + 1731),
    ],
)
def test_number_of_parameters(name, planes, parameters):
    assert sum(p.numel() for p in create_model(name, planes=planes).parameters()) == parameters


@SPEC
def test_the_receptive_field_is_the_square_that_one_pixel_reaches(spec):
    field, halo = spec.receptive_field_px, spec.halo_px
    model = RedNet(spec.options["depth"], 1, width=2).double()
    for tensor in model.parameters():  # positive: no path cancels another; far ones are 1e-20 of the whole
        tensor.data.fill_(0.0 if tensor.ndim == 1 else 1 / 18)
    x = torch.rand(1, 1, field + 6, field + 4, dtype=torch.float64).requires_grad_()
    row, column = halo + 4, halo + 1
    model(x)[0, 0, row, column].backward()
    seen = x.grad[0, 0].nonzero()
    assert seen.amin(0).tolist() == [row - halo, column - halo]
    assert seen.amax(0).tolist() == [row + halo, column + halo]
    assert len(seen) == field**2


@SPEC
@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5)])
def test_any_size_comes_out_as_it_went_in(spec, planes, height, width):
    spec = get(spec.name, {"planes": planes})
    assert (spec.size_multiple, spec.upscale, spec.min_size) == (1, 1, 1)
    with torch.inference_mode():
        y = create_model(spec.name, planes=planes)(torch.rand(1, spec.input_planes, height, width))
    assert y.shape == (1, spec.output_planes, height, width)


@SPEC
def test_one_plane_is_luma_and_three_are_rgb(spec):
    assert (spec.input, spec.output, spec.input_planes, spec.output_planes) == ("luma", "luma", 1, 1)
    colour = get(spec.name, {"planes": 3})
    assert (colour.input, colour.output, colour.input_planes, colour.output_planes) == ("rgb", "rgb", 3, 3)
    assert colour.receptive_field_px == spec.receptive_field_px


@SPEC
def test_the_defaults_give_the_spec_itself(spec):
    assert configured(spec.name, **{option.name: option.default for option in spec.offers}) == spec

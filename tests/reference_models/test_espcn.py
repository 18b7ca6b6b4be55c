"""What the ESPCN specs declare: one network for each scale, two activations, and every declaration measured."""

from __future__ import annotations

import pytest
import torch

from reference_models import create_model, get
from reference_models.espcn import SPECS, configured

SCALE = pytest.mark.parametrize("scale", [2, 3, 4])


def reach(network, scale, side):
    """Farthest input pixel, in rows or columns, that an output pixel depends on; over all scale² output phases."""
    network = network.double()
    with torch.no_grad():
        for weight in (p for p in network.parameters() if p.ndim == 4):  # positive: no path cancels another
            weight.abs_().div_(weight.sum((1, 2, 3), keepdim=True))
    x = torch.full((1, 1, side, side), 0.5, dtype=torch.float64, requires_grad=True)
    middle = side // 2
    square = network(x)[0, 0, middle * scale : (middle + 1) * scale, middle * scale : (middle + 1) * scale]
    gradients = [torch.autograd.grad(y, x, retain_graph=True)[0] for y in square.flatten()]
    return max((g[0, 0].nonzero() - middle).abs().max().item() for g in gradients)


def test_every_scale_is_declared():
    assert [spec.name for spec in SPECS] == ["espcn_x2", "espcn_x3", "espcn_x4"]


@SCALE
def test_layers_are_those_published(scale):
    network = create_model(f"espcn_x{scale}")
    convs = [network.conv1, network.conv2, network.conv3]
    assert [conv.kernel_size for conv in convs] == [(5, 5), (3, 3), (3, 3)]
    assert [conv.padding for conv in convs] == [(2, 2), (1, 1), (1, 1)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(1, 64), (64, 32), (32, scale**2)]
    assert {conv.padding_mode for conv in convs} == {"zeros"}


@pytest.mark.parametrize(("scale", "parameters"), [(2, 21_284), (3, 22_729), (4, 24_752)])
def test_number_of_parameters(scale, parameters):
    by_hand = (25 * 64 + 64) + (9 * 64 * 32 + 32) + (9 * 32 * scale**2 + scale**2)
    assert by_hand == parameters
    assert sum(p.numel() for p in create_model(f"espcn_x{scale}").parameters()) == parameters


def test_as_the_paper_says_srcnn_955_has_two_and_a_half_times_the_parameters():
    ours, theirs = (sum(p.numel() for p in create_model(name).parameters()) for name in ("espcn_x3", "srcnn_955"))
    assert round(theirs / ours, 1) == 2.5  # section 3.5


@SCALE
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_receptive_field_is_measured(scale, activation):
    spec = get(f"espcn_x{scale}")
    assert reach(create_model(spec.name, activation=activation), scale, 15) == spec.halo_px


@SCALE
def test_what_is_made_of_pictures(scale):
    spec = get(f"espcn_x{scale}")
    assert (spec.pre_upscale, spec.upscale, spec.enlarges) == (1, scale, scale)
    assert (spec.input, spec.output, spec.input_planes, spec.output_planes) == ("luma", "luma", 1, 1)
    assert (spec.evaluation.channels, spec.evaluation.border_px) == ("Y", scale)
    assert all(f"x{scale}" in figure.what for figure in spec.figures)
    assert configured(spec.name, "tanh") == spec


def test_figures_of_the_tanh_network_do_not_stand_at_the_relu_variant():
    assert get("espcn_x3").figures
    assert not get("espcn_x3", {"activation": "relu"}).figures


@SCALE
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5), (23, 41)])
def test_any_size_is_taken_and_enlarged(scale, height, width):
    with torch.inference_mode():
        y = create_model(f"espcn_x{scale}")(torch.rand(1, 1, height, width))
    assert (y.shape, y.dtype) == ((1, 1, scale * height, scale * width), torch.float32)

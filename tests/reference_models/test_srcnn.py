"""What the SRCNN specs declare: the two published networks at three scales, and every declaration measured."""

from __future__ import annotations

import pytest
import torch

from reference_models import create_model, get
from reference_models.srcnn import SPECS, configured

MAPPING = {"srcnn_915": 1, "srcnn_955": 5}
NAME = pytest.mark.parametrize("name", MAPPING)


def reach(network, side):
    """Farthest input pixel, in rows or columns, that the output's middle pixel depends on."""
    network = network.double()
    with torch.no_grad():
        for weight in (p for p in network.parameters() if p.ndim == 4):  # positive: no path cancels another
            weight.abs_().div_(weight.sum((1, 2, 3), keepdim=True))
    x = torch.full((1, 1, side, side), 0.5, dtype=torch.float64, requires_grad=True)
    network(x)[0, 0, side // 2, side // 2].backward()
    return (x.grad[0, 0].nonzero() - side // 2).abs().max().item()


def test_both_published_networks_are_declared():
    assert [spec.name for spec in SPECS] == list(MAPPING)
    assert {spec.pre_upscale for spec in SPECS} == {3}


@NAME
def test_layers_are_those_published(name):
    network = create_model(name)
    convs = [network.conv1, network.conv2, network.conv3]
    sizes = [9, MAPPING[name], 5]
    assert [conv.kernel_size for conv in convs] == [(k, k) for k in sizes]
    assert [conv.padding for conv in convs] == [(k // 2, k // 2) for k in sizes]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(1, 64), (64, 32), (32, 1)]
    assert {conv.stride for conv in convs} == {(1, 1)}
    assert all(conv.bias is not None for conv in convs)


@pytest.mark.parametrize(("name", "weights"), [("srcnn_915", 8032), ("srcnn_955", 57184)])
def test_number_of_parameters_is_the_papers_and_the_biases(name, weights):
    k = MAPPING[name]
    assert 9 * 9 * 64 + k * k * 64 * 32 + 5 * 5 * 32 == weights
    assert sum(p.numel() for p in create_model(name).parameters()) == weights + 64 + 32 + 1
    assert weights in {figure.value for figure in get(name).figures}


@NAME
def test_the_receptive_field_is_measured(name):
    spec = get(name)
    assert reach(create_model(name), 25) == spec.halo_px
    assert spec.receptive_field_px == {"srcnn_915": 13, "srcnn_955": 17}[name]  # 9 + 5 - 1, and 4 more


@NAME
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_scale_is_that_of_the_bicubic_step_and_the_border(name, scale):
    spec = get(name, {"scale": scale})
    assert (spec.pre_upscale, spec.upscale, spec.enlarges) == (scale, 1, scale)
    assert (spec.evaluation.channels, spec.evaluation.border_px) == ("Y", scale)
    assert (spec.input, spec.output, spec.input_planes, spec.output_planes) == ("luma", "luma", 1, 1)
    assert f"x{scale}" in spec.figures[0].what
    assert spec.options == get(name).options  # weights of every scale go into the same network


def test_the_border_is_the_published_codes_unless_asked_otherwise():
    assert create_model("srcnn_955").conv2.padding_mode == "replicate"
    assert {conv.padding_mode for conv in create_model("srcnn_955", border="zeros").children()} == {"zeros"}


@NAME
def test_the_defaults_give_the_registered_spec(name):
    assert configured(name, 3, "replicate") == get(name)


@NAME
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5), (23, 41)])
def test_any_size_is_taken_and_kept(name, height, width):
    with torch.inference_mode():
        y = create_model(name)(torch.rand(1, 1, height, width))
    assert (y.shape, y.dtype) == ((1, 1, height, width), torch.float32)

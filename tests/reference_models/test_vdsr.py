"""What the VDSR spec declares: 20 layers for every scale, and every declaration measured."""

from __future__ import annotations

import pytest
import torch

from reference_models import create_model, get
from reference_models.networks.vdsr import Vdsr
from reference_models.vdsr import SPECS, configured


def reach(network, side):
    """Farthest input pixel, in rows or columns, that the output's middle pixel depends on."""
    network = network.double()
    with torch.no_grad():
        for weight in network.parameters():  # positive: no path cancels another
            weight.abs_().div_(weight.sum((1, 2, 3), keepdim=True))
    x = torch.full((1, 1, side, side), 0.5, dtype=torch.float64, requires_grad=True)
    network(x)[0, 0, side // 2, side // 2].backward()
    return (x.grad[0, 0].nonzero() - side // 2).abs().max().item()


def test_one_network_is_declared():
    assert [spec.name for spec in SPECS] == ["vdsr"]


def test_layers_are_those_published():
    convs = create_model("vdsr").convs
    assert len(convs) == 20
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(1, 64), *[(64, 64)] * 18, (64, 1)]
    assert {conv.kernel_size for conv in convs} == {(3, 3)}
    assert {conv.padding for conv in convs} == {(1, 1)}
    assert {conv.padding_mode for conv in convs} == {"zeros"}


def test_number_of_parameters_is_that_of_the_published_weights():
    assert 9 * 64 + 18 * 9 * 64 * 64 + 9 * 64 == 664_704
    assert sum(p.numel() for p in create_model("vdsr").parameters()) == 664_704


def test_the_receptive_field_is_the_papers_and_measured():
    spec = get("vdsr")
    depth = spec.options["depth"]
    assert reach(Vdsr(depth, 4), 49) == spec.halo_px  # the width does not matter
    assert spec.receptive_field_px == 41


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_one_network_serves_all_scales(scale):
    spec = get("vdsr", {"scale": scale})
    assert (spec.pre_upscale, spec.upscale, spec.enlarges) == (scale, 1, scale)
    assert (spec.evaluation.channels, spec.evaluation.border_px) == ("Y", scale)
    assert (spec.input, spec.output, spec.input_planes, spec.output_planes) == ("luma", "luma", 1, 1)
    assert spec.options == get("vdsr").options
    assert f"x{scale}" in spec.figures[0].what


def test_the_default_gives_the_registered_spec():
    assert configured("vdsr", 2) == get("vdsr")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5), (23, 41)])
def test_any_size_is_taken_and_kept(height, width):
    with torch.inference_mode():
        y = create_model("vdsr")(torch.rand(1, 1, height, width))
    assert (y.shape, y.dtype) == ((1, 1, height, width), torch.float32)

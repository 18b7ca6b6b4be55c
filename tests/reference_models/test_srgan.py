"""What the SRGAN spec declares: the generator as deployed, and every declaration measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference_models import create_model, get
from reference_models.networks.srgan import SrResNet
from reference_models.srgan import SPECS, configured


def offsets_of_inputs(network, side, axis):
    """Offsets of the input rows (or columns) that output pixels depend on, of each of the 4 phases: lowest, highest.

    A kernel's support is a rectangle, so that a picture 3 pixels wide tells about its rows.
    """
    size = (side, 3) if axis == 0 else (3, side)
    x = torch.full((1, 3, *size), 0.5, dtype=torch.float64, requires_grad=True)
    y = network(x)[0, 0].movedim(axis, 0)[:, 4]
    middle, found = side // 2, []
    for phase in range(4):
        gradient = torch.autograd.grad(y[4 * middle + phase], x, retain_graph=True)[0]
        offsets = gradient[0].sum(0).movedim(axis, 0).sum(1).nonzero() - middle
        found.append((offsets.min().item(), offsets.max().item()))
    return found


def test_one_network_is_declared():
    assert [spec.name for spec in SPECS] == ["srgan_x4"]


def test_layers_are_those_of_figure_4():
    network = create_model("srgan_x4", batch_norm="kept")
    convs = {name: conv for name, conv in network.named_modules() if isinstance(conv, nn.Conv2d)}
    shapes = {name: (conv.in_channels, conv.out_channels, conv.kernel_size[0]) for name, conv in convs.items()}
    wanted = {"first": (3, 64, 9)}
    wanted |= {f"blocks.{i}.conv{k}": (64, 64, 3) for i in range(16) for k in (1, 2)}
    wanted |= {"conv": (64, 64, 3), "enlarging.0.conv": (64, 256, 3), "enlarging.1.conv": (64, 256, 3)}
    wanted |= {"last": (64, 3, 9)}
    assert shapes == wanted
    assert {conv.stride for conv in convs.values()} == {(1, 1)}
    assert all(conv.padding[0] == conv.kernel_size[0] // 2 for conv in convs.values())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 33
    assert [m.num_parameters for m in network.modules() if isinstance(m, nn.PReLU)] == [64] * (1 + 16 + 2)


def test_number_of_parameters():
    outside = (81 * 3 * 64 + 64) + 2 * (9 * 64 * 256 + 256) + (81 * 64 * 3 + 3) + 19 * 64
    inside = 33 * 9 * 64 * 64
    kept, folded = (
        sum(p.numel() for p in create_model("srgan_x4", batch_norm=how).parameters()) for how in ("kept", "folded")
    )
    assert kept == outside + inside + 33 * 2 * 64 == 1_548_547
    assert folded == outside + inside + 33 * 64 == 1_546_435


def test_what_is_deployed_has_no_batch_norm():
    assert not [m for m in create_model("srgan_x4").modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_receptive_field_is_measured_over_all_phases():
    spec = get("srgan_x4")
    network = SrResNet(spec.options["blocks"], 3).double()  # the width does not matter
    with torch.no_grad():
        for weight in (p for p in network.parameters() if p.ndim == 4):  # positive: no path cancels another
            weight.abs_().div_(weight.sum((1, 2, 3), keepdim=True))
    for axis in (0, 1):
        assert offsets_of_inputs(network, 91, axis) == [(-40, 39), (-40, 39), (-39, 40), (-39, 40)]
    assert spec.halo_px == 40


def test_what_is_made_of_pictures():
    spec = get("srgan_x4")
    assert (spec.pre_upscale, spec.upscale) == (1, 4)
    assert (spec.input, spec.output, spec.input_planes, spec.output_planes) == ("rgb", "rgb", 3, 3)
    assert spec.output_range == (-1, 1)  # HR pictures were scaled to this in training, LR pictures to [0, 1]
    assert (spec.evaluation.channels, spec.evaluation.border_px) == ("Y", 4)
    assert configured("srgan_x4", "folded") == spec


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5), (11, 13)])
def test_any_size_is_taken_and_enlarged(height, width):
    with torch.inference_mode():
        y = create_model("srgan_x4")(torch.rand(1, 3, height, width))
    assert (y.shape, y.dtype) == ((1, 3, 4 * height, 4 * width), torch.float32)

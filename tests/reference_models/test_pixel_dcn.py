"""What the PixelDCN specs declare, measured; and the layers that can be had from here without importing torch first."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import reference_models.pixel_dcn
from reference_models import create_model, get
from reference_models.networks import pixel_dcn
from reference_models.networks.pixel_dcn_nets import PixelDcn, PixelVaeDecoder
from reference_models.pixel_dcn import SPECS

UPSAMPLING = ["deconvolution", "pixel_dcl", "ipixel_dcl", "ipixel_cl"]
CONVOLUTION = ["conv", "ipixel_cl"]
CHOICES = list(itertools.product(UPSAMPLING, CONVOLUTION))


def test_the_layers_can_be_had_without_importing_torch_first():
    program = (
        "import sys, reference_models.pixel_dcn as p; assert 'torch' not in sys.modules; p.IPixelCL; "
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    for name in ("PixelDCL", "IPixelDCL", "IPixelCL"):
        assert getattr(reference_models.pixel_dcn, name) is getattr(pixel_dcn, name)
    with pytest.raises(AttributeError, match="has no attribute 'PixelDLC'"):
        reference_models.pixel_dcn.PixelDLC  # noqa: B018


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_defaults_give_the_spec_itself(spec):
    configure = getattr(reference_models.pixel_dcn, spec.configure.partition(":")[2])
    assert configure(spec.name, **{option.name: option.default for option in spec.offers}) == spec
    assert {name: spec.options[name] for name in (o.name for o in spec.offers)} == {
        option.name: option.default for option in spec.offers
    }


# 3x3 kernels without bias, and one beta for every plane that is normalised
ENCODER = 9 * (3 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
BOTTOM = 9 * (128 * 256 + 256 * 128)
DECODER = 9 * sum(2 * c * c + c * c + c * half for c, half in [(128, 64), (64, 32), (32, 16), (16, 21)]) - 9 * sum(
    c * c for c in (128, 64, 32, 16)
)  # conv2 takes 2c planes and conv3 takes c; the up-sampling layers are counted below
BETAS = 2 * (16 + 32 + 64 + 128) + 256 + 128 + 2 * (128 + 64 + 32 + 16) + 64 + 32 + 16 + 21
SQUARES = 9 * (128**2 + 64**2 + 32**2 + 16**2)


@pytest.mark.parametrize(
    ("upsampling", "kernels"),
    # In kernels of c x c: PixelDCL 1 + 1 + 1; IPixelDCL 1 + 2 + 2 * 3; IPixelCL 4
    [("deconvolution", 1), ("pixel_dcl", 3), ("ipixel_dcl", 9), ("ipixel_cl", 4)],
)
def test_number_of_parameters_of_the_u_net(upsampling, kernels):
    model = create_model("pixel_dcn", upsampling=upsampling)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == ENCODER + BOTTOM + DECODER + kernels * SQUARES + BETAS
    with_ipixel_cl = create_model("pixel_dcn", upsampling=upsampling, convolution="ipixel_cl")
    assert sum(p.numel() for p in with_ipixel_cl.parameters()) == parameters + 3 * 2 * SQUARES


@pytest.mark.parametrize(
    ("upsampling", "kernels"), [("deconvolution", "2"), ("pixel_dcl", "2+1+1"), ("ipixel_cl", "8")]
)
def test_number_of_parameters_of_the_decoder(upsampling, kernels):
    squares = 9 * (128**2 + 64**2 + 32**2 + 16**2)
    parameters = 9 * 64 * 256 + 256 + sum(map(int, kernels.split("+"))) * squares + 9 * 16 * 3 + 3
    model = create_model("pixel_vae", upsampling=upsampling)
    assert sum(p.numel() for p in model.parameters()) == parameters


# Receptive field: every weight positive, so no path cancels another; pooling by mean, so that all four pixels count


def positive(model):
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 4 and tensor.shape[1:] != (1, 1, 1):
                tensor.fill_(1 / tensor[0].numel())
            elif not name.endswith("weight"):
                tensor.fill_(0)
    return model.double()


def widest_reach(model, planes, size, own, period):
    """Entries seen before and after the input row (then column) own(y) by output row (column) y of one period, over all
    entries of that row (column). `size`: height and width, the first the long one."""
    found = []
    for axis in (2, 3):
        x = torch.rand(1, planes, *(size if axis == 2 else size[::-1]), dtype=torch.float64).requires_grad_()
        y = model(x).transpose(2, axis)
        first = y.shape[2] // 2 // period * period
        for entry in range(first, first + period):
            (gradient,) = torch.autograd.grad(y[:, :, entry].sum(), x, retain_graph=True)
            seen = gradient.transpose(2, axis).sum((0, 1, 3)).nonzero()
            assert 0 < seen.min() < seen.max() < size[0] - 1  # the border is out of reach
            found += [own(entry) - seen.min().item(), seen.max().item() - own(entry)]
    return max(found)


@pytest.mark.parametrize(("upsampling", "convolution", "depth"), [(*c, d) for c in CHOICES for d in (2, 3)] + [
    (u, "conv", 5) for u in UPSAMPLING
])  # fmt: skip
def test_receptive_field_of_the_u_net(upsampling, convolution, depth, monkeypatch):
    options = {"upsampling": upsampling, "convolution": convolution, "depth": depth}
    spec = get("pixel_dcn", options)
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    model = positive(PixelDcn(**options, width=1, classes=1).folded())
    period = 2 ** (depth - 1)
    height = (2 * spec.halo_px // period + 5) * period
    assert widest_reach(model, 3, (height, period), lambda row: row, period) == spec.halo_px
    assert spec.receptive_field_px == 1 + 2 * spec.halo_px


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_receptive_field_of_the_decoder(upsampling):
    spec = get("pixel_vae", {"upsampling": upsampling})
    model = positive(PixelVaeDecoder(upsampling, latent=1, width=1))
    size = (2 * spec.halo_px + 5, 1)
    assert widest_reach(model, 1, size, lambda row: row // 16, 16) == spec.halo_px


# Sizes


@pytest.mark.parametrize(("upsampling", "convolution"), CHOICES)
@pytest.mark.parametrize("depth", [2, 4])
def test_size_multiple_of_the_u_net_is_the_least_that_works(upsampling, convolution, depth):
    options = {"upsampling": upsampling, "convolution": convolution, "depth": depth}
    spec, model = get("pixel_dcn", options), PixelDcn(**options, width=1, classes=2).eval()

    def works(height, width):
        try:
            with torch.inference_mode():
                return model(torch.rand(1, 3, height, width)).shape == (1, 2, height, width)
        except RuntimeError:
            return False

    multiples = [side for side in range(1, 2 * spec.size_multiple + 1) if works(side, 48) and works(48, side)]
    assert multiples == [spec.size_multiple, 2 * spec.size_multiple]
    assert works(3 * spec.size_multiple, 5 * spec.size_multiple)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (4, 5)])
def test_the_decoder_takes_any_size_and_makes_sixteen_times_as_much(upsampling, height, width):
    spec = get("pixel_vae", {"upsampling": upsampling, "latent": 7})
    assert (spec.input, spec.input_planes, spec.upscale, spec.size_multiple) == ("noise", 7, 16, 1)
    with torch.inference_mode():
        y = create_model("pixel_vae", upsampling=upsampling, latent=7)(torch.randn(1, 7, height, width))
    assert y.shape == (1, spec.output_planes, 16 * height, 16 * width)


def test_what_the_u_net_makes_of_its_options():
    spec = get("pixel_dcn", {"classes": 2, "depth": 4, "width": 32})
    assert (spec.task, spec.input, spec.output, spec.output_planes) == ("segmentation", "rgb", "classes", 2)
    assert (spec.size_multiple, spec.statistics, spec.whole_picture) == (8, ("image", "frozen"), "")
    model = create_model("pixel_dcn", classes=2, depth=4, width=32)
    assert len(model.stages) == 17
    assert len(model.stages["bottom_conv1"].beta) == 256

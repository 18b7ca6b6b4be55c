"""The kernel of masked convolution and interleaving through Triton's interpreter; its reference against the layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.plugins.last_steps import LastSteps
from engines.plugins.pixel_dcl_maps import PixelDclMaps

ROOT = Path(__file__).resolve().parents[3]
INTERPRET = """
import itertools, torch
from engines.plugins.last_steps import INT8, LastSteps
from engines.plugins.pixel_dcl_maps import PixelDclMaps
from engines.plugins.ptx import launch

words = {torch.float32: "fp32", torch.float16: "fp16"}
torch.manual_seed(0)
for n, dtype, (slope, channels, height, width) in itertools.product(
    (1, 4), words, ((1.0, 3, 3, 7), (0.0, 16, 1, 1), (0.25, 35, 1, 70))
):
    a, b = (torch.randn(n, channels, height, width).to(dtype) for _ in range(2))
    row, column = ((torch.randn(channels, channels, *s) / channels**0.5).to(dtype) for s in ((1, 2), (2, 1)))
    int8 = channels == 35
    steps = LastSteps(slope=slope, output=INT8, step=0.02) if int8 else LastSteps(slope=slope)
    tail = PixelDclMaps(steps)
    variant = tail.variant(words[dtype], "i8" if int8 else words[dtype], channels)
    wanted = tail.reference(a, b, row, column)
    y = torch.full_like(wanted, 77)
    given = dict(a=a, b=b, row=row, column=column, height=height, width=width, y=y)
    sizes = variant.constants["BLOCK_W"], variant.constants["BLOCK_C"]
    launch(variant, (n * height, -(-width // sizes[0]), -(-channels // sizes[1])), given)
    # Sums of fp32 in another order; an fp16 result may round to the other neighbour.
    allowed = 1 if int8 else {torch.float32: 1e-5, torch.float16: 4e-3}[dtype]
    assert (y.float() - wanted.float()).abs().max() <= allowed, (n, dtype, slope, channels)
    # Maps a and b themselves are only moved.
    assert not int8 or (y != wanted).float().mean() < 1e-3
    plain = steps.reference(torch.stack((a, b)).float(), dtype)
    assert torch.equal(y[:, :, ::2, ::2], plain[0]) and torch.equal(y[:, :, 1::2, 1::2], plain[1])
print("all equal")
"""


def test_the_interpreted_kernel_equals_the_reference(all_equal):
    all_equal(INTERPRET)


@pytest.mark.parametrize("size", [(5, 7), (1, 2), (1, 1)])
def test_the_reference_is_what_the_layer_computes(size):
    import torch

    from reference_models.networks.pixel_dcn import PixelDCL

    torch.manual_seed(0)
    layer, x = PixelDCL(3, 4, 3, torch.relu), torch.randn(2, 3, *size)
    with torch.inference_mode():
        a = layer.conv0(x)
        b, weight = layer.conv1(a), layer.conv2.weight
        y = PixelDclMaps(LastSteps(slope=0.0)).reference(a, b, weight[:, :, 1:2, ::2], weight[:, :, ::2, 1:2])
        assert (y - layer(x)).abs().max() < 1e-6


def test_the_shape_rule():
    assert PixelDclMaps().output_shape((2, 3, 5, 7)) == (2, 3, 10, 14)

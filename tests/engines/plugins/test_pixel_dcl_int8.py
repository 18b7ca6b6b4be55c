"""The kernel of int8 products through Triton's interpreter; its reference against convolutions of floats."""

from __future__ import annotations

import pytest

from engines.plugins.pixel_dcl_int8 import PixelDclOfInt8
from engines.plugins.pixel_dcl_maps import PixelDclMaps

INTERPRET = """
import itertools, torch
from engines.plugins.pixel_dcl_int8 import PixelDclOfInt8
from engines.plugins.ptx import launch

words = {torch.float32: "fp32", torch.float16: "fp16"}
torch.manual_seed(0)
whole = lambda *shape: torch.randint(-128, 128, shape, dtype=torch.int8)
for n, dtype, (slope, channels, height, width) in itertools.product(
    (1, 4), words, ((1.0, 3, 3, 7), (0.0, 16, 1, 1), (0.25, 35, 1, 70))
):
    size = (n, channels, height, width)
    maps = [torch.randn(size).to(dtype), torch.randn(size).to(dtype), whole(*size), whole(*size)]
    weights = [whole(channels, channels, *s) for s in ((1, 2), (2, 1))]
    steps = [(torch.rand(channels) / 2000 + 1e-4).to(dtype) for _ in weights]
    kernel = PixelDclOfInt8(0.02, 0.03, slope)
    variant = kernel.variant(words[dtype], channels)
    wanted = kernel.reference(maps, weights, steps)
    y = torch.full_like(wanted, 77)
    names = "a", "b", "a_int8", "b_int8", "row", "column", "row_step", "column_step"
    given = dict(zip(names, [*maps, *weights, *steps]), height=height, width=width, y=y)
    sizes = variant.constants["BLOCK_W"], variant.constants["BLOCK_C"]
    launch(variant, (n * height, -(-width // sizes[0]), -(-channels // sizes[1])), given)
    allowed = (2e-6 if dtype == torch.float32 else 1e-3) * wanted.abs().max()
    assert (y.float() - wanted.float()).abs().max() <= allowed, (n, dtype, slope, channels)
    plain = torch.nn.functional.leaky_relu(torch.stack(maps[:2]).float(), slope).to(dtype)
    assert torch.equal(y[:, :, ::2, ::2], plain[0]) and torch.equal(y[:, :, 1::2, 1::2], plain[1])
print("all equal")
"""


def test_the_interpreted_kernel_equals_the_reference(all_equal):
    all_equal(INTERPRET)


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_the_reference_is_the_float_one_of_what_the_numbers_stand_for(size):
    import torch

    generator = torch.Generator().manual_seed(0)

    def whole(*shape):
        return torch.randint(-128, 128, shape, dtype=torch.int8, generator=generator)

    maps = [whole(2, 4, *size) for _ in range(2)]
    weights = [whole(4, 4, *s) for s in ((1, 2), (2, 1))]
    steps = [torch.rand(4, generator=generator) / 100 for _ in weights]
    floats = [m.float() * s for m, s in zip(maps, (0.02, 0.03), strict=True)]
    wanted = PixelDclMaps().reference(
        *floats, *(w.float() * s.view(-1, 1, 1, 1) for w, s in zip(weights, steps, strict=True))
    )
    got = PixelDclOfInt8(0.02, 0.03).reference([*floats, *maps], weights, steps)
    assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_the_shape_rule():
    assert PixelDclOfInt8(1.0, 1.0).output_shape((2, 3, 5, 7)) == (2, 3, 10, 14)

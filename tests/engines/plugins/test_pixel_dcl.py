"""The interleaving kernel through Triton's interpreter, and its reference against the layers' own interleaving."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.plugins.last_steps import LastSteps
from engines.plugins.pixel_dcl import PixelInterleave

ROOT = Path(__file__).resolve().parents[3]
INTERPRET = """
import itertools, torch
from engines.plugins.last_steps import INT8, LastSteps
from engines.plugins.pixel_dcl import MAPS, PixelInterleave
from engines.plugins.ptx import launch

words = {torch.float32: "fp32", torch.float16: "fp16", torch.int8: "i8"}
torch.manual_seed(0)
for n, dtype, int8, (slope, height, width) in itertools.product(
    (1, 4), words, (False, True), ((1.0, 3, 7), (0.0, 1, 1), (0.25, 1, 70), (0.0, 2, 64))
):
    whole = dtype == torch.int8
    if whole and (not int8 or slope == 0.25):
        continue
    maps = [(torch.randn(n, 2, height, width) * 20).to(dtype) for _ in MAPS]
    steps = LastSteps(0.3 if whole else 1.0, slope=slope, output=INT8, step=0.3) if int8 else LastSteps(slope=slope)
    tail = PixelInterleave(steps)
    wanted = tail.reference(*maps)
    y = torch.full_like(wanted, 77)
    variant = tail.variant(words[dtype], words[wanted.dtype], 32)
    grid = tail.grid(maps[0].shape, 32, lambda a, b: -(-a // b))
    launch(variant, grid, dict(zip(MAPS, maps), width=width, y=y))
    assert variant.constants["LAST"].moves == (whole or (not int8 and slope == 1.0))
    assert torch.equal(y, wanted), (n, dtype, int8, slope, height, width)
print("all equal")
"""


def test_the_interpreted_kernel_equals_the_reference(all_equal):
    all_equal(INTERPRET)


@pytest.mark.parametrize("size", [(5, 7), (1, 2)])
def test_the_reference_puts_every_map_at_its_parity(size):
    import torch

    from reference_models.networks.pixel_dcn import interleave

    maps = [torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    y = PixelInterleave().reference(*maps)
    for number, found in enumerate(maps):
        assert torch.equal(y[:, :, number // 2 :: 2, number % 2 :: 2], found)
    assert torch.equal(y, interleave(*maps))  # what the layers do
    assert torch.equal(PixelInterleave(LastSteps(slope=0.0)).reference(*maps), y.clamp(min=0))


def test_the_shape_rule():
    assert PixelInterleave().output_shape((2, 3, 5, 7)) == (2, 3, 10, 14)

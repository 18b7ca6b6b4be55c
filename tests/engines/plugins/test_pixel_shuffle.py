"""The kernel through Triton's interpreter, and the reference against NumPy; PTX is test_ptx.py's."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from engines.plugins.last_steps import BYTES, FLOAT, INT8, PICTURE, LastSteps
from engines.plugins.pixel_shuffle import PixelShuffleTail
from engines.plugins.ptx import compile_ptx, launch, triton_missing

ROOT = Path(__file__).resolve().parents[3]
INTERPRET = """
import itertools, torch
from engines.plugins.last_steps import INT8, PICTURE, LastSteps
from engines.plugins.pixel_shuffle import PixelShuffleTail
from engines.plugins.ptx import launch

words = {torch.float32: "fp32", torch.float16: "fp16", torch.int8: "i8", torch.uint8: "u8"}
torch.manual_seed(0)
TAILS = (
    lambda r, i: PixelShuffleTail(r),
    lambda r, i: PixelShuffleTail(r, LastSteps(i, slope=0.2, low=-0.5, high=0.7), bias=True),
    lambda r, i: PixelShuffleTail(r, LastSteps(0.02, tanh=True, output=PICTURE), bias=True),
    lambda r, i: PixelShuffleTail(r, LastSteps(0.02, output=PICTURE, rounding=0.25, zero=-1.0, gain=127.5)),
    lambda r, i: PixelShuffleTail(r, LastSteps(i, slope=0.25, output=INT8, step=0.3), bias=True),
    lambda r, i: PixelShuffleTail(r, LastSteps(0.5, slope=0.0, output=INT8, step=0.5)),
)
# Rows that vectors divide, and rows that they do not; several blocks of one row, and one that is not full.
SIZES = {1: (2, 19), 4: (1, 32)}
for n, r, dtype, make in itertools.product(SIZES, (2, 3, 4), (torch.float32, torch.float16, torch.int8), TAILS):
    (height, width), whole = SIZES[n], dtype == torch.int8
    tail = make(r, 0.1 if whole else 1.0)
    x = (torch.randn(n, 2 * r * r, height, width) * 20).to(dtype)
    bias = torch.randn(2 * r * r).to(torch.float32 if whole else dtype)
    moved = tail == PixelShuffleTail(r)
    wanted = tail.reference(x, bias if tail.bias else None, torch.float32 if whole and not moved else dtype)
    y = torch.full_like(wanted, 77)
    given = dict(x=x, channels=2, height=height, width=width, y=y, bias=bias)
    block = 64 if tail.picture or r == 3 else 16
    variant = tail.variant(words[dtype], words[wanted.dtype], words[bias.dtype], 2, block)
    assert variant.constants["LAST"].moves == (moved or (whole and tail.steps.step == 0.5))
    launch(variant, tail.grid(x.shape, block, lambda a, b: -(-a // b)), given)
    off = (y.float() - wanted.float()).abs()
    # Where a value lies between two grey levels, the last bit of tanh or of a product decides.
    allowed = 1 if tail.picture else 0 if wanted.dtype == torch.int8 else 1e-6
    assert off.max() <= allowed, (n, r, dtype, tail, off.max())
    assert (off > 1e-6).float().mean() < 0.02, (n, r, dtype, tail)
print("all equal")
"""


def test_the_interpreted_kernel_equals_the_reference(all_equal):
    all_equal(INTERPRET)


def by_hand(x, r):
    """Element by element, from the definition."""
    n, planes, height, width = x.shape
    y = np.zeros((n, planes // r**2, height * r, width * r), x.dtype)
    for b, c, i, j in itertools.product(*map(range, y.shape)):
        y[b, c, i, j] = x[b, c * r * r + i % r * r + j % r, i // r, j // r]
    return y


@pytest.mark.parametrize("r", [1, 2, 3])
def test_the_reference_follows_the_definition(r):
    import torch

    rng = np.random.default_rng(r)
    x = rng.standard_normal((2, 2 * r * r, 3, 5)).astype(np.float32)
    bias = rng.standard_normal(2 * r * r).astype(np.float32)
    plain = PixelShuffleTail(r).reference(torch.from_numpy(x)).numpy()
    assert np.array_equal(plain, by_hand(x, r))
    tail = PixelShuffleTail(r, LastSteps(slope=0.1, low=-0.05, high=0.9), bias=True)
    z = x + bias[None, :, None, None]
    wanted = np.clip(by_hand(np.where(z < 0, z * np.float32(0.1), z), r), -0.05, 0.9)
    assert np.allclose(tail.reference(torch.from_numpy(x), torch.from_numpy(bias)).numpy(), wanted, atol=1e-7)


def test_a_picture_is_rounded_clipped_and_its_planes_come_last():
    import torch

    x = torch.tensor([-1.0, 0.0, 0.5, 2.0, 100.4 / 255, 100.6 / 255, 1.0, 254.4 / 255]).view(1, 8, 1, 1)
    nearest = PixelShuffleTail(2, LastSteps(output=PICTURE)).reference(x)
    assert (nearest.dtype, nearest.shape) == (torch.uint8, (1, 2, 2, 2))
    assert nearest[0, :, :, 0].flatten().tolist() == [0, 0, 128, 255]
    assert nearest[0, :, :, 1].flatten().tolist() == [100, 101, 255, 254]
    truncated = PixelShuffleTail(2, LastSteps(output=PICTURE, rounding=0.0), batched=False).reference(x)[None]
    assert truncated[0, :, :, 1].flatten().tolist() == [100, 100, 255, 254]


def test_the_shape_rule():
    pictures = LastSteps(output=PICTURE)
    assert PixelShuffleTail(3).output_shape((2, 27, 5, 7)) == (2, 3, 15, 21)
    assert PixelShuffleTail(3, pictures).output_shape((2, 27, 5, 7)) == (2, 15, 21, 3)
    assert PixelShuffleTail(3, pictures, batched=False).output_shape((1, 27, 5, 7)) == (15, 21, 3)


def test_a_shuffle_by_less_than_one_is_refused():
    with pytest.raises(ValueError, match="expected r >= 1"):
        PixelShuffleTail(0)


@pytest.mark.parametrize(("source", "target"), [("fp32", "fp32"), ("fp16", "fp16"), ("fp16", "i8"), ("i8", "i8")])
@pytest.mark.parametrize("r", [2, 3, 4])
def test_stores_are_full_vectors_and_loads_whole_sectors(r, source, target, tmp_path, monkeypatch):
    """What nobody measured rests on this: bytes per instruction, and no division by a width per element."""
    if reason := triton_missing():
        pytest.skip(reason)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    steps = LastSteps(output=INT8, step=0.1) if (source, target) == ("fp16", "i8") else LastSteps()
    ptx = compile_ptx(PixelShuffleTail(r, steps).variant(source, target), 80).ptx
    wide = "v4.b32" if r != 3 or target == "fp32" else "v2.b32" if target == "fp16" else "b32"  # a warp's are a line
    assert f"st.global.{wide}" in ptx
    bytes_each = 16 // r * BYTES[source] // BYTES[target]  # of a plane, for 16 bytes of the output
    words = {4: "ld.global.b32", 8: "ld.global.v2.b32", 16: "ld.global.v4.b32"}
    assert r == 3 or words[bytes_each] in ptx
    assert len(re.findall(r"\b(?:div|rem)\.s32", ptx)) <= 4  # per program: of its number, by the height and channels


@pytest.mark.gpu
@pytest.mark.parametrize("width", [64, 65])
@pytest.mark.parametrize("output", [FLOAT, INT8, PICTURE])
@pytest.mark.parametrize("r", [2, 3, 4])
def test_a_device_s_tails_equal_the_reference(cuda, r, output, width):
    import torch

    torch.manual_seed(0)
    tail = PixelShuffleTail(r, LastSteps(slope=0.25, output=output, step=0.02), bias=True)
    x, bias = torch.randn(2, 3 * r * r, 33, width, device=cuda).half(), torch.randn(3 * r * r, device=cuda).half()
    wanted = tail.reference(x, bias)
    y, target = torch.zeros_like(wanted), {FLOAT: "fp16", INT8: "i8", PICTURE: "u8"}[output]
    variant = tail.variant("fp16", target, channels=3)
    grid = tail.grid(x.shape, variant.constants["BLOCK"], lambda a, b: -(-a // b))
    launch(variant, grid, {"x": x, "bias": bias, "channels": 3, "height": 33, "width": width, "y": y})
    off = (y.float() - wanted.float()).abs()
    assert off.max() <= (1 if output == PICTURE else 0)
    assert (off > 0).float().mean() < 1e-3

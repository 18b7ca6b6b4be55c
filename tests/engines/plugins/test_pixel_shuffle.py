"""The kernel through Triton's interpreter, and the reference against NumPy; PTX is test_ptx.py's."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from engines.plugins.pixel_shuffle import PixelShuffleTail

ROOT = Path(__file__).resolve().parents[3]
INTERPRET = """
import itertools, torch
from engines.plugins.pixel_shuffle import PixelShuffleTail as Tail
from engines.plugins.ptx import launch

words = {torch.float32: "fp32", torch.float16: "fp16", torch.int8: "i8"}
torch.manual_seed(0)
TAILS = (
    lambda r: Tail(r),
    lambda r: Tail(r, bias=True, activation="leaky_relu", slope=0.2, low=-0.5, high=0.7),
    lambda r: Tail(r, bias=True, activation="relu"),
    lambda r: Tail(r, 0.02, bias=True, activation="tanh", picture=True),
    lambda r: Tail(r, 0.02, picture=True, rounding=0.0),
)
for n, r, dtype, make in itertools.product((1, 4), (2, 3, 4), words, TAILS):
    height, width = (1, 3) if n == 4 and r == 4 else (3, 5)
    tail, whole = make(r), dtype == torch.int8
    x = (torch.randn(n, 3 * r * r, height, width) * 20).to(dtype)
    bias = torch.randn(3 * r * r).to(torch.float32 if whole else dtype)
    target = torch.float32 if whole else dtype
    wanted = tail.reference(x, bias if tail.bias else None, target)
    y = torch.full_like(wanted, 77)
    given = dict(x=x, channels=3, height=height * r, width=width * r, y=y)
    if tail.bias:
        given["bias"] = bias
    blocks = -(-3 * height * r * width * r // 256)
    launch(tail.variant(words[dtype], words[target], 256), (blocks, n), given)
    off = (y.float() - wanted.float()).abs()
    # Where a value lies between two grey levels, the last bit of tanh or of a product decides.
    allowed = 1e-6 if not tail.picture else 1
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
    tail = PixelShuffleTail(r, bias=True, activation="leaky_relu", slope=0.1, low=-0.05, high=0.9)
    z = x + bias[None, :, None, None]
    wanted = np.clip(by_hand(np.where(z < 0, z * np.float32(0.1), z), r), -0.05, 0.9)
    assert np.allclose(tail.reference(torch.from_numpy(x), torch.from_numpy(bias)).numpy(), wanted, atol=1e-7)


def test_a_picture_is_rounded_clipped_and_its_planes_come_last():
    import torch

    x = torch.tensor([-1.0, 0.0, 0.5, 2.0, 100.4 / 255, 100.6 / 255, 1.0, 254.4 / 255]).view(1, 8, 1, 1)
    nearest = PixelShuffleTail(2, picture=True).reference(x)
    assert (nearest.dtype, nearest.shape) == (torch.uint8, (1, 2, 2, 2))
    assert nearest[0, :, :, 0].flatten().tolist() == [0, 0, 128, 255]
    assert nearest[0, :, :, 1].flatten().tolist() == [100, 101, 255, 254]
    truncated = PixelShuffleTail(2, picture=True, rounding=0.0).reference(x)
    assert truncated[0, :, :, 1].flatten().tolist() == [100, 100, 255, 254]


def test_the_shape_rule():
    assert PixelShuffleTail(3).output_shape((2, 27, 5, 7)) == (2, 3, 15, 21)
    assert PixelShuffleTail(3, picture=True).output_shape((2, 27, 5, 7)) == (2, 15, 21, 3)


@pytest.mark.parametrize("wrong", [{"r": 0}, {"r": 2, "activation": "gelu"}])
def test_what_it_cannot_do_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        PixelShuffleTail(**wrong)

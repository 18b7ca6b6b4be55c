"""The ESPCN network against an independent NumPy implementation, its order of pixels, and its untrained weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference_models.networks.espcn import Espcn


def numpy_conv(maps, conv):
    """(C, H, W) float64, pixel by pixel, zeros beyond the border, same size out."""
    weight, bias = conv.weight.double().numpy(), conv.bias.double().numpy()
    reach = weight.shape[2] // 2
    padded = np.pad(maps, ((0, 0), (reach, reach), (reach, reach)))
    out = np.empty((len(weight), *maps.shape[1:]))
    for row, column in np.ndindex(*maps.shape[1:]):
        window = padded[:, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        out[:, row, column] = (weight * window).sum((1, 2, 3)) + bias
    return out


def numpy_shuffle(maps, scale):
    """Equation 4 of the paper for one channel, rows first, pixel by pixel: (scale², H, W) → (scale * H, scale * W)."""
    height, width = maps.shape[1:]
    out = np.empty((scale * height, scale * width))
    for row, column in np.ndindex(*out.shape):
        out[row, column] = maps[scale * (row % scale) + column % scale, row // scale, column // scale]
    return out


@torch.no_grad()
def randomised(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim == 4 else 0.1
        parameter.normal_(0, scale, generator=generator)
    return network.eval()


@pytest.mark.parametrize(("activation", "function"), [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0))])
@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_against_numpy(scale, activation, function):
    network = randomised(Espcn(scale, activation))
    x = np.random.default_rng(1).uniform(size=(1, 1, 5, 8)).astype(np.float32)
    maps = function(numpy_conv(x[0].astype(np.float64), network.conv1))
    maps = function(numpy_conv(maps, network.conv2))
    wanted = numpy_shuffle(numpy_conv(maps, network.conv3), scale)
    assert np.abs(network(torch.from_numpy(x))[0, 0].numpy() - wanted).max() < 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_order_of_the_pixels_is_that_of_numpy(scale):
    maps = np.arange(scale**2 * 6, dtype=np.float32).reshape(scale**2, 2, 3)
    got = Espcn(scale).shuffle(torch.from_numpy(maps)[None])[0, 0].numpy()
    rows_first = maps.reshape(scale, scale, 2, 3).transpose(2, 0, 3, 1).reshape(2 * scale, 3 * scale)
    assert np.array_equal(got, rows_first)
    assert np.array_equal(got, numpy_shuffle(maps, scale))
    assert got[0, 1] == maps[1, 0, 0]  # the second plane is the pixel to the right, not the one below


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_untrained_weights_let_the_picture_through(scale, activation, picture):
    x = torch.from_numpy(picture(48, 64))[:, :1]
    y = Espcn(scale, activation)(x)
    enlarged = x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    assert np.corrcoef(enlarged.flatten(), y.flatten())[0, 1] > 0.8
    assert 0.01 < (y - enlarged).std() < 0.3
    assert y.abs().max() < 2


def test_untrained_weights_are_the_same_every_time_and_leave_torchs_own_dice_alone():
    state = torch.get_rng_state()
    first, second = Espcn(3), Espcn(3)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

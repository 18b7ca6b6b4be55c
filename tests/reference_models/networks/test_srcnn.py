"""The SRCNN network against an independent NumPy implementation, and its untrained weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from reference_models.networks.srcnn import Srcnn, pass_picture_


def numpy_conv(maps, conv, mode):
    """(C, H, W) float64, pixel by pixel: the border repeated ("edge") or zeros ("constant"), same size out."""
    weight, bias = conv.weight.double().numpy(), conv.bias.double().numpy()
    reach = weight.shape[2] // 2
    padded = np.pad(maps, ((0, 0), (reach, reach), (reach, reach)), mode=mode)
    out = np.empty((len(weight), *maps.shape[1:]))
    for row, column in np.ndindex(*maps.shape[1:]):
        window = padded[:, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        out[:, row, column] = (weight * window).sum((1, 2, 3)) + bias
    return out


@torch.no_grad()
def randomised(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim == 4 else 0.1
        parameter.normal_(0, scale, generator=generator)
    return network.eval()


@pytest.mark.parametrize(("border", "mode"), [("replicate", "edge"), ("zeros", "constant")])
@pytest.mark.parametrize("mapping", [1, 5])
@torch.no_grad()
def test_against_numpy(mapping, border, mode):
    network = randomised(Srcnn(mapping, border))
    x = np.random.default_rng(1).uniform(size=(1, 1, 6, 9)).astype(np.float32)
    maps = x[0].astype(np.float64)
    maps = np.maximum(numpy_conv(maps, network.conv1, mode), 0)
    maps = np.maximum(numpy_conv(maps, network.conv2, mode), 0)
    wanted = numpy_conv(maps, network.conv3, mode)
    assert np.abs(network(torch.from_numpy(x))[0].numpy() - wanted).max() < 1e-5


@torch.no_grad()
def test_the_kinds_of_border_differ_at_the_border_only():
    x = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(2))
    difference = (randomised(Srcnn(5))(x) - randomised(Srcnn(5, "zeros"))(x)).abs()[0, 0]
    assert difference[8:-8, 8:-8].max() < 1e-6
    assert difference[0].min() > 1e-6


@pytest.mark.parametrize("mapping", [1, 5])
@torch.no_grad()
def test_untrained_weights_let_the_picture_through(mapping, picture):
    x = torch.from_numpy(picture(48, 64))[:, :1]
    y = Srcnn(mapping)(x)
    assert np.corrcoef(x.flatten(), y.flatten())[0, 1] > 0.8
    assert 0.01 < (y - x).std() < 0.3
    assert y.abs().max() < 2


def test_untrained_weights_are_the_same_every_time_and_leave_torchs_own_dice_alone():
    state = torch.get_rng_state()
    first, second = Srcnn(5), Srcnn(5)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_passed_picture_is_copied_to_the_first_planes():
    conv = nn.Conv2d(3, 16, 3, padding=1)
    pass_picture_(conv, torch.Generator().manual_seed(0), planes=3, copies=4, value=2.0)
    with torch.no_grad():
        centre = conv.weight[:, :, 1, 1].numpy()
    for row in range(12):
        assert centre[row, row // 4] > 1.8
        assert np.abs(np.delete(centre[row], row // 4)).max() < 0.1
    assert np.abs(centre[12:]).max() < 1
    assert conv.weight.detach()[12:].std() > 0.1
    assert not conv.bias.any()

"""RED-Net against a NumPy network that stamps its deconvolutions, with the skips written out pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reference_models.networks.red_net import Deconvolution, RedNet

# Number of the deconvolution: number of the convolution whose map is added behind it; 0 is the input.
SKIPS = {
    10: {1: 4, 3: 2, 5: 0},
    20: {2: 8, 4: 6, 6: 4, 8: 2, 10: 0},
    30: {1: 14, 3: 12, 5: 10, 7: 8, 9: 6, 11: 4, 13: 2, 15: 0},
}
DEPTH = pytest.mark.parametrize("depth", SKIPS)
PLANES = pytest.mark.parametrize("planes", [1, 3])


def gather(x, weight, bias):
    """3x3 convolution of (C, H, W) with an OIHW kernel: every output pixel collects its neighbours."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum("oirc,ihwrc->ohw", weight, windows) + bias[:, None, None]


def stamp(x, weight, bias):
    """3x3 deconvolution of (C, H, W) with an (in, out, 3, 3) kernel: every pixel stamps the kernel; border cut."""
    height, width = x.shape[1:]
    y = np.zeros((weight.shape[1], height + 2, width + 2))
    for row, column in np.ndindex(height, width):
        y[:, row : row + 3, column : column + 3] += np.einsum("i,iorc->orc", x[:, row, column], weight)
    return y[:, 1:-1, 1:-1] + bias[:, None, None]


def numpy_red(state, x, depth):
    state = {name: tensor.double().numpy() for name, tensor in state.items()}
    n, maps = depth // 2, {0: x.astype(np.float64)}
    for i in range(1, n + 1):
        y = gather(maps[i - 1], state[f"convs.{i - 1}.weight"], state[f"convs.{i - 1}.bias"])
        maps[i] = np.maximum(y, 0)
    y = maps[n]
    for i in range(1, n + 1):
        y = stamp(y, state[f"deconvs.{i - 1}.weight"], state[f"deconvs.{i - 1}.bias"])
        y = y if i == n else np.maximum(y, 0)
        y = y + maps[SKIPS[depth][i]] if i in SKIPS[depth] else y
        y = y if i == n else np.maximum(y, 0)  # the rectification after the sum, which the paper names
    return y


def randomise(model, seed=0):
    """Weights and biases of both signs under which no ReLU is always open or always shut, and every skip matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            deviation = 0.1 if tensor.ndim == 1 else (2 / (9 * tensor.shape[1])) ** 0.5
            tensor.normal_(0, deviation, generator=generator)
    return model


def run(model, x):
    with torch.inference_mode():
        return model(torch.from_numpy(x[None])).numpy()[0]


@DEPTH
@PLANES
@pytest.mark.parametrize(("height", "width"), [(6, 9), (1, 1), (1, 4)])
def test_random_weights_give_what_an_independent_implementation_gives(depth, planes, height, width):
    model = randomise(RedNet(depth, planes, width=4))
    x = np.random.default_rng(depth).uniform(0, 1, (planes, height, width)).astype(np.float32)
    wanted = numpy_red(model.state_dict(), x, depth)
    assert np.abs(wanted - x).max() > 1e-2
    assert np.abs(run(model, x) - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())


@DEPTH
def test_every_skip_matters_in_the_comparison_above(depth, monkeypatch):
    model, x = randomise(RedNet(depth, 1, width=4)), np.full((1, 5, 6), 0.5, np.float32)
    whole = numpy_red(model.state_dict(), x, depth)
    for dropped in SKIPS[depth]:
        monkeypatch.setitem(SKIPS, depth, {k: v for k, v in SKIPS[depth].items() if k != dropped})
        assert np.abs(numpy_red(model.state_dict(), x, depth) - whole).max() > 1e-3
        monkeypatch.undo()


def test_a_deconvolution_is_torchs_transposed_convolution():
    layer, x = randomise(Deconvolution(3, 5)), torch.rand(2, 3, 7, 6)
    assert layer.weight.shape == (3, 5, 3, 3)
    wanted = F.conv_transpose2d(x, layer.weight, layer.bias, padding=1)
    assert torch.allclose(layer(x), wanted, atol=1e-6)


@DEPTH
@PLANES
def test_an_untrained_network_neither_explodes_nor_hands_the_picture_through(depth, planes, picture):
    x = torch.from_numpy(picture(24, 32)[:, :planes])
    with torch.inference_mode():
        y = RedNet(depth, planes).eval()(x)
    assert -1 < y.min() < y.max() < 2
    assert 0.01 < (y - x).std() < 0.5


def test_untrained_weights_are_always_the_same_and_take_no_random_numbers_from_the_caller():
    before = torch.random.get_rng_state()
    first, second = RedNet(10).state_dict(), RedNet(10).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(tensor.any() for name, tensor in first.items() if name.endswith("bias"))


def test_initial_kernels_have_the_deviation_of_he():
    state = RedNet(20).state_dict()
    for name in ("convs.3.weight", "deconvs.4.weight"):
        assert state[name].std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert state["deconvs.9.weight"].std().item() == pytest.approx((2 / (9 * 64)) ** 0.5 / 10, rel=0.1)

"""SRGAN's networks against NumPy and plain functions written from figure 4; batch norm folded and not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from reference_models import create_model, get
from reference_models.errors import UserError
from reference_models.networks.srgan import (
    EPSILON,
    Discriminator,
    SrResNet,
    VggContentLoss,
    fold_batch_norm,
    state_from_trained,
)
from reference_models.weights import import_weights

TORCHVISION_CONVS = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
VGG19 = [64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512]
POOLED_AFTER = {1, 3, 7, 11}  # counted from 0; a fifth pooling follows the last map that is used


@torch.no_grad()
def trained(blocks=16, width=64, seed=0):
    """A network with norms whose every statistic and parameter matters, in eval mode."""
    network, generator = SrResNet(blocks, width, "kept"), torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 2, generator=generator)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.3, generator=generator)
        elif "norm" in name and name.endswith("weight"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif "norm" in name and name.endswith("bias"):
            tensor.normal_(0, 0.2, generator=generator)
        elif "activation" in name:
            tensor.uniform_(-0.2, 0.4, generator=generator)
        elif name.endswith("bias"):
            tensor.normal_(0, 0.1, generator=generator)
    return network.eval()


# The generator


def numpy_conv(maps, weight, bias=0.0):
    """(C, H, W) float64, pixel by pixel, zeros beyond the border."""
    reach = weight.shape[2] // 2
    padded = np.pad(maps, ((0, 0), (reach, reach), (reach, reach)))
    out = np.empty((len(weight), *maps.shape[1:]))
    for row, column in np.ndindex(*maps.shape[1:]):
        window = padded[:, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        out[:, row, column] = (weight * window).sum((1, 2, 3)) + bias
    return out


def numpy_generator(state, x, blocks):
    """(3, H, W) → (3, 4 H, 4 W), read off figure 4."""
    state = {name: tensor.double().numpy() for name, tensor in state.items()}

    def prelu(maps, name):
        return np.where(maps > 0, maps, state[f"{name}.weight"][:, None, None] * maps)

    def norm(maps, name):
        mean, variance, gamma, beta = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / np.sqrt(variance + EPSILON) * gamma + beta

    first = maps = prelu(numpy_conv(x, state["first.weight"], state["first.bias"]), "activation")
    for i in range(blocks):
        inner = norm(numpy_conv(maps, state[f"blocks.{i}.conv1.weight"]), f"blocks.{i}.norm1")
        inner = prelu(inner, f"blocks.{i}.activation")
        maps = maps + norm(numpy_conv(inner, state[f"blocks.{i}.conv2.weight"]), f"blocks.{i}.norm2")
    maps = first + norm(numpy_conv(maps, state["conv.weight"]), "norm")
    for i in range(2):
        maps = numpy_conv(maps, state[f"enlarging.{i}.conv.weight"], state[f"enlarging.{i}.conv.bias"])
        count, height, width = len(maps) // 4, *maps.shape[1:]
        maps = maps.reshape(count, 2, 2, height, width).transpose(0, 3, 1, 4, 2).reshape(count, 2 * height, 2 * width)
        maps = prelu(maps, f"enlarging.{i}.activation")
    return numpy_conv(maps, state["last.weight"], state["last.bias"])


@torch.no_grad()
def test_generator_against_numpy():
    network = trained(blocks=2, width=4)
    x = np.random.default_rng(0).uniform(size=(1, 3, 5, 4)).astype(np.float32)
    wanted = numpy_generator(network.state_dict(), x[0].astype(np.float64), 2)
    got = network(torch.from_numpy(x))[0].numpy()
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


@torch.no_grad()
def test_folded_is_what_it_was(picture):
    network, x = trained(), torch.from_numpy(picture(20, 24))
    before, folded = network(x), fold_batch_norm(network)
    assert not folded.training
    assert not [name for name in folded.state_dict() if "norm" in name]
    assert (folded(x) - before).abs().max() < 1e-5 * max(1, before.abs().max())
    unlike = network(x) - SrResNet().eval()(x)
    assert unlike.abs().max() > 0.1


@torch.no_grad()
def test_folding_leaves_the_trained_network_alone():
    network = trained(blocks=1, width=4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for parameter in fold_batch_norm(network).parameters():
        parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_trained_file_is_folded_where_it_is_imported(tmp_path, picture):
    network, x = trained(seed=3), torch.from_numpy(picture(8, 9))
    save_file(network.state_dict(), tmp_path / "trained.safetensors")
    output = tmp_path / "deployed.safetensors"
    done = import_weights(get("srgan_x4"), tmp_path / "trained.safetensors", output)
    assert done["parameters"] == 1_546_435
    with torch.inference_mode():
        wanted = network(x)
        assert (create_model("srgan_x4", str(output))(x) - wanted).abs().max() < 1e-5 * max(1, wanted.abs().max())


def test_a_trained_file_is_kept_as_it_is_where_this_is_asked(tmp_path):
    network = trained(seed=4)
    save_file(network.state_dict(), tmp_path / "trained.safetensors")
    loaded = create_model("srgan_x4", str(tmp_path / "trained.safetensors"), batch_norm="kept")
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    kept = state_from_trained(arrays, 16, 64, "kept")
    assert list(kept) == list(arrays)
    assert all(np.array_equal(kept[name], arrays[name]) for name in arrays)


def test_a_file_that_does_not_fit_is_refused_by_what_is_wrong():
    arrays = {name: tensor.numpy() for name, tensor in trained(1, 4).state_dict().items()}
    with pytest.raises(UserError, match=r"missing: blocks\.1\.conv1\.weight") as e:
        state_from_trained(arrays, 2, 4, "folded")
    assert "2 blocks of 4 channels" in e.value.expected
    with pytest.raises(UserError, match=r"not of this model: x"):
        state_from_trained({**arrays, "x": np.zeros(1, np.float32)}, 1, 4, "folded")


@pytest.mark.parametrize("batch_norm", ["folded", "kept"])
@torch.no_grad()
def test_untrained_weights_let_the_picture_through(batch_norm, picture):
    x = torch.from_numpy(picture(24, 28))
    y = SrResNet(batch_norm=batch_norm).eval()(x)
    enlarged = 2 * x.repeat_interleave(4, 2).repeat_interleave(4, 3) - 1
    assert np.corrcoef(enlarged.flatten(), y.flatten())[0, 1] > 0.8
    assert 0.02 < (y - enlarged).std() < 0.6
    assert y.abs().max() < 3


@pytest.mark.parametrize("make", [lambda: SrResNet(2, 8), lambda: Discriminator(16)])
def test_untrained_weights_are_the_same_every_time_and_leave_torchs_own_dice_alone(make):
    state = torch.get_rng_state()
    first, second = make(), make()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# The discriminator


def test_the_discriminator_has_the_layers_of_figure_4():
    network = Discriminator()
    widths = [64, 64, 128, 128, 256, 256, 512, 512]
    assert [conv.out_channels for conv in network.convs] == widths
    assert [conv.stride[0] for conv in network.convs] == [1, 2] * 4
    assert {conv.kernel_size for conv in network.convs} == {(3, 3)}
    convs = 9 * sum(a * b for a, b in zip([3, *widths[:-1]], widths, strict=True)) + 64
    dense = (512 * 6 * 6 * 1024 + 1024) + (1024 + 1)
    assert sum(p.numel() for p in network.parameters()) == convs + 2 * sum(widths[1:]) + dense
    with torch.inference_mode():
        probability = network.eval()(torch.rand(2, 3, 96, 96) * 2 - 1)
    assert probability.shape == (2, 1)
    assert ((probability > 0) & (probability < 1)).all()


def plain_discriminator(state, x):
    """Log-odds in eval mode, written from figure 4 without the module."""
    for i, stride in enumerate([1, 2] * 4):
        x = F.conv2d(x, state[f"convs.{i}.weight"], state.get(f"convs.{i}.bias"), stride, 1)
        if i > 0:
            mean, variance, gamma, beta = (
                state[f"norms.{i}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = (x - mean) / (variance + EPSILON).sqrt() * gamma + beta
        x = torch.maximum(x, 0.2 * x)
    x = x.reshape(len(x), -1) @ state["dense1.weight"].T + state["dense1.bias"]
    return torch.maximum(x, 0.2 * x) @ state["dense2.weight"].T + state["dense2.bias"]


@torch.no_grad()
def test_the_discriminator_is_what_figure_4_says():
    network = Discriminator(32)
    network(torch.rand(4, 3, 32, 32))  # in training mode: moves the statistics of the norms
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    wanted = plain_discriminator(network.eval().state_dict(), x)
    assert torch.allclose(network.logits(x), wanted, atol=1e-4)
    assert torch.allclose(network(x), 1 / (1 + torch.exp(-wanted)), atol=1e-5)
    assert (wanted[0] - wanted[1]).abs() > 1e-3


def test_the_generator_learns_from_the_discriminator():
    generator, discriminator = SrResNet(1, 4, "kept").train(), Discriminator(16)
    loss = -F.logsigmoid(discriminator.logits(generator(torch.rand(2, 3, 4, 4)))).mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in generator.parameters())


# The content loss


@pytest.fixture(scope="module")
def vgg():
    """Random weights under torchvision's names, and a tensor of the classifier, which no feature map needs."""
    generator, planes, state = torch.Generator().manual_seed(0), 3, {}
    for number, width in zip(TORCHVISION_CONVS, VGG19, strict=True):
        weight = torch.empty(width, planes, 3, 3).normal_(0, (2 / (9 * planes)) ** 0.5, generator=generator)
        bias = torch.empty(width).normal_(0, 0.1, generator=generator)
        state |= {f"features.{number}.weight": weight, f"features.{number}.bias": bias}
        planes = width
    return state | {"classifier.0.bias": torch.zeros(4096)}


def plain_maps(state, x, last):
    """Feature maps after convolution number `last`, counted from 1, and its activation, of a picture in [-1, 1]."""
    x = 0.5 * x + 0.5
    x = torch.stack([(x[:, 0] - 0.485) / 0.229, (x[:, 1] - 0.456) / 0.224, (x[:, 2] - 0.406) / 0.225], 1)
    for i, number in enumerate(TORCHVISION_CONVS[:last]):
        x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).clamp(min=0)
        if i in POOLED_AFTER and i < last - 1:
            x = F.max_pool2d(x, 2)
    return x


@pytest.mark.parametrize(("layer", "last", "shape"), [("2_2", 4, (128, 16, 12)), ("5_4", 16, (512, 2, 1))])
@torch.no_grad()
def test_content_loss_is_the_distance_of_maps_after_activation(vgg, layer, last, shape):
    generated, original = (torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    a, b = (plain_maps(vgg, 2 * x - 1, last) for x in (generated, original))
    assert a.shape[1:] == shape
    loss = VggContentLoss(vgg, layer)
    got = loss(2 * generated - 1, 2 * original - 1)
    assert torch.allclose(got, 0.00615 * (a - b).square().mean(), rtol=1e-3)  # 1 / 12.75²: the paper says about 0.006
    assert loss(original, original) == 0


def test_the_loss_trains_what_it_is_given_and_not_vgg(vgg):
    loss = VggContentLoss(vgg, "2_2")
    assert not any(p.requires_grad for p in loss.parameters())
    generated = torch.zeros(1, 3, 8, 8, requires_grad=True)
    loss(generated, torch.ones(1, 3, 8, 8)).backward()
    assert generated.grad.abs().min() > 0


def test_weights_of_vgg_that_do_not_fit_are_named(vgg):
    with pytest.raises(UserError, match=r"1 missing: features\.7\.bias"):
        VggContentLoss({name: t for name, t in vgg.items() if name != "features.7.bias"}, "2_2")
    with pytest.raises(UserError, match=r"misshapen: features\.0\.bias"):
        VggContentLoss({**vgg, "features.0.bias": torch.zeros(3)}, "2_2")
    with pytest.raises(UserError, match="VGG layer `3_4`"):
        VggContentLoss(vgg, "3_4")

"""The U-Net and the decoder: wiring written out, normalisation, folding. The layers have their own tests."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from reference_models.networks.pixel_dcn_nets import FoldedPixelDcn, PixelDcn, PixelVaeDecoder, Stage
from reference_models.networks.statistics import Foldable, calibrated_affines, fold_

UPSAMPLING = ["deconvolution", "pixel_dcl", "ipixel_dcl", "ipixel_cl"]
CHOICE = pytest.mark.parametrize(
    ("upsampling", "convolution"), list(itertools.product(UPSAMPLING, ["conv", "ipixel_cl"]))
)
SMALL = {"depth": 3, "width": 3, "classes": 4}


def randomise(model, seed=0):
    """Random beta, so that it matters."""
    generator = torch.Generator().manual_seed(seed)
    for stage in model.stages.values():
        stage.beta.data.normal_(0, 0.5, generator=generator)
    return model.eval()


def pictures(height, width, count=1, planes=3):
    generator = torch.Generator().manual_seed(height)
    return torch.rand(count, planes, height, width, generator=generator)


def by_hand(model, x):
    """The network of depth 3, one picture, with torch's own batch normalisation in training mode."""

    def stage(name, x, rectify=True):
        y = model.stages[name].layer(x)
        y = F.batch_norm(y, None, None, bias=model.stages[name].beta, training=True, eps=1e-5)
        return y.clamp(min=0) if rectify else y

    down0 = stage("down0_conv2", stage("down0_conv1", x))
    down1 = stage("down1_conv2", stage("down1_conv1", F.max_pool2d(down0, 2, 2)))
    bottom = stage("bottom_conv2", stage("bottom_conv1", F.max_pool2d(down1, 2, 2)))
    up1 = torch.cat([stage("up1_conv1", bottom), down1], dim=1)
    up1 = stage("up1_conv3", stage("up1_conv2", up1))
    up0 = torch.cat([stage("up0_conv1", up1), down0], dim=1)
    return stage("up0_conv3", stage("up0_conv2", up0), rectify=False)


@CHOICE
def test_the_wiring_is_that_of_the_published_code(upsampling, convolution):
    model, x = randomise(PixelDcn(upsampling, convolution, **SMALL)), pictures(16, 20)
    with torch.inference_mode():
        y, wanted = model(x), by_hand(model, x)
    assert y.shape == (1, 4, 16, 20)
    assert (y - wanted).abs().max() < 2e-5 * wanted.abs().max()


def test_planes_of_every_layer_at_the_published_depth_and_width():
    shapes = {name: tuple(stage.layer.weight.shape[:2]) for name, stage in PixelDcn("deconvolution").stages.items()}
    assert shapes == {
        "down0_conv1": (16, 3), "down0_conv2": (16, 16), "down1_conv1": (32, 16), "down1_conv2": (32, 32),
        "down2_conv1": (64, 32), "down2_conv2": (64, 64), "down3_conv1": (128, 64), "down3_conv2": (128, 128),
        "bottom_conv1": (256, 128), "bottom_conv2": (128, 256),
        "up3_conv1": (128, 128), "up3_conv2": (128, 256), "up3_conv3": (64, 128),
        "up2_conv1": (64, 64), "up2_conv2": (64, 128), "up2_conv3": (32, 64),
        "up1_conv1": (32, 32), "up1_conv2": (32, 64), "up1_conv3": (16, 32),
        "up0_conv1": (16, 16), "up0_conv2": (16, 32), "up0_conv3": (21, 16),
    }  # fmt: skip


def test_every_picture_of_a_batch_has_its_own_statistics():
    model, x = randomise(PixelDcn(**SMALL)), pictures(16, 20, count=2)
    x[1] *= 0.3
    with torch.inference_mode():
        both, alone = model(x), torch.cat([model(x[:1]), model(x[1:])])
        assert (both - alone).abs().max() < 1e-4
        statistics = model.statistics(x)
        assert torch.allclose(statistics[1:], model.statistics(x[1:]), atol=1e-4)


def test_statistics_are_mean_and_biased_variance_in_front_of_every_normalisation():
    model, x = randomise(PixelDcn(**SMALL)), pictures(16, 20)
    seen = []
    for stage in model.stages.values():
        stage.layer.register_forward_hook(lambda module, given, y: seen.append(y.double()))
    with torch.inference_mode():
        statistics = model.statistics(x)[0].double()
    assert statistics.shape == (12, 2, 12)  # layers; mean and variance; the bottom's twelve planes
    for y, (mean, variance) in zip(seen, statistics, strict=True):
        planes = y.shape[1]
        assert torch.allclose(mean[:planes], y.mean((0, 2, 3)), atol=1e-5)
        assert torch.allclose(variance[:planes], y.var((0, 2, 3), correction=0), rtol=1e-4)
        assert not mean[planes:].any()
        assert not variance[planes:].any()


@CHOICE
def test_folding_a_pictures_own_statistics_changes_nothing(upsampling, convolution):
    model, x = randomise(PixelDcn(upsampling, convolution, **SMALL)), pictures(24, 16)
    assert isinstance(model, Foldable)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_(model.folded(), calibrated_affines(model, [x]))
    with torch.inference_mode():
        y, again = model(x), folded(x)
        assert (y - again).abs().max() < 1e-4 * y.abs().max()
        assert (folded(pictures(16, 16)) - model(pictures(16, 16))).abs().max() > 1e-2  # frozen: no other picture's own
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_frozen_statistics_are_the_mean_over_the_calibration_set():
    model = randomise(PixelDcn(**SMALL))
    with torch.inference_mode():
        mean, variance = torch.stack([model.statistics(pictures(side, 16))[0] for side in (16, 32)]).mean(0).unbind(1)
    affines = calibrated_affines(model, [pictures(16, 16), pictures(32, 16)])
    for row, stage, m, v in zip(affines, model.stages.values(), mean, variance, strict=True):
        planes = len(stage.beta)
        scale = (v[:planes] + 1e-5) ** -0.5
        assert torch.allclose(row, torch.stack([scale, stage.beta - m[:planes] * scale]), rtol=1e-4, atol=1e-5)


def test_the_refit_rule_names_every_parameter_that_folding_may_change():
    folded = PixelDcn(**SMALL).folded()
    assert isinstance(folded, FoldedPixelDcn)
    assert len(folded.refit_rule) == 12
    parameters = dict(folded.named_parameters())
    for weight, bias in folded.refit_rule:
        assert parameters[weight].shape[0] == len(parameters[bias])
    named = {name for pair in folded.refit_rule for name in pair}
    inner = {f"stages.up{i}_conv1.layer.conv{k}.weight" for i in range(2) for k in range(3)}
    assert set(parameters) - named == inner


def test_normalisation_has_epsilon_1e_5_beta_and_no_gamma():
    stage = Stage(torch.nn.Identity(), 1)
    stage.beta.data.fill_(2.0)
    side = 1e-5**0.5  # variance as large as epsilon
    with torch.no_grad():
        y = stage(torch.tensor([0.7 - side, 0.7 + side]).view(1, 1, 1, 2))
    assert torch.allclose(y.flatten(), torch.tensor([2 - 0.5**0.5, 2 + 0.5**0.5]), atol=1e-4)
    assert list(dict(stage.named_parameters())) == ["beta"]


def test_no_relu_behind_the_scores():
    with torch.inference_mode():
        y = PixelDcn(**SMALL)(pictures(16, 16))
    assert y.min() < -0.5


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_an_untrained_u_net_gives_scores_of_unit_size(upsampling, picture):
    x = torch.from_numpy(picture(48, 64))
    with torch.inference_mode():
        y = PixelDcn(upsampling).eval()(x)
    assert 0.9 < y.std() < 1.1
    assert y.abs().max() < 8
    assert len(y.argmax(1).unique()) > 10  # not one class everywhere


# The decoder


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_the_decoder_is_a_row_of_layers(upsampling):
    model, x = PixelVaeDecoder(upsampling, latent=5, width=2).eval(), torch.randn(1, 5, 2, 3)
    assert [(up(torch.zeros(1, 2 * k, 1, 1)).shape[1]) for up, k in zip(model.ups, (16, 8, 4, 2), strict=True)] == [
        16, 8, 4, 2,
    ]  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for conv in (model.first, model.last):
        conv.bias.data.normal_(0, 0.3, generator=generator)
    with torch.inference_mode():
        y = torch.conv2d(x, model.first.weight, model.first.bias, padding=1).clamp(min=0)
        for up in model.ups:
            assert up.activation is not None
            up.activation, kept = None, up.activation
            y = up(y).clamp(min=0)
            up.activation = kept
        wanted = 1 / (1 + torch.exp(-torch.conv2d(y, model.last.weight, model.last.bias, padding=1)))
        assert torch.allclose(model(x), wanted, atol=1e-5)
    assert wanted.shape == (1, 3, 32, 48)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_an_untrained_decoder_makes_a_picture_that_is_neither_flat_nor_black_and_white(upsampling):
    z = torch.randn(1, 64, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        y = PixelVaeDecoder(upsampling).eval()(z)
    assert 0 <= y.min() < y.max() <= 1
    assert 0.05 < y.std() < 0.35
    assert 0.2 < y.mean() < 0.8


@pytest.mark.parametrize("make", [PixelDcn, PixelVaeDecoder])
def test_untrained_weights_are_always_the_same_and_take_no_random_numbers_from_the_caller(make):
    before = torch.random.get_rng_state()
    first, second = make().state_dict(), make().state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)

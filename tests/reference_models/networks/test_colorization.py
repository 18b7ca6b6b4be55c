"""Colorization against the paper's table, NumPy formulas, batch normalisation itself, and ONNX Runtime."""

from __future__ import annotations

import copy
import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from reference_models.errors import UserError
from reference_models.networks import colorization
from reference_models.networks.colorization import (
    CLASSES,
    PLANES,
    Colorization,
    StyledColorization,
    state_from_trained,
)


@pytest.fixture(scope="module")
def trained():
    """A network with batch normalisation in which every statistic matters."""
    network = Colorization(batch_norm=True).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            norm.weight.uniform_(0.7, 1.4, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)
        network.mean.fill_(0.4)
    return network


@pytest.fixture(scope="module")
def network(trained):
    """What is deployed of it."""
    return trained.folded()


def lightness(height, width, seed=0):
    """Smooth with noise, (1, 1, height, width) in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 3 + seed, height)[:, None], np.linspace(0, 5, width)[None]
    wave = 0.5 + 0.35 * np.sin(y + seed) * np.cos(x) + rng.uniform(-0.1, 0.1, (height, width))
    return torch.from_numpy(wave[None, None].astype(np.float32))


def run(module, *x):
    with torch.inference_mode():
        return module(*x)


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameters_are_those_of_the_table(network):
    def conv(planes, width):
        return (3 * 3 * planes + 1) * width

    def full(inputs, outputs):
        return (inputs + 1) * outputs

    low = conv(1, 64) + conv(64, 128) + conv(128, 128) + conv(128, 256) + conv(256, 256) + conv(256, 512)
    whole = 4 * conv(512, 512) + full(512 * 7 * 7, 1024) + full(1024, 512) + full(512, 256)
    mid = conv(512, 512) + conv(512, 256)
    colours = conv(256, 128) + conv(128, 64) + conv(64, 64) + conv(64, 32) + conv(32, 2)
    assert count(network.low) == low
    assert count(network.features) == whole
    assert count(network.mid) == mid
    assert count(network.fusion) == full(512, 256)
    assert count(network.colours) == colours
    assert count(network.classifier) == full(512, 256) + full(256, 205)
    assert count(network) - count(network.classifier) == 42_169_826


def test_sides_within_the_network_are_those_of_the_table(network):
    x = lightness(40, 56)
    low = run(network.low, x)
    assert low.shape == (1, 512, 5, 7)
    assert run(network.mid, low).shape == (1, 256, 5, 7)
    assert run(network.features.convs, torch.zeros(1, 512, 28, 28)).shape == (1, 512, 7, 7)
    assert run(network.global_features, x).shape == (1, 256)
    assert run(network.classes, x).shape == (1, CLASSES)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 40), (72, 8)])
def test_output_has_the_side_of_the_input_and_pairs_of_equal_pixels(network, height, width):
    y = run(network, lightness(height, width))
    assert y.shape == (1, 2, height, width)
    assert torch.equal(y[..., ::2, ::2], y[..., 1::2, 1::2])  # the paper's output has half the side
    assert 0 < y.min() < y.max() < 1


def test_input_must_be_a_multiple_of_eight(network):
    assert run(network.styled(), lightness(23, 40)).shape[2:] != (23, 40)


def test_fusion_is_the_formula_of_the_paper(trained):
    rng = np.random.default_rng(2)
    features, mid = rng.normal(size=256), rng.normal(size=(256, 3, 4))
    fusion = trained.fusion
    weight = np.hstack([m.weight.detach().numpy()[:, :, 0, 0] for m in (fusion.features, fusion.linear)])
    assert weight.shape == (256, 512)
    joined = np.concatenate([np.broadcast_to(features[:, None], (256, 12)), mid.reshape(256, 12)])
    fused = weight.astype(np.float64) @ joined + fusion.linear.bias.detach().numpy()[:, None]
    mean, var, gamma, beta = (
        t.detach().numpy()[:, None].astype(np.float64)
        for t in (fusion.norm.running_mean, fusion.norm.running_var, fusion.norm.weight, fusion.norm.bias)
    )
    wanted = np.maximum((fused - mean) / np.sqrt(var + 1e-5) * gamma + beta, 0).reshape(256, 3, 4)
    got = run(fusion, torch.from_numpy(features[None]).float(), torch.from_numpy(mid[None]).float())
    assert np.abs(got[0].numpy() - wanted).max() < 2e-5
    assert (wanted > 0).mean() > 0.2


def test_global_features_see_the_picture_at_224(network):
    """Against bilinear interpolation between pixel centres, in NumPy; of 224x224 nothing is resampled."""
    x = lightness(312, 264)

    def rows(picture):
        at = (np.arange(224) + 0.5) * len(picture) / 224 - 0.5
        first = np.floor(at).astype(int)
        part = (at - first)[:, None]
        return picture[first] * (1 - part) + picture[first + 1] * part

    small = torch.from_numpy(rows(rows(x[0, 0].numpy()).T).T[None, None].astype(np.float32))
    features = run(network.global_features, x)
    assert (run(network.global_features, small) - features).abs().max() < 1e-4
    assert (run(network.global_features, x[..., :224, :224]) - features).abs().max() > 1e-2


def test_folded_network_computes_the_same(trained, network):
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in trained.modules())
    x = lightness(40, 56)
    assert (run(network, x) - run(trained, x)).abs().max() < 1e-5
    assert (run(network.classes, x) - run(trained.classes, x)).abs().max() < 1e-4
    assert run(network, x).std() > 0.01


def test_training_normalises_with_the_statistics_of_the_batch(trained):
    fusion = copy.deepcopy(trained.fusion).train()
    generator = torch.Generator().manual_seed(1)
    features, mid = (torch.randn(shape, generator=generator) for shape in ((3, 256), (3, 256, 4, 4)))
    fusion.norm.reset_parameters()
    y = fusion(features, mid)
    assert (y > 0).float().mean((0, 2, 3)).sub(0.5).abs().max() < 0.35  # each plane is centred on zero before ReLU


def test_trained_weights_import_folded(trained, network):
    tensors = {name: tensor.numpy() for name, tensor in trained.state_dict().items()}
    state = state_from_trained(tensors, "lab", True)
    wanted = network.state_dict()
    assert set(state) == set(wanted)
    assert all(np.array_equal(state[name], wanted[name].numpy()) for name in wanted)
    with pytest.raises(UserError, match="no batch normalisation"):
        state_from_trained(state, "lab", True)
    del tensors["mid.0.linear.weight"]
    with pytest.raises(UserError, match=r"mid\.0\.linear\.weight"):
        state_from_trained(tensors, "lab", True)


def test_style_of_the_picture_itself_changes_nothing(network):
    x, other = lightness(32, 48), lightness(50, 37, seed=4)
    own, styled = network.styled(x), network.styled(other)
    assert torch.equal(run(own, x), run(network, x))
    assert (run(styled, x) - run(own, x)).abs().max() > 1e-3
    assert torch.equal(styled.global_features, run(network.global_features, other))


def test_styled_network_is_restored_from_its_state(network):
    styled = network.styled(lightness(50, 37, seed=4))
    state = {name: tensor.clone() for name, tensor in styled.state_dict().items()}
    assert not any(name.startswith(("features.", "classifier.")) for name in state)
    empty = network.styled()
    assert isinstance(empty, StyledColorization)
    assert not empty.global_features.any()
    assert not empty.training
    restored = copy.deepcopy(empty)
    for parameter in restored.parameters():
        parameter.data.zero_()
    restored.load_state_dict(state)
    x = lightness(24, 24)
    assert torch.equal(run(restored, x), run(styled, x))


def test_reach_of_the_styled_network(network):
    """By gradients, of all eight positions that differ in a row; positive weights keep every ReLU open."""
    styled = copy.deepcopy(network.styled()).double()
    styled.mean.zero_()
    for module in (m for m in styled.modules() if isinstance(m, nn.Conv2d)):
        weight = module.weight.data
        weight.abs_().div_(weight.sum((1, 2, 3), keepdim=True))
        if module.bias is not None:
            module.bias.data.zero_()
    x = torch.full((1, 1, 8, 256), 0.5, dtype=torch.float64, requires_grad=True)
    y = styled(x)
    halos, sides = [], []
    for column in range(128, 136):
        (gradient,) = torch.autograd.grad(y[0, 0, 4, column], x, retain_graph=True)
        seen = gradient[0, 0].abs().sum(0).nonzero().flatten()
        sides.append(int(seen[-1] - seen[0]) + 1)
        halos.append(int(max(column - seen[0], seen[-1] - column)))
    assert max(sides) == 115
    assert max(halos) == 64


def test_options_and_initialisation(network):
    state = torch.get_rng_state()
    rgb = Colorization("rgb", classifier=False).eval()
    assert torch.equal(torch.get_rng_state(), state)
    assert PLANES == {"lab": 2, "rgb": 3, "yuv": 2}
    y = run(rgb, lightness(48, 64))
    assert y.shape == (1, 3, 48, 64)
    assert y.std((2, 3)).min() > 0.005
    assert 0.1 < y.min() < y.max() < 0.9
    assert not any(name.startswith("classifier") for name in rgb.state_dict())
    with pytest.raises(ValueError, match="no classification head"):
        rgb.classes(lightness(8, 8))


def exported(module, path):
    h, w = (torch.export.Dim(name, min=2, max=4096) for name in "hw")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            torch.onnx.export(
                module, (torch.rand(1, 1, 40, 56),), str(path), input_names=["x"], output_names=["y"],
                opset_version=20, dynamo=True, dynamic_shapes=({2: 8 * h, 3: 8 * w},), external_data=False,
                verbose=False,
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
    return path


def operators(path):
    import onnx

    return [node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node]


def difference(module, path, sizes):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in sizes:
        x = lightness(*size)
        (y,) = session.run(None, {"x": x.numpy()})
        worst = max(worst, float(np.abs(y - run(module, x).numpy()).max()))
    return worst


OPERATORS = {"Sub", "Resize", "Conv", "Relu", "Reshape", "Gemm", "Unsqueeze", "Add", "Sigmoid"}


def test_exported_graph(monkeypatch, tmp_path):
    """With a global branch of 96x96: 10 million weights fewer to write, and the same graph."""
    monkeypatch.setattr(colorization, "GLOBAL_SIDE_PX", 96)
    module = Colorization().eval()
    path = exported(module, tmp_path / "colorization.onnx")
    found = operators(path)
    assert set(found) == OPERATORS  # no BatchNormalization, no Split: every weight is a constant
    assert found.count("Resize") == 4  # one to the global branch, three doublings
    assert difference(module, path, [(24, 40), (136, 112), (264, 8)]) < 1e-4


def test_exported_styled_graph(network, tmp_path):
    styled = network.styled(lightness(50, 37, seed=4))
    path = exported(styled, tmp_path / "styled.onnx")
    assert set(operators(path)) == {"Sub", "Resize", "Conv", "Relu", "Add", "Sigmoid"}
    assert difference(styled, path, [(24, 40), (104, 88), (8, 120)]) < 1e-4


@pytest.mark.slow
def test_exported_graph_at_full_size(network, tmp_path):
    path = exported(network, tmp_path / "colorization.onnx")
    assert set(operators(path)) == OPERATORS
    assert difference(network, path, [(24, 40), (232, 312), (448, 264), (720, 1280)]) < 1e-4

"""Layers that pretend to be int8: on the grids that graphs of that precision have, and gone when they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import reference_models
from export import qdq
from export.quantiser import original_graph
from export.rounding import scales_of
from export.to_onnx import ExportRequest, export_network
from reference_models.training.fake_quantisation import RoundedInput, RoundedWeight, plain_state, pretend_int8_
from reference_models.weights_file import save_weights


@pytest.mark.parametrize("axis", [0, 1, None])
def test_weights_have_255_levels_around_0(axis: int | None) -> None:
    weight = nn.Conv2d(3, 5, 3).weight.detach()
    rounded = RoundedWeight(axis)(weight)
    step = weight.abs().amax([a for a in range(4) if axis is None or a != axis], keepdim=True) / 127
    levels = rounded / step
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert (rounded - weight).abs().le(step / 2 + 1e-7).all()
    assert float((rounded - weight).abs().max()) > 0


def test_activations_have_256_levels_with_0_among_them() -> None:
    layer = RoundedInput()
    x = torch.linspace(-0.3, 2.0, 5000)
    rounded = layer(x)
    assert len(rounded.unique()) == 256
    assert 0.0 in rounded
    assert float((rounded - x).abs().max()) <= 2.3 / 255 / 2 * 1.01


def test_ranges_follow_what_is_seen_and_stand_still_when_judged() -> None:
    layer = RoundedInput()
    for _ in range(100):
        layer(torch.tensor([0.0, 1.0]))
    layer(torch.tensor([0.0, 3.0]))
    assert 1.05 < float(layer.high) < 1.2
    layer.eval()
    assert float(layer(torch.tensor([9.0]))) == pytest.approx(float(layer.high), abs=0.01)
    assert 1.05 < float(layer.high) < 1.2


def test_gradients_pass_and_stop_where_values_are_clipped() -> None:
    layer = RoundedInput()
    layer(torch.tensor([0.0, 1.0]))
    layer.eval()
    x = torch.tensor([0.33, 2.0], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["can24", "espcn_x3", "red10", "srgan_x4"])
def test_what_is_kept_is_the_network_itself(name: str) -> None:
    network, plain = reference_models.create_model(name), reference_models.create_model(name)
    assert pretend_int8_(network) > 2
    spec = reference_models.get(name)
    x = torch.from_numpy(np.random.default_rng(0).random((1, spec.input_planes, 24, 24), np.float32))
    with torch.no_grad():
        difference = float((network(x) - plain(x)).abs().max())
    assert difference > 0
    kept, wanted = plain_state(network), plain.state_dict()
    assert kept.keys() == wanted.keys()
    changed = [key for key in wanted if not torch.equal(kept[key], wanted[key])]
    assert changed
    assert all(key.endswith(".weight") and wanted[key].ndim == 4 for key in changed)


@pytest.mark.parametrize("name", ["espcn_x3", "red10", "encoder_decoder"])
def test_weights_that_pretended_are_on_the_grid_of_the_exported_graph(name: str, cache: Path) -> None:
    network = reference_models.create_model(name)
    pretend_int8_(network)
    kept = plain_state(network)
    path = cache / f"pretended-{name}.safetensors"
    save_weights(path, reference_models.get(name), kept)
    made = export_network(ExportRequest(reference_models.get(name), str(path), None, ()), cache)
    model = original_graph(made, "int8")
    layers = qdq.layers(model, qdq.Scheme("inputs", shifted=True))
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    weights = {layer.weight: constants[layer.weight] for layer in layers}
    scales = scales_of(weights, layers, 127.0, False)
    assert len(layers) > 2
    for layer in layers:
        weight, step = weights[layer.weight], scales[layer.weight]
        if step.ndim:
            step = step.reshape([-1 if axis == layer.axis else 1 for axis in range(weight.ndim)])
        levels = weight / step
        assert np.abs(levels - np.rint(levels)).max() < 1e-3, layer.name


def test_a_network_that_does_not_pretend_is_kept_as_it_is() -> None:
    network = reference_models.create_model("can24")
    assert all(
        torch.equal(a, b) for a, b in zip(plain_state(network).values(), network.state_dict().values(), strict=True)
    )

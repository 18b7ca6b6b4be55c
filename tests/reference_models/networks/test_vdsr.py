"""The VDSR network against NumPy, and with the published weights against the published pictures' figures."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from reference_models import create_model, get
from reference_models.errors import UserError
from reference_models.networks.vdsr import Vdsr, state_from_released
from reference_models.weights import import_weights

PICTURES = ["baby", "bird", "butterfly", "head", "woman"]
WEIGHTS = "vdsr_epoch_50.safetensors"


def numpy_conv(maps, weight):
    """(C, H, W) float64, pixel by pixel, zeros beyond the border."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    out = np.empty((len(weight), *maps.shape[1:]))
    for row, column in np.ndindex(*maps.shape[1:]):
        out[:, row, column] = (weight * padded[:, row : row + 3, column : column + 3]).sum((1, 2, 3))
    return out


@torch.no_grad()
def test_against_numpy():
    network = Vdsr(5, 6)
    weights = [conv.weight.double().numpy() for conv in network.convs]
    x = np.random.default_rng(0).uniform(size=(1, 1, 6, 9)).astype(np.float32)
    maps = x[0].astype(np.float64)
    for weight in weights[:4]:
        maps = np.maximum(numpy_conv(maps, weight), 0)
    wanted = x[0] + numpy_conv(maps, weights[4])
    assert np.abs(network(torch.from_numpy(x))[0].numpy() - wanted).max() < 1e-5
    assert wanted.min() < 0 or np.abs(wanted - x[0]).max() > 0.01  # the convolutions have a say


def test_untrained_weights_have_the_papers_deviation():
    convs = Vdsr().convs
    for conv, fan_in in zip(convs, [9, *[9 * 64] * 19], strict=True):
        values = conv.weight.detach().flatten()
        spread = values.std().item() * math.sqrt(fan_in / 2)  # He et al.: sqrt(2 / fan in)
        assert abs(spread - 1) < 3 / math.sqrt(2 * len(values)) + 0.01


@torch.no_grad()
def test_untrained_output_is_sane(picture):
    x = torch.from_numpy(picture(48, 64))[:, :1]
    y = Vdsr()(x)
    assert 0.02 < (y - x).std() < 0.5
    assert y.abs().max() < 3


def test_untrained_weights_are_the_same_every_time_and_leave_torchs_own_dice_alone():
    state = torch.get_rng_state()
    first, second = Vdsr(), Vdsr()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# Published weights


def released(depth=4, width=3):
    """A small network as the release would store it; every value occurs once."""
    rng = np.random.default_rng(0)
    shapes = {"input": (width, 1), **{f"residual_layer.{i}.conv": (width, width) for i in range(depth - 2)}}
    shapes["output"] = (1, width)
    return {f"{name}.weight": rng.normal(size=(*shape, 3, 3)).astype(np.float32) for name, shape in shapes.items()}


def test_every_tensor_goes_to_its_place():
    tensors = released()
    state = state_from_released(dict(reversed(tensors.items())), 4, 3)
    assert list(state) == [f"convs.{i}.weight" for i in range(4)]
    for ours, theirs in zip(state.values(), tensors.values(), strict=True):
        assert np.array_equal(ours, theirs)
        assert ours.dtype == np.float32
    Vdsr(4, 3).load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})


def test_what_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"1 missing: residual_layer\.2\.conv\.weight"):
        state_from_released(released(), 5, 3)
    with pytest.raises(UserError, match=r"1 not of this model: residual_layer\.1\.conv\.weight"):
        state_from_released(released(), 3, 3)
    with pytest.raises(UserError, match=r"misshapen: input\.weight \(3, 1, 3, 3\) in place of \(4, 1, 3, 3\)"):
        state_from_released(released(), 4, 4)
    with pytest.raises(UserError, match=r"not of this model: input\.bias"):  # the authors' own kind
        state_from_released({**released(), "input.bias": np.zeros(3, np.float32)}, 4, 3)


@pytest.fixture(scope="module")
def published(originals, tmp_path_factory):
    """The network with the published weights, by way of a file, as a user imports it."""
    output = tmp_path_factory.mktemp("vdsr") / "vdsr.safetensors"
    done = import_weights(get("vdsr"), originals / "vdsr" / WEIGHTS, output)
    assert (done["tensors"], done["parameters"], done["dropped"]) == (20, 664_704, 0)
    return create_model("vdsr", str(output))


def test_published_weights_arrive_unchanged(originals, published):
    theirs = load_file(originals / "vdsr" / WEIGHTS)
    ours = [conv.weight.detach().numpy() for conv in published.convs]
    assert np.array_equal(ours[0], theirs["input.weight"])
    assert np.array_equal(ours[19], theirs["output.weight"])
    for i in range(18):
        assert np.array_equal(ours[i + 1], theirs[f"residual_layer.{i}.conv.weight"])


def output_of(network, originals, case):
    with np.load(originals / "vdsr" / "set5" / f"{case}.npz") as stored:
        x, truth = stored["input"], stored["gt_y"]
    with torch.inference_mode():
        return network(torch.from_numpy(x)[None, None])[0, 0].numpy(), truth


def check_decibels(originals, case, output, truth):
    """PSNR as the paper takes it, against the table beside the weights; float64."""
    picture, scale = case.split("_x")
    with (originals / "vdsr" / "psnr.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if (row["image"], row["scale"]) == (picture, scale)]
    border = get("vdsr", {"scale": int(scale)}).evaluation.border_px
    inner = slice(border, -border)
    error = (np.clip(255 * output.astype(np.float64), 0, 255) - truth)[inner, inner]
    decibels = 20 * math.log10(255 / math.sqrt(np.square(error).mean()))
    assert abs(decibels - float(row["psnr_vdsr_db"])) < 0.01
    return decibels


@pytest.mark.parametrize(
    "case",
    ["butterfly_x3", pytest.param("bird_x2", marks=pytest.mark.slow), pytest.param("woman_x4", marks=pytest.mark.slow)],
)
def test_published_outputs_and_decibels(originals, published, case):
    output, truth = output_of(published, originals, case)
    with np.load(originals / "vdsr" / "outputs" / f"{case}.npz") as stored:
        assert np.abs(output - stored["output"]).max() < 1e-5
    check_decibels(originals, case, output, truth)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "mean"), [(2, 37.6526), (3, 33.7733), (4, 31.4650)])
def test_all_of_set5(originals, published, scale, mean):
    cases = [f"{picture}_x{scale}" for picture in PICTURES]
    decibels = [check_decibels(originals, case, *output_of(published, originals, case)) for case in cases]
    assert abs(sum(decibels) / 5 - mean) < 0.005

"""A network that begins to learn gives back its picture, and further planes of a CAN see something."""

from __future__ import annotations

import pytest
import torch

import reference_models
from reference_models.training.beginnings import pass_through_, passes_through


def test_a_can_gives_back_its_picture() -> None:
    can = reference_models.create_model("can24")
    x = torch.rand(2, 3, 33, 41, generator=torch.Generator().manual_seed(1))
    assert pass_through_(can, seed=0)
    with torch.no_grad():
        assert torch.allclose(can(x), x, atol=1e-6)


@pytest.mark.parametrize("name", ["vdsr", "red10"])
def test_a_network_that_adds_its_input_begins_by_adding_nothing(name: str) -> None:
    network = reference_models.create_model(name)
    x = torch.rand(1, network.get_parameter("convs.0.weight").shape[1], 17, 23)
    with torch.no_grad():
        assert not torch.equal(network(x), x)
        assert pass_through_(network, seed=0)
        assert torch.equal(network(x), x)
    assert network.get_parameter("convs.0.weight").count_nonzero()


def test_its_other_planes_are_features_and_its_seed_counts() -> None:
    kernels = []
    for seed in (0, 0, 1):
        can = reference_models.create_model("can24")
        pass_through_(can, seed)
        kernels.append(torch.stack([conv.weight.std((1, 2, 3))[3:] for conv in can.convs][1:]))
    assert (kernels[0] > 0).all()
    assert torch.equal(kernels[0], kernels[1])
    assert not torch.equal(kernels[0], kernels[2])


def test_another_network_is_left_as_it_is() -> None:
    network = reference_models.create_model("srcnn_915")
    before = [p.clone() for p in network.parameters()]
    assert not pass_through_(network, seed=0)
    assert all(map(torch.equal, before, network.parameters()))


@pytest.mark.parametrize("name", ["can24", "vdsr", "red10", "srcnn_915", "espcn_x2", "srgan_x4"])
def test_a_spec_says_the_same_as_its_network(name: str) -> None:
    assert passes_through(reference_models.get(name)) == pass_through_(reference_models.create_model(name), seed=0)

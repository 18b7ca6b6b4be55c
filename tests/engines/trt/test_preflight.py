"""What fits, over a network whose tensors are plain functions of the size; the library's own in test_builder.py."""

from __future__ import annotations

import types

import pytest

from engines.trt.preflight import MAX_ELEMENTS, check_fits, demand, largest_size
from reference_models.errors import UserError

TRT = types.SimpleNamespace(LayerType=types.SimpleNamespace(CONVOLUTION="conv", DECONVOLUTION="deconv"))
FLOAT = types.SimpleNamespace(itemsize=4)


class Tensor:
    def __init__(self, name, shape):
        self.name, self._shape, self.dtype = name, shape, FLOAT

    @property
    def shape(self):
        return self._shape()


class Input(Tensor):
    def __init__(self):
        self.name, self.shape_, self.dtype = "x", (1, 3, -1, -1), FLOAT

    @property
    def shape(self):
        return self.shape_

    @shape.setter
    def shape(self, value):
        self.shape_ = value


class Network:
    """x → conv to 64 planes → relu → conv to 12 planes at twice the side."""

    def __init__(self):
        x = self.x = Input()
        sides = lambda k: tuple(k * s if s > 0 else -1 for s in x.shape[2:])  # noqa: E731
        wide = Tensor("wide", lambda: (1, 64, *sides(1)))
        relu = Tensor("relu", lambda: (1, 64, *sides(1)))
        large = Tensor("large", lambda: (1, 12, *sides(2)))
        self.layers = [("conv", x, wide), ("activation", wide, relu), ("deconv", relu, large)]
        self.num_layers = len(self.layers)

    def get_input(self, i):
        return self.x

    def get_layer(self, i):
        kind, source, target = self.layers[i]
        return types.SimpleNamespace(type=kind, num_outputs=1, get_output=lambda j: target, get_input=lambda j: source)


def test_the_demand_is_the_largest_tensor_and_the_largest_weighted_layer():
    network = Network()
    needed = demand(TRT, network, (10, 20))
    assert (needed.elements, needed.tensor) == (64 * 200, "wide")
    assert needed.bytes == 4 * (64 * 200 + 12 * 800)
    assert network.x.shape == (1, 3, -1, -1)  # dynamic again


def test_what_fits_is_let_through():
    assert check_fits(TRT, Network(), (2160, 3840)).elements == 64 * 2160 * 3840


@pytest.mark.parametrize("multiple", [1, 8])
def test_too_many_elements_are_refused_with_the_largest_size_that_fits(multiple):
    network = Network()
    with pytest.raises(UserError) as error:
        check_fits(TRT, network, (5000, 10000), multiple)
    assert "5000" in error.value.what
    assert "3,200,000,000 elements" in error.value.what
    assert "2^31" in error.value.expected
    words = error.value.todo.replace(",", "").split()
    width, height = map(int, words[words.index("is") + 1].split("x"))
    tile = int(words[-1].split("x")[0])
    assert height % multiple == width % multiple == 0
    for side, other in ((height, width), (tile, tile)):
        assert 64 * side * other <= MAX_ELEMENTS < 64 * (side + multiple) * (other + 2 * multiple)
    assert abs(width / height - 2) < 0.01 * multiple
    assert network.x.shape == (1, 3, -1, -1)


def test_more_memory_than_the_device_has_is_refused():
    with pytest.raises(UserError, match=r"one layer alone would need 44[0-9] MiB.*the device's 100 MiB.*that fits is"):
        check_fits(TRT, Network(), (1000, 1040), device_bytes=100 << 20)
    check_fits(TRT, Network(), (100, 100), device_bytes=100 << 20)


def test_where_nothing_fits_no_size_is_proposed():
    with pytest.raises(UserError, match="No smaller input fits either"):
        check_fits(TRT, Network(), (1000, 1000), device_bytes=1)


@pytest.mark.parametrize("limit", [1, 2, 63, 64, 65, 1000])
def test_the_largest_size_is_the_largest(limit):
    found = largest_size((1000, 500), 1, lambda size: size[0] <= limit)
    assert found == (limit, max(limit // 2, 1))

"""Weights on their grid: second moments against torch's unfold, and errors that cancel on correlated inputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper

from export import rounding
from export.qdq import Scheme, layers, named_nodes
from export.rounding import half_step, moments, rounded, scales_of

RNG = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(monkeypatch):
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(1))


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def graph_of(text, shape="1,3,H,W", **stored):
    head = f'<ir_version: 10, opset_import: ["" : 20]> g (float[{shape}] x) => (float y) {{ {text} }}'
    model = onnx.parser.parse_model(head)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    return named_nodes(model)


def nothing(what, share):
    pass


def found_moments(model, inputs):
    return moments(model, layers(model, Scheme()), inputs, nothing)


# Moments


@pytest.fixture
def all_places(monkeypatch):
    monkeypatch.setattr(rounding, "PATCHES", 10**9)


@pytest.mark.parametrize(
    ("text", "kernel", "pads", "steps"),
    [
        ("", (3, 3), (0, 0, 0, 0), {}),
        ("<pads=[1,1,1,1]>", (3, 3), (1, 1, 1, 1), {}),
        ("<pads=[0,1,3,2], strides=[2,3]>", (3, 5), (0, 1, 3, 2), {"stride": (2, 3)}),
        ("<pads=[2,4,2,4], dilations=[2,4]>", (3, 3), (2, 4, 2, 4), {"dilation": (2, 4)}),
        ('<auto_pad="VALID">', (1, 2), (0, 0, 0, 0), {}),
    ],
)
def test_moments_of_a_convolution_are_those_of_its_unfolded_input(text, kernel, pads, steps, all_places):
    model = graph_of(f"a = Relu(x) y = Conv{text}(a, w)", w=numbers(5, 3, *kernel))
    inputs = [numbers(1, 3, 12, 14), 2 * numbers(1, 3, 17, 11)]
    top, left, bottom, right = pads
    columns = torch.cat(
        [F.unfold(F.pad(torch.from_numpy(x).relu(), (left, right, top, bottom)), kernel, **steps)[0] for x in inputs],
        1,
    ).double()
    wanted = (columns @ columns.T / columns.shape[1]).numpy()
    (got,) = found_moments(model, inputs).values()
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "shape"), [("y = MatMul(t, w)", (3, 7)), ("r = Reshape(t, s) y = Gemm<transB=1>(r, w)", (7, 3))]
)
def test_moments_of_a_product_are_those_of_its_rows(text, shape, all_places):
    model = graph_of(f"t = Transpose<perm=[0,2,3,1]>(x) {text}", w=numbers(*shape), s=np.array([-1, 3]))
    inputs = [numbers(1, 3, 4, 5), numbers(1, 3, 2, 2)]
    rows = np.concatenate([x[0].reshape(3, -1) for x in inputs], 1).astype(np.float64)
    (got,) = found_moments(model, inputs).values()
    np.testing.assert_allclose(got, rows @ rows.T / rows.shape[1], rtol=1e-5, atol=1e-6)


def test_moments_of_some_places_are_near_those_of_all(monkeypatch):
    model = graph_of("y = Conv<pads=[1,1,1,1]>(x, w)", w=numbers(5, 3, 3, 3))
    inputs = [1 + numbers(1, 3, 90, 80)]
    monkeypatch.setattr(rounding, "PATCHES", 10**9)
    (whole,) = found_moments(model, inputs).values()
    monkeypatch.setattr(rounding, "PATCHES", 3000)
    (some,), (again,) = (list(found_moments(model, inputs).values()) for _ in range(2))
    assert np.array_equal(some, again)
    assert not np.array_equal(some, whole)
    assert np.abs(some - whole).max() < 0.15


def test_groups_deconvolutions_and_too_large_layers_have_no_moments(monkeypatch):
    model = graph_of(
        """a = Conv(x, plain) b = Conv<group=5>(a, grouped) c = ConvTranspose(b, transposed) d = Conv(c, large)
        y = Conv<auto_pad="SAME_UPPER">(d, same)""",
        plain=numbers(5, 3, 3, 3), grouped=numbers(5, 1, 3, 3), transposed=numbers(5, 3, 3, 3),
        large=numbers(4, 3, 5, 4), same=numbers(2, 4, 2, 2),
    )  # fmt: skip
    monkeypatch.setattr(rounding, "LARGEST", 59)
    assert set(found_moments(model, [numbers(1, 3, 12, 12)])) == {"plain"}


def test_layers_that_share_a_weight_share_moments_each_with_its_own_strides(all_places):
    model = graph_of("a = Conv<pads=[1,1,1,1]>(x, w) y = Conv<strides=[2,2]>(a, w)", w=numbers(3, 3, 3, 3) / 5)
    x = torch.from_numpy(numbers(1, 3, 9, 10))
    weight = torch.from_numpy(numpy_helper.to_array(model.graph.initializer[0]).copy())
    columns = [F.unfold(x, 3, padding=1)[0], F.unfold(F.conv2d(x, weight, padding=1), 3, stride=2)[0]]
    joint = torch.cat(columns, 1).double()
    (got,) = found_moments(model, [x.numpy()]).values()
    np.testing.assert_allclose(got, joint @ joint.T / joint.shape[1], rtol=1e-4, atol=1e-5)


# Rounding


def correlated(count=27, samples=4000):
    """Values behind a ReLU that mostly say the same: their mean is large, few directions hold nearly all."""
    few = np.abs(RNG.standard_normal((samples, 3)))
    return np.maximum(few @ RNG.uniform(0.2, 1, (3, count)) + 0.02 * RNG.standard_normal((samples, count)), 0)


def output_error(values, weight, other, axis):
    flat = [np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1).astype(np.float64) for w in (weight, other)]
    return np.mean((values @ (flat[0] - flat[1]).T) ** 2, 0)


def on_grid(weight, scales, axis):
    steps = weight / np.asarray(scales, np.float64).reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    assert np.abs(steps - np.rint(steps)).max() < 1e-4
    assert np.abs(steps).max() < 127.001


@pytest.mark.parametrize(("shape", "axis"), [((8, 3, 3, 3), 0), ((27, 8), 1), ((8, 27), 0)])
def test_errors_cancel_on_correlated_values(shape, axis):
    weight, values = numbers(*shape), correlated()
    scales = np.abs(np.moveaxis(weight, axis, 0).reshape(8, -1)).max(1) / 127
    second = values.T @ values / len(values)
    nearest, better = (rounded(weight, scales, axis, given) for given in (None, second))
    for found in (nearest, better):
        assert found.dtype == np.float32
        assert found.shape == weight.shape
        on_grid(found, scales, axis)
    steps = scales.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    np.testing.assert_allclose(nearest, np.rint(weight / steps) * steps, rtol=1e-5)
    before, after = (output_error(values, weight, found, axis) for found in (nearest, better))
    assert after.sum() < before.sum() / 5
    assert (after <= before).all()


def test_no_output_is_worse_than_to_nearest_on_any_data():
    """The order is fixed and greedy: for single outputs it would lose now and then."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        values = random.standard_normal((60, 6)) * random.uniform(0.1, 3, 6) + random.uniform(0, 1)
        weight = random.standard_normal((40, 6)).astype(np.float32)
        scales = np.full(40, np.abs(weight).max() / 3)
        before, after = (
            output_error(values, weight, rounded(weight, scales, 0, second), 0)
            for second in (None, values.T @ values / 60)
        )
        assert (after <= before * (1 + 1e-6) + 1e-12).all(), seed


def test_nothing_leaves_the_127_steps_though_errors_are_pushed_on():
    values, weight = correlated(40), np.abs(numbers(5, 40))
    weight[:, 20:] = weight.max()
    scales = np.full(5, weight.max() / 127)
    on_grid(rounded(weight, scales, 0, values.T @ values / len(values)), scales, 0)
    on_grid(rounded(weight * 3, scales, 0, None), scales, 0)


@pytest.mark.parametrize("count", [127, 128, 129, 300])
def test_blocks_are_only_a_matter_of_speed(count, monkeypatch):
    values, weight = correlated(count, 900), numbers(4, count)
    scales, second = np.abs(weight).max(1) / 127, values.T @ values / 900
    blocks = rounded(weight, scales, 0, second)
    monkeypatch.setattr(rounding, "_BLOCK", 10**6)
    steps = (rounded(weight, scales, 0, second) - blocks) / scales[:, None]
    assert np.mean(np.abs(steps) > 0.5) < 0.01  # ties and the last bits of float64


def test_values_that_never_come_leave_rounding_to_nearest():
    weight = numbers(4, 9)
    scales = np.abs(weight).max(1) / 127
    assert np.array_equal(rounded(weight, scales, 0, np.zeros((9, 9))), rounded(weight, scales, 0, None))


def test_one_step_for_a_whole_deconvolution():
    weight = numbers(5, 3, 4, 4)
    step = np.abs(weight).max() / 127
    found = rounded(weight, np.float32(step), None, None)
    np.testing.assert_allclose(found, np.rint(weight / np.float32(step)) * step, rtol=1e-5)


# Steps


@pytest.mark.parametrize("half", [False, True])
def test_steps_are_the_largest_magnitude_s_per_output_channel(half):
    model = graph_of(
        "a = Conv(x, cw) b = ConvTranspose(a, t) m = Transpose<perm=[0,2,3,1]>(b) y = MatMul(m, p)",
        **{"cw": numbers(5, 3, 3, 3), "t": numbers(5, 4, 2, 2), "p": numbers(4, 6)},
    )
    weights = {i.name: numpy_helper.to_array(i).copy() for i in model.graph.initializer}
    weights["cw"][2] = 0
    found = scales_of(weights, layers(model, Scheme()), 127.0, half)
    wanted = {
        "cw": np.abs(weights["cw"]).reshape(5, -1).max(1) / 127,
        "t": np.abs(weights["t"]).max() / 127,
        "p": np.abs(weights["p"]).max(0) / 127,
    }
    wanted["cw"][2] = wanted["cw"].max()  # a channel of zeros
    for name, steps in wanted.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == steps.shape
        np.testing.assert_allclose(found[name], steps, rtol=2e-3 if half else 1e-6)
        assert (found[name] >= steps * (1 - 1e-6)).all()
        assert not half or np.array_equal(found[name], found[name].astype(np.float16))


def test_a_layer_of_zeros_has_a_step():
    model = graph_of("y = Conv(x, w)", w=np.zeros((2, 3, 1, 1), np.float32))
    assert scales_of({"w": np.zeros((2, 3, 1, 1))}, layers(model, Scheme()), 127.0, False)["w"] == pytest.approx(
        1 / 127
    )


def test_a_half_step_is_a_float16_and_the_least_that_is_not_below():
    steps = np.exp(RNG.uniform(np.log(1e-9), np.log(6e4), 5000))
    steps[:3] = [0.5, 2.0**-14, 1.0009765625]
    found = half_step(steps)
    assert found.dtype == np.float32
    assert np.array_equal(found.astype(np.float16).astype(np.float32), found)
    assert (found >= steps).all()
    assert found[:3].tolist() == steps[:3].tolist()
    normal = steps > 2.0**-14
    below = np.nextafter(found.astype(np.float16), np.float16(0)).astype(np.float64)
    assert (below[normal] < steps[normal]).all()
    assert (found[~normal] == 2.0**-14).all()

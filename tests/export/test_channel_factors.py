"""Channels scaled around a normalisation by the picture's own statistics: the same is computed, peaks are equal."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.channel_factors import flat_tensors, make_up
from export.qdq import Scheme, layers, named_nodes, tensors
from export.ranges import histograms
from export.recovery import equalised
from tests.export.test_recovery import decibels, quantised, run

INPUTS, INTEGER = Scheme(), Scheme("integer", shifted=True)
STATISTICS = (
    "m1 = ReduceMean(c, rows) m = ReduceMean(m1, columns) d = Sub(c, m) s = Mul(d, d) v1 = ReduceMean(s, rows) "
    "v = ReduceMean(v1, columns) e = Add(v, eps) q = Sqrt(e) r = Reciprocal(q) k = Mul(gamma, r) "
)
"""Mean and variance of `c` over the picture, and `k`, what its normalisation multiplies by."""
NORM = STATISTICS + "scale = Add(lambda, k) o = Mul(k, m) shift = Sub(beta, o) z = Mul(c, scale) n = Add(z, shift) "
SQUEEZED = "g = GlobalAveragePool(c) t = Sigmoid(g) n = Mul(t, c) "


@pytest.fixture
def constants():
    rng = np.random.default_rng(5)
    sizes = np.logspace(-1.5, 1.5, 8)
    return {
        "w1": (rng.standard_normal((8, 3, 3, 3)) / 5 * sizes.reshape(-1, 1, 1, 1)).astype(np.float32),
        "w2": (rng.standard_normal((3, 8, 3, 3)) / 8 / sizes.reshape(1, -1, 1, 1)).astype(np.float32),
        "gamma": (rng.uniform(0.5, 2, (1, 8, 1, 1)) * sizes.reshape(1, -1, 1, 1)).astype(np.float32),
        "beta": (rng.uniform(-1, 1, (1, 8, 1, 1)) * sizes.reshape(1, -1, 1, 1)).astype(np.float32),
        "lambda": np.float32(0.3),
        "eps": np.float32(1e-3),
        "rows": np.array([-1]),
        "columns": np.array([-2]),
    }


def picture():
    return np.random.default_rng(6).uniform(0, 1, (1, 3, 24, 20)).astype(np.float32)


def graph(middle, constants, activation="LeakyRelu<alpha=0.2>(n)"):
    text = f"c = Conv<pads=[1,1,1,1]>(x, w1) {middle} a = {activation} y = Conv<pads=[1,1,1,1]>(a, w2)"
    head = f'<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,H,W] x) => (float[N,3,H2,W2] y) {{ {text} }}'
    model = onnx.parser.parse_model(head)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return named_nodes(model)


def peaks_of(model, x, scheme):
    names = tensors(model, scheme, layers(model, scheme))
    return {name: histogram.channel_peaks for name, histogram in histograms(model, names, [x], print).items()}


def equal(model, x, scheme):
    return equalised(model, layers(model, scheme), peaks_of(model, x, scheme))


@pytest.mark.parametrize("scheme", [INPUTS, INTEGER], ids=["inputs", "integer"])
@pytest.mark.parametrize("activation", ["LeakyRelu<alpha=0.2>(n)", "Relu(n)"])
def test_what_is_behind_a_norm_has_equal_peaks_and_computes_the_same(constants, scheme, activation):
    model, x = graph(NORM, constants, activation), picture()
    made = equal(model, x, scheme)
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-4)
    before, after = peaks_of(model, x, scheme), peaks_of(made, x, scheme)
    for name in {"inputs": ["a"], "integer": ["c", "a"]}[scheme.placement]:
        assert before[name].max() > 4 * before[name].min()
        np.testing.assert_allclose(after[name], after[name].mean(), rtol=1e-3)


def test_an_activation_that_passes_no_factor_through_leaves_what_is_behind_the_norm(constants):
    model, x = graph(NORM, constants, "Tanh(n)"), picture()
    assert equal(model, x, INPUTS) is None
    made = equal(model, x, INTEGER)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-4)
    after = peaks_of(made, x, INTEGER)
    np.testing.assert_allclose(after["c"], after["c"].mean(), rtol=1e-3)
    assert after["a"].max() > 2 * after["a"].min()


@pytest.mark.parametrize(("scheme", "gain_db"), [(INPUTS, 4), (INTEGER, 8)], ids=["inputs", "integer"])
def test_behind_a_norm_int8_is_nearer(constants, scheme, gain_db):
    model, x = graph(NORM, constants), picture()
    wanted = run(model, x)
    plain, better = (decibels(run(quantised(m, scheme, [x]), x), wanted) for m in (model, equal(model, x, scheme)))
    assert better > plain + gain_db


def test_an_excitation_computes_the_same(constants):
    model, x = graph(SQUEEZED, constants), picture()
    made = equal(model, x, INTEGER)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-4)
    after = peaks_of(made, x, INTEGER)["c"]
    np.testing.assert_allclose(after, after.mean(), rtol=1e-3)


@pytest.mark.parametrize("order", [("Mul(scale, c)", "Add(shift, z)"), ("Mul(c, scale)", "Add(shift, z)")])
def test_operands_may_stand_in_any_order(constants, order):
    middle = NORM.replace("Mul(c, scale)", order[0]).replace("Add(z, shift)", order[1])
    model, x = graph(middle, constants), picture()
    made = equal(model, x, INPUTS)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-4)
    after = peaks_of(made, x, INPUTS)["a"]
    np.testing.assert_allclose(after, after.mean(), rtol=1e-3)


@pytest.mark.parametrize(
    "middle",
    [
        "n = Tanh(c) ",
        "m = ReduceMean(c, channels) n = Sub(c, m) ",
        "m = ReduceMean<keepdims=0>(c, rows) q = Unsqueeze(m, rows) n = Mul(c, q) ",
        "m = ReduceMean(c) n = Mul(c, m) ",
        "n = Add(c, c2) ",
        "n = Div(c, gamma) ",
        STATISTICS + "f = Sub(c, m) n = Mul(f, k) h = Tanh(f) ",
    ],
)
def test_nothing_is_scaled_where_something_else_would_change(constants, middle):
    model = graph(middle, {**constants, "channels": np.array([1]), "c2": np.zeros((1, 8, 24, 20), np.float32)})
    before = model.SerializeToString(deterministic=True)
    assert not make_up(model, "c", np.arange(1, 9) / 4, flat_tensors(model))
    assert model.SerializeToString(deterministic=True) == before


def test_a_tensor_that_leaves_the_graph_is_not_scaled(constants):
    model = graph(NORM, constants)
    model.graph.output.append(onnx.helper.make_tensor_value_info("c", 1, None))
    assert not make_up(model, "c", np.arange(1, 9) / 4, flat_tensors(model))
    assert equal(model, picture(), INTEGER) is not None  # what is behind the norm still is


def test_flat_is_what_no_picture_s_size_changes(constants):
    flat = flat_tensors(graph(NORM, constants))
    assert {"m", "v", "r", "k", "scale", "shift", "gamma", "lambda"} <= flat
    assert not {"x", "c", "m1", "d", "z", "n", "a", "w1"} & flat

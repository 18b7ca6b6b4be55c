"""Histograms of a graph's tensors against NumPy's, and clipping on distributions whose answer is known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.ranges import (
    BINS,
    METHODS,
    SHIFTED,
    SYMMETRIC,
    Histogram,
    clipped,
    histograms,
    quantised,
    saturated,
    saturating,
    scale_and_zero,
    values_of,
)
from reference_models.errors import UserError

LEVELS = pytest.mark.parametrize("levels", [SYMMETRIC, SHIFTED], ids=["symmetric", "shifted"])
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(monkeypatch):
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(0))


def graph_of(text, **stored):
    head = f'<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,H,W] x) => (float[N,C,H2,W2] y) {{ {text} }}'
    model = onnx.parser.parse_model(head)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    return model


def nothing(what, share):
    pass


def histogram(values):
    """Of these values, as `histograms` would make it."""
    counts, edges = np.histogram(values, BINS)
    return Histogram(float(edges[0]), float(edges[-1]), counts.astype(float), np.abs(values).max(keepdims=True))


def error(values, bounds, levels):
    return float(np.mean((quantised(values, *scale_and_zero(*bounds, levels), levels) - values) ** 2))


# Histograms


def test_histograms_are_numpy_s_over_all_pictures():
    model = graph_of("a = Mul(x, f) b = LeakyRelu<alpha=0.1>(a) y = Neg(b)", f=np.float32([[[2]], [[-3]], [[0.5]]]))
    inputs = [RNG.standard_normal((1, 3, *size)).astype(np.float32) for size in ((9, 7), (4, 13), (1, 1))]
    inputs[1] *= 3
    calls = []
    found = histograms(model, ["b", "x", "y"], inputs, lambda what, share: calls.append((what, share)))
    factor = np.float32([2, -3, 0.5]).reshape(1, 3, 1, 1)
    by_hand = {"x": inputs, "b": [np.where(x * factor < 0, x * factor * np.float32(0.1), x * factor) for x in inputs]}
    by_hand["y"] = [-b for b in by_hand["b"]]
    assert list(found) == ["b", "x", "y"]
    for name, arrays in by_hand.items():
        values = np.concatenate([a.reshape(3, -1) for a in arrays], 1)
        counts, edges = np.histogram(values, BINS)
        assert (found[name].low, found[name].high) == (edges[0], edges[-1])
        assert np.array_equal(found[name].counts, counts)
        np.testing.assert_allclose(found[name].centres, (edges[1:] + edges[:-1]) / 2, atol=1e-5)
        assert np.array_equal(found[name].channel_peaks, np.abs(values).max(1))
    assert [share for _, share in calls] == sorted(share for _, share in calls)
    assert {what for what, _ in calls} == {"ranges", "histograms"}
    assert calls[0][1] == 0
    assert 0.5 < calls[-1][1] < 1


def test_a_tensor_that_an_optimiser_would_swallow_is_seen():
    model = graph_of("a = Identity(x) b = Identity(a) y = Relu(b)")
    x = RNG.standard_normal((1, 3, 4, 5)).astype(np.float32)
    assert {name: np.array_equal(value, x) for name, value in values_of(model, ["a", "b", "x"], [x])} == {
        "a": True, "b": True, "x": True,
    }  # fmt: skip


def test_the_graph_that_is_given_stays_as_it_is():
    model = graph_of("a = Relu(x) y = Neg(a)")
    before = model.SerializeToString(deterministic=True)
    histograms(model, ["a"], [np.zeros((1, 3, 2, 2), np.float32)], nothing)
    assert model.SerializeToString(deterministic=True) == before


def test_a_tensor_that_the_graph_lacks_is_refused():
    with pytest.raises(ValueError, match="no tensor 'b'"):
        histograms(graph_of("a = Relu(x) y = Neg(a)"), ["b"], [np.zeros((1, 3, 2, 2), np.float32)], nothing)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_name(value):
    x = np.ones((1, 3, 4, 4), np.float32)
    x[0, 1, 2, 3] = value
    with pytest.raises(UserError, match="tensor `a` holds values that are not finite"):
        histograms(graph_of("a = Mul(x, x) y = Relu(a)"), ["a"], [np.ones_like(x), x], nothing)


@LEVELS
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 5.0, -0.25])
def test_a_tensor_of_one_value_keeps_it(method, value, levels):
    x = np.full((1, 3, 4, 4), value, np.float32)
    found = histograms(graph_of("y = Relu(x)"), ["x"], [x], nothing)["x"]
    assert found.counts.sum() == x.size
    scale, zero = scale_and_zero(*clipped(found, levels, method), levels)
    assert quantised(np.array([value]), scale, zero, levels)[0] == pytest.approx(value, abs=scale)
    assert scale < 0.1


# Clipping


@LEVELS
@pytest.mark.parametrize("method", METHODS)
def test_uniform_values_are_not_clipped(method, levels):
    low, high = clipped(histogram(np.linspace(-2, 2, 200_000)), levels, method)
    assert low == pytest.approx(-2, abs=0.05)
    assert high == pytest.approx(2, abs=0.05)


@LEVELS
@pytest.mark.parametrize("method", METHODS)
def test_zero_is_always_between_the_bounds(method, levels):
    low, high = clipped(histogram(np.linspace(5, 6, 10_000)), levels, method)
    assert low <= 0
    assert high == pytest.approx(6, abs=0.2)
    low, high = clipped(histogram(np.linspace(-6, -5, 10_000)), levels, method)
    assert high >= 0
    assert low == pytest.approx(-6, abs=0.2)


@LEVELS
def test_a_far_outlier_is_kept_by_minmax_and_clipped_by_mse_and_percentile(levels):
    values = np.append(RNG.uniform(-1, 1, 400_000), 2.0)
    found = histogram(values)
    assert clipped(found, levels, "minmax")[1] == 2.0
    assert clipped(found, levels, "percentile")[1] == pytest.approx(1, abs=0.01)
    assert clipped(found, levels, "mse")[1] < 1.3


@LEVELS
def test_entropy_clips_long_tails_and_keeps_what_matters(levels):
    values = RNG.laplace(0, 1, 400_000)
    low, high = clipped(histogram(values), levels, "entropy")
    assert high < 0.9 * values.max()
    assert np.mean((values < low) | (values > high)) < 0.01


@LEVELS
def test_mse_is_the_best_of_a_finer_search(levels):
    """Bell-shaped values, the exact error on the values themselves, bounds tried one by one."""
    values = RNG.laplace(0, 1, 100_000)
    bounds = clipped(histogram(values), levels, "mse")
    tried = [error(values, (-peak, peak), levels) for peak in np.linspace(1, np.abs(values).max(), 200)]
    assert error(values, bounds, levels) < 1.02 * min(tried)
    assert error(values, bounds, levels) < 0.9 * error(values, clipped(histogram(values), levels, "minmax"), levels)


def test_mse_clips_each_side_for_itself_where_zero_may_be_shifted():
    values = np.concatenate([RNG.uniform(-1, 0, 400_000), RNG.uniform(0, 4, 400_000), [-2.5]])
    low, high = clipped(histogram(values), SHIFTED, "mse")
    assert low == pytest.approx(-1, abs=0.1)
    assert high == pytest.approx(4, abs=0.15)
    low, high = clipped(histogram(values), SYMMETRIC, "mse")
    assert low == -high


def test_percentile_leaves_half_of_a_ten_thousandth_on_each_side():
    values = RNG.standard_normal(2_000_000)
    low, high = clipped(histogram(values), SYMMETRIC, "percentile")
    wanted = np.quantile(values, [0.00005, 0.99995])
    assert (low, high) == pytest.approx(tuple(wanted), abs=2 * np.ptp(values) / BINS)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method 'median'; one of mse"):
        clipped(histogram(np.linspace(0, 1)), SYMMETRIC, "median")


# Steps


@LEVELS
@pytest.mark.parametrize("bounds", [(-1, 1), (0, 3.7), (-2.1, 0), (-0.3, 11.0), (-1e-20, 3e-20), (-5e4, 1e3)])
def test_zero_is_exact_and_the_bounds_are_within_a_step(bounds, levels):
    scale, zero = scale_and_zero(*bounds, levels)
    assert np.float32(scale) > 0
    assert levels.low <= zero <= levels.high
    assert zero == 0 or levels.shifted
    kept = quantised(np.array([0.0, *bounds]), scale, zero, levels)
    assert kept[0] == 0
    assert np.abs(kept[1:] - bounds).max() <= scale * 0.5000001
    used = (bounds[1] - bounds[0]) / scale
    assert used == pytest.approx(255) or not levels.shifted
    assert max(-bounds[0], bounds[1]) / scale == pytest.approx(127) or levels.shifted


@LEVELS
@pytest.mark.parametrize("width", [0.0, 1e-44])
def test_no_width_is_no_step_of_zero(width, levels):
    assert scale_and_zero(0.0, width, levels)[0] == pytest.approx(2 / 255 if levels.shifted else 1 / 127)


@LEVELS
def test_quantised_rounds_half_to_even_and_clips(levels):
    values = np.array([0.5, 1.5, -0.5, 2.51, 1e9, -1e9])
    zero = 100 if levels.shifted else 0
    assert quantised(values, 1.0, zero, levels).tolist() == [
        0, 2, 0, 3, levels.high - zero, levels.low - zero,
    ]  # fmt: skip


@LEVELS
def test_in_front_of_a_bounded_function_what_is_far_out_counts_for_its_limit(levels):
    values = np.concatenate([RNG.normal(0, 1, 50_000), RNG.uniform(-30, 40, 500)])
    found = histogram(values)
    low, high = saturated(found, levels, np.tanh)
    assert -6 < low < -2 < 2 < high < 6

    def behind(bounds):
        kept = quantised(values, *scale_and_zero(*bounds, levels), levels)
        return float(np.mean((np.tanh(kept) - np.tanh(values)) ** 2))

    assert behind((low, high)) < behind(clipped(found, levels, "minmax")) / 10
    assert behind((low, high)) < behind(clipped(found, levels, "mse")) / 3


@LEVELS
def test_in_front_of_a_bounded_function_small_values_keep_their_whole_range(levels):
    low, high = saturated(histogram(RNG.uniform(-0.4, 0.5, 10_000)), levels, np.tanh)
    assert high > 0.45
    assert low < -0.35


def test_only_what_a_bounded_function_reads_alone_is_known_as_saturating():
    model = graph_of(
        "a = Conv<pads=[1,1,1,1]>(x, w) t = Tanh(a) b = Conv<pads=[1,1,1,1]>(t, v) s = Sigmoid(b) "
        "c = Conv<pads=[1,1,1,1]>(s, v) u = Tanh(c) q = Sigmoid(c) z = Add(q, u) y = Conv<pads=[1,1,1,1]>(z, v)",
        w=np.zeros((4, 3, 3, 3), np.float32), v=np.zeros((4, 4, 3, 3), np.float32),
    )  # fmt: skip
    found = saturating(model)
    assert set(found) == {"a", "b"}
    x = np.linspace(-9, 9, 7)
    assert np.allclose(found["a"](x), np.tanh(x))
    assert np.allclose(found["b"](x), 1 / (1 + np.exp(-x)))

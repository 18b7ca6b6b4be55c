"""Channels scaled around a normalisation by the picture's own statistics: the same is computed, peaks are equal."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
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
        "n = Div(gamma, c) ",
        "n = Pow(gamma, c) ",
        "n = Pow(c, half) ",
        STATISTICS + "f = Sub(c, m) n = Mul(f, k) h = Tanh(f) ",
    ],
)
def test_nothing_is_scaled_where_something_else_would_change(constants, middle):
    model = graph(
        middle,
        {**constants, "channels": np.array([1]), "half": np.float32(0.5), "c2": np.zeros((1, 8, 24, 20), np.float32)},
    )
    before = model.SerializeToString(deterministic=True)
    assert not make_up(model, "c", np.arange(1, 9) / 4, flat_tensors(model))
    assert model.SerializeToString(deterministic=True) == before


def outputs(model, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )


DIVIDED = "m = ReduceMean(c, rows2) d = Sub(c, m) s = Pow(d, two) v = ReduceMean(s, rows2) e = Add(v, eps) q = Sqrt(e) "
REST = "a = LeakyRelu<alpha=0.2>(n) y = Conv<pads=[1,1,1,1]>(a, w2)"
FIRST = "c = Conv<pads=[1,1,1,1]>(x, w1, b1) "


def branching(read):
    """Adds the mean of what an If makes; its first branch, taken for pictures brighter than 0.3, reads a tensor."""
    return (
        "top = ReduceMax<keepdims=0>(x) b = Less(limit, top) "
        f"t = If(b) <then_branch = g1 () => (float[1,8,1,1] o1) {{ o1 = GlobalAveragePool({read}) }}, "
        "else_branch = g2 () => (float[1,8,1,1] o2) { o2 = Identity(beta) }> "
        "t1 = ReduceMean(t, channels) "
    )


@pytest.mark.parametrize(
    ("text", "scaled"),
    [
        (f"{FIRST} {NORM} {REST}", ["a", "c"]),
        (f"{FIRST} {DIVIDED} f = Div(d, q) z = Mul(f, gamma) n = Add(z, beta) {REST}", ["a", "c"]),
        (f"{FIRST} {DIVIDED} f = Div(d, q) z = Mul(f, thin) n = Add(z, thin) {REST}", ["a", "c"]),
        (f"{FIRST} z = Mul(c, thin) n = Add(z, beta) {REST}", ["a", "c"]),
        (f"{FIRST} g = ReduceSum(c, rows2) t = Sigmoid(g) n = Mul(t, c) {REST}", ["c"]),
        (f"{FIRST} n = Add(c, c) {REST}", []),
        (f"{FIRST} k = Mul(c, gamma) k2 = Mul(k, k) n = Add(k2, beta) {REST}", ["c"]),
        (f"{FIRST} {STATISTICS} f = Add(c, c) h = Sub(f, c) n = Mul(h, k) {REST}", ["c"]),
        (f"{FIRST} r = Clip(c, lambda, two) n = Mul(r, gamma) {REST}", []),
        # Each of these has a reader more, or something that is not its own.
        (f"{FIRST} {NORM} {REST} other = ReduceMean(z, rows2)", ["c"]),
        (f"{FIRST} {NORM} {REST} other = ReduceMean(n, rows2)", ["c"]),
        (f"{FIRST} {NORM} {REST} other = ReduceMean(a, rows2)", ["c"]),
        (f"{FIRST} {NORM} {REST} other = Identity(w2)", ["c"]),
        (f"{FIRST} {NORM} {REST} other = Identity(w1)", ["a"]),
        (f"{FIRST} {NORM} {REST} other = Identity(b1)", ["a"]),
        (f"{FIRST} {NORM} {REST} other = ReduceMean(c, channels)", ["a"]),
        (f"{FIRST} {NORM} {REST} other = ReduceMean(c, all)", ["a"]),
        (f"{FIRST} {NORM} {REST} other = ReduceMean<keepdims=0>(c, rows2)", ["a"]),
        (f"{FIRST} {NORM} {REST} other = Identity(c)", ["a"]),
        (f"k0 = Tanh(b1) c = Conv<pads=[1,1,1,1]>(x, w1, k0) {NORM} {REST}", ["a"]),
        (f"x6 = Concat<axis=1>(x, x) {FIRST.replace('(x, w1', '<group=2>(x6, w1')} {NORM} {REST}".replace(
            "Conv<pads=[1,1,1,1]><group=2>", "Conv<pads=[1,1,1,1], group=2>"), ["a"]),
        (f"{FIRST} {NORM} a = LeakyRelu<alpha=0.2>(n) y = Conv<pads=[1,1,1,1], group=4>(a, w4)", ["c"]),
        (f"{FIRST} {NORM} {branching('c')} {REST} other = Add(t1, lambda)", ["a"]),
        (f"{FIRST} {NORM} {branching('a')} {REST} other = Add(t1, lambda)", ["c"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", [INPUTS, INTEGER], ids=["inputs", "integer"])
def test_every_output_is_the_same_and_what_can_be_scaled_is(constants, text, scaled, scheme):
    rng = np.random.default_rng(9)
    more = {
        "b1": rng.standard_normal(8), "rows2": np.array([2, 3]), "two": np.float32(2), "limit": np.float32(0.3),
        "channels": np.array([1]), "all": np.array([1, 2, 3]), "thin": rng.uniform(1, 2, (8, 1, 1)),
        "w4": rng.standard_normal((4, 2, 3, 3)),
    }  # fmt: skip
    end = ", float[N2,C3,H3,W3] other" if "other =" in text else ""
    if "other = Identity(w" in text or "other = Identity(b1)" in text or "keepdims=0" in text.partition("other")[2]:
        end = ", float other"
    head = '<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,H,W] x) => (float[N,C2,H2,W2] y'
    model = onnx.parser.parse_model(f"{head}{end}) {{ {text} }}")
    if end:
        model.graph.output[1].type.tensor_type.ClearField("shape")
    for name, value in {**constants, **more}.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    named_nodes(model)
    x = picture()
    made = equal(model, x, scheme)
    wanted = [name for name in scaled if name == "a" or scheme is INTEGER]
    assert (made is not None) == bool(wanted)
    if made is None:
        return
    for one in (x, picture() / 4, 1 - picture()):
        for got, expected in zip(outputs(made, one), outputs(model, one), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    after = peaks_of(made, x, scheme)
    for name in set(after) & {"a", "c"}:
        if name in wanted:
            np.testing.assert_allclose(after[name], after[name].mean(), rtol=2e-3)
        else:
            assert after[name].max() > 1.5 * after[name].min()


@pytest.mark.parametrize("text", [
    "u = Unsqueeze(x, where) c = Conv(u, v1) h = Tanh(c) z = Mul(h, k) n = Add(z, k) a = Relu(n) y = Conv(a, v2)",
    "u = ReduceMean<keepdims=0>(x, where) c = Conv(u, u1) h = Tanh(c) z = Mul(h, k) n = Add(z, k) a = Relu(n) "
    "y = Conv(a, u2)",
])  # fmt: skip
def test_convolutions_of_one_and_three_axes_are_left_alone(text):
    rng = np.random.default_rng(3)
    head = '<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,H,W] x) => (float y)'
    model = onnx.parser.parse_model(f"{head} {{ {text} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    stored = {
        "where": np.array([2]), "k": np.float32(0.3), "v1": rng.standard_normal((8, 3, 1, 3, 3)).astype(np.float32),
        "v2": rng.standard_normal((3, 8, 1, 3, 3)).astype(np.float32),
        "u1": rng.standard_normal((8, 3, 3)).astype(np.float32),
        "u2": rng.standard_normal((3, 8, 3)).astype(np.float32),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    named_nodes(model)
    for scheme in (INPUTS, INTEGER):
        assert equal(model, picture(), scheme) is None


def test_a_channel_that_is_all_but_dead_stays_within_half_precision(constants):
    for name in ("gamma", "beta"):
        constants[name] = constants[name] * np.float32([1, 1, 1, 1e-7, 1, 1, 1, 0]).reshape(1, 8, 1, 1)
    model, x = (
        graph(NORM.replace("Mul(c, scale)", "Mul(d, k)").replace("Add(z, shift)", "Add(z, beta)"), constants),
        picture(),
    )
    made = equal(model, x, INPUTS)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-4)
    values = [numpy_helper.to_array(i) for i in made.graph.initializer if i.data_type == onnx.TensorProto.FLOAT]
    assert max(np.abs(value).max() for value in values) < 65504


def test_a_tensor_that_leaves_the_graph_is_not_scaled(constants):
    model, x = graph(NORM, constants), picture()
    model.graph.output.append(onnx.helper.make_tensor_value_info("c", 1, None))
    assert not make_up(model, "c", np.arange(1, 9) / 4, flat_tensors(model))
    made = equal(model, x, INTEGER)
    for got, expected in zip(outputs(made, x), outputs(model, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_flat_is_what_no_picture_s_size_changes(constants):
    flat = flat_tensors(graph(NORM, constants))
    assert {"m", "v", "r", "k", "scale", "shift", "gamma", "lambda"} <= flat
    assert not {"x", "c", "m1", "d", "z", "n", "a", "w1"} & flat

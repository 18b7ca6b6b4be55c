"""Equalised channels compute the same, and their peaks are equal."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from export.qdq import Scheme, layers, named_nodes, tensors, with_qdq
from export.ranges import clipped, histograms, scale_and_zero
from export.recovery import equalised
from export.rounding import scales_of

RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(monkeypatch):
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(2))


INPUTS, INTEGER = Scheme(), Scheme("integer", shifted=True)


def weight(*shape, spread=0.0):
    """Random, its outputs of unlike size where `spread` is more than 0."""
    sizes = np.exp(spread * RNG.standard_normal(shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    return (sizes * RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def graph_of(text, **stored):
    head = f'<ir_version: 10, opset_import: ["" : 20]> g (float[1,3,H,W] x) => (float[N,C,H2,W2] y) {{ {text} }}'
    model = onnx.parser.parse_model(head)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items())
    return named_nodes(model)


def picture(height=24, width=20):
    return RNG.uniform(0, 1, (1, 3, height, width)).astype(np.float32)


def nothing(what, share):
    pass


def run(model, x, level="ORT_DISABLE_ALL"):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def decibels(got, wanted):
    return -10 * np.log10(np.mean((got.astype(np.float64) - wanted) ** 2))


def stored(model):
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


# Equalisation


def peaks_of(model, x, scheme=INPUTS):
    names = tensors(model, scheme, layers(model, scheme))
    return {name: histogram.channel_peaks for name, histogram in histograms(model, names, [x], nothing).items()}


def equal(model, x):
    return equalised(model, layers(model, INPUTS), peaks_of(model, x))


def chain(activation, spread=1.5, between="", **more):
    reads = "b" if between else "a"
    made = f" b = {between}" if between else ""
    return graph_of(
        f"c = Conv<pads=[1,1,1,1]>(x, w1, b1) a = {activation}{made} y = Conv<pads=[1,1,1,1]>({reads}, w2, b2)",
        w1=weight(8, 3, 3, 3, spread=spread), b1=2 + weight(8, 1).ravel(), w2=weight(3, 8, 3, 3),
        b2=weight(3, 1).ravel(), **more,
    )  # fmt: skip


@pytest.mark.parametrize("activation", ["LeakyRelu<alpha=0.2>(c)", "Relu(c)", "PRelu(c, slope)", "Identity(c)"])
def test_equalised_computes_the_same_and_channels_peak_alike(activation):
    model, x = chain(activation, slope=RNG.uniform(-0.5, 0.5, (8, 1, 1)).astype(np.float32)), picture()
    if activation.startswith("Identity"):
        model = graph_of("a = Conv(x, w1) y = Conv(a, w2)", w1=weight(8, 3, 3, 3, spread=1.5), w2=weight(3, 8, 3, 3))
    before = peaks_of(model, x)["a"]
    made = equal(model, x)
    after = peaks_of(made, x)["a"]
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=1e-5, atol=1e-5)
    assert before.max() > 4 * before.min()
    np.testing.assert_allclose(after, after.mean(), rtol=1e-4)
    assert after.mean() == pytest.approx(np.exp(np.log(before).mean()), rel=1e-4)


def test_where_a_convolution_s_own_output_is_quantised_that_is_equalised():
    model, x = chain("LeakyRelu<alpha=0.1>(c)"), picture()
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.float32([-3, 3] * 4), "b1"))
    found = layers(model, INTEGER)
    made = equalised(model, found, peaks_of(model, x, INTEGER))
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=1e-5, atol=1e-5)
    after = peaks_of(made, x, INTEGER)
    np.testing.assert_allclose(after["c"], after["c"].mean(), rtol=1e-4)
    assert after["a"].max() > 2 * after["a"].min()


def test_a_row_of_convolutions_is_equalised_throughout():
    model = graph_of(
        "c = Conv(x, w1) a = LeakyRelu(c) d = Conv(a, w2) b = LeakyRelu(d) y = Conv(b, w3)",
        w1=weight(6, 3, 3, 3, spread=1), w2=weight(7, 6, 3, 3, spread=1), w3=weight(3, 7, 3, 3),
    )  # fmt: skip
    x = picture()
    made = equal(model, x)
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=1e-5, atol=1e-5)
    for name in ("a", "b"):
        peaks = peaks_of(made, x)[name]
        np.testing.assert_allclose(peaks, peaks.mean(), rtol=1e-3)


def test_channels_that_are_always_zero_stay_as_they_are():
    model, x = chain("Relu(c)"), picture()
    low = stored(model)["b1"].copy()
    low[[2, 5]] = -100
    next(i for i in model.graph.initializer if i.name == "b1").CopyFrom(numpy_helper.from_array(low, "b1"))
    made = equal(model, x)
    for name, axis in (("w1", 0), ("b1", 0), ("w2", 1)):
        old, new = (np.moveaxis(stored(m)[name], axis, 0) for m in (model, made))
        assert np.array_equal(old[[2, 5]], new[[2, 5]])
        assert not np.allclose(old[[0, 1]], new[[0, 1]])
    np.testing.assert_allclose(run(made, x), run(model, x), rtol=1e-5, atol=1e-5)


def test_the_model_that_is_given_stays_as_it_is():
    model, x = chain("Relu(c)"), picture()
    before = model.SerializeToString(deterministic=True)
    equal(model, x)
    assert model.SerializeToString(deterministic=True) == before


def quantised(model, scheme, xs):
    """Ranges by minimum and maximum, weights rounded to nearest."""
    chosen = layers(model, scheme)
    found = histograms(model, tensors(model, scheme, chosen), xs, nothing)
    activations = {
        name: scale_and_zero(*clipped(histogram, scheme.levels, "minmax"), scheme.levels)
        for name, histogram in found.items()
    }
    return with_qdq(model, scheme, chosen, activations, scales_of(stored(model), chosen, 127.0, False))


def test_equalised_is_nearer_where_channels_differ():
    """Each channel is made as much larger as it counts less."""
    model, x = chain("Relu(c)", spread=0), picture()
    for name, sizes in (("w1", (-1, 1, 1, 1)), ("b1", (-1,)), ("w2", (1, -1, 1, 1))):
        tensor = next(i for i in model.graph.initializer if i.name == name)
        factor = (np.logspace(-1.5, 1.5, 8) ** (1 if name != "w2" else -1)).reshape(sizes)
        tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * factor).astype(np.float32), name))
    wanted = run(model, x)
    assert decibels(run(quantised(equal(model, x), INPUTS, [x]), x), wanted) > (
        decibels(run(quantised(model, INPUTS, [x]), x), wanted) + 3
    )


TWO = "c = Conv<pads=[1,1,1,1]>(x, w1) a = Relu(c) d = Conv<pads=[1,1,1,1]>(a, w2)"


@pytest.mark.parametrize(
    "text",
    [
        "y = Conv(x, w1)",
        "c = Conv(x, w1) a = Tanh(c) y = Conv(a, w2)",
        "c = Conv(x, w1) a = Clip(c) y = Conv(a, w2)",
        f"{TWO} y = Add(d, a)",
        f"{TWO} y = Add(d, c)",
        "c = Conv<pads=[1,1,1,1]>(x, w1) s = Add(c, b) y = Conv(s, w2)",
        "c = Conv(x, w2) a = Relu(c) y = Conv(a, w2)",
        "c = Conv(x, w1, b1) a = Relu(c) d = Conv(a, w2) e = Reshape(b1, one) y = Add(d, e)",
        "c = Conv(x, w1, k) k2 = Tanh(b) a = Relu(c) y = Conv(a, w2)".replace("k2 = Tanh(b) ", "").replace(
            "c = Conv(x, w1, k)", "k = Tanh(b1) c = Conv(x, w1, k)"
        ),
        "c = Conv(x, w1) a = Relu(c) y = Conv<group=3>(a, g)",
        "c = Conv<group=3>(x, g) a = Relu(c) y = Conv(a, w2)",
    ],
)
def test_nothing_is_equalised_where_something_else_would_change(text):
    model = graph_of(
        text, w1=weight(3, 3, 3, 3), w2=weight(3, 3, 3, 3), b1=weight(3, 1).ravel(), b=weight(3, 1, 1),
        g=weight(3, 1, 1, 1), one=np.array([1, 3, 1, 1]),
    )  # fmt: skip
    assert equal(model, picture()) is None


def test_a_tensor_that_leaves_the_graph_is_not_equalised():
    model = graph_of("y = Conv(x, w1) z = Conv(y, w2)", w1=weight(3, 3, 3, 3), w2=weight(3, 3, 3, 3))
    assert equal(model, picture()) is None

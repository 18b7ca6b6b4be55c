"""One graph quantised in several ways: what is tried, what is kept in float, and how it is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import reference_models
from export import qdq
from export.calibration import calibration_inputs
from export.quantiser import Quantiser, original_graph, worst_psnr_db
from export.recipe import Recipe
from export.to_onnx import ExportRequest, export_network
from reference_models.errors import UserError


def smooth(height=40, width=56, seed=0):
    """uint8 (H, W, 3): waves and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 3, height)[:, None], np.linspace(0, 5, width)
    waves = np.stack([np.sin((i + 1) * y + seed) * np.cos((3 - i) * x) for i in range(3)], 2)
    return np.clip(128 + 70 * waves + rng.uniform(-30, 30, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def espcn(cache):
    """(folded FP32 model, spec, inputs) of espcn_x3."""
    spec = reference_models.get("espcn_x3")
    network = export_network(ExportRequest(spec, None, None, ()), cache)
    return original_graph(network, "int8"), spec, calibration_inputs((smooth(), smooth(33, 31, 1)), spec)


def nothing(what, share):
    pass


def test_recovery_none_tries_one_thing(espcn):
    model, spec, inputs = espcn
    tried = {
        kind: [a.title for a in Quantiser(model, spec, Recipe("int8", recovery=kind), inputs).attempts(nothing)]
        for kind in ("none", "fast")
    }
    assert tried == {"none": ["rounded to nearest"], "fast": ["rounded to nearest", "errors cancelled"]}


def test_psnr_is_of_the_worst_picture_in_units_of_the_output_s_range(espcn):
    spec = espcn[1]
    zeros, tenth = np.zeros((1, 1, 4, 4), np.float32), np.full((1, 1, 4, 4), 0.1, np.float32)
    assert worst_psnr_db([tenth, zeros], [zeros, zeros], spec) == pytest.approx(20, abs=1e-4)
    assert worst_psnr_db([zeros], [zeros], spec) == 200
    wide = replace(spec, output_range=(-1.0, 1.0))
    assert worst_psnr_db([tenth], [zeros], wide) == pytest.approx(26.02, abs=0.01)


def test_layers_that_are_kept_are_float_and_shares_are_counted(espcn):
    """ESPCN x3: 5x5 to 64, 3x3 to 32, 3x3 to 9; multiply-accumulates per pixel."""
    model, spec, inputs = espcn
    macs = np.array([25 * 64, 64 * 9 * 32, 32 * 9 * 9])
    names = [layer.name for layer in Quantiser(model, spec, Recipe("int8"), inputs).layers]
    for precision_name, rest in (("int8", "fp32"), ("int8+fp16", "fp16"), ("fp8", "fp32")):
        recipe = Recipe(precision_name, recovery="none", kept=(names[0], names[2]))
        quantiser = Quantiser(model, spec, recipe, inputs)
        (attempt,) = quantiser.attempts(nothing)
        facts = quantiser.facts([attempt], attempt)
        assert list(facts["layers"].values()) == [rest, precision_name.split("+")[0], rest]
        assert facts["low_mac_share"] == pytest.approx(macs[1] / macs.sum())
        quantised = {n.input[0] for n in attempt.model.graph.node if n.op_type == "QuantizeLinear"}
        assert len(quantised) == 2
        assert quantiser.low_mac_share(()) == 1


@pytest.mark.parametrize("recovery", ["none", "fast"])
def test_weights_of_7_bits_keep_within_64_levels_of_either_sign(espcn, recovery):
    model, spec, inputs = espcn
    reached = {}
    for bits in (7, 8):
        quantiser = Quantiser(model, spec, Recipe("int8", "integer", True, recovery=recovery, weight_bits=bits), inputs)
        attempt = quantiser.attempts(nothing)[-1]
        stored = qdq.folded_weights(attempt.model).graph.initializer
        levels = [a for i in stored if (a := numpy_helper.to_array(i)).dtype == np.int8 and a.ndim == 4]
        assert [np.abs(a.astype(int)).max() for a in levels] == [{7: 64, 8: 127}[bits]] * 3
        assert ("7 bits" in quantiser.facts([attempt], attempt)["scheme"]) is (bits == 7)
        reached[bits] = attempt.psnr_db
    assert reached[8] - 12 < reached[7] < reached[8]


# Weights with several readers

KINDS = """<ir_version: 10, opset_import: ["" : 20]> g (float[1,4,H,W] x) => (float[1,4,H,W] y) {
    a = Conv(x, w) b = Relu(a) c = Conv(b, w) d = Relu(c) y = ConvTranspose(d, w) }"""


def twins(text, **recipe):
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    weight = random.standard_normal((4, 4, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model = qdq.named_nodes(model)
    inputs = [random.random((1, 4, 12, 9), np.float32) for _ in range(2)]
    return Quantiser(model, reference_models.get("can32_no_norm"), Recipe("int8", **recipe), inputs)


def test_readers_of_one_weight_have_names_of_their_own_and_one_scale_where_their_axes_differ():
    found = twins(KINDS)
    assert [(layer.name, layer.operator, layer.axis) for layer in found.layers] == [
        ("w", "Conv", None), ("w/2", "Conv", None), ("w/3", "ConvTranspose", None),
    ]  # fmt: skip
    alike = twins(KINDS.replace("ConvTranspose", "Conv"))
    assert [layer.axis for layer in alike.layers] == [0, 0, 0]
    for quantiser in (found, alike):
        tried = quantiser.attempts(nothing)
        assert all(attempt.psnr_db > 25 for attempt in tried), [attempt.psnr_db for attempt in tried]
        best = max(tried, key=lambda attempt: attempt.psnr_db)
        assert [attempt for attempt in tried if attempt.model is not None] == [best]
        onnx.checker.check_model(qdq.folded_weights(best.model), full_check=True)


def test_each_reader_of_one_weight_can_be_quantised_alone_and_does_harm():
    quantiser = twins(KINDS.replace("ConvTranspose", "Conv"))
    base = quantiser.attempts(nothing)[-1].base
    alone = [
        quantiser.attempt(base, [other.name for other in quantiser.layers if other is not layer]).psnr_db
        for layer in quantiser.layers
    ]
    assert all(20 < psnr_db < 100 for psnr_db in alone)
    facts = quantiser.facts([], None)
    assert len(facts["layers"]) == len(set(facts["nodes"].values())) == 3


# What is calibrated on


def test_further_pictures_widen_ranges_and_do_not_judge(espcn):
    model, spec, inputs = espcn
    recipe = Recipe("int8", recovery="none", clipping="minmax")
    dark = [x / 4 for x in inputs]
    narrow, wide = (Quantiser(model, spec, recipe, dark, further) for further in ((), inputs))
    (small,), (large,) = narrow.attempts(nothing), wide.attempts(nothing)
    inner = narrow.layers[1].data
    assert large.base.activations[inner][0] > 1.5 * small.base.activations[inner][0]
    assert large.psnr_db < small.psnr_db  # dark pictures alone: steps for bright ones are coarser there


def test_a_network_that_makes_no_numbers_is_refused(espcn):
    model, spec, inputs = espcn
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    for tensor in broken.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    with pytest.raises(UserError, match="holds values that are not finite"):
        Quantiser(broken, spec, Recipe("int8"), inputs).attempts(nothing)


def test_ranges_in_front_of_tanh_are_judged_behind_it_where_loss_is_fought(espcn):
    """Weights twenty times as large drive many values far into tanh's limits, as trained ones do some."""
    original, spec, inputs = espcn
    model = onnx.ModelProto()
    model.CopyFrom(original)
    for constant in model.graph.initializer:
        if constant.name in {"conv1.weight", "conv2.weight"}:
            constant.CopyFrom(numpy_helper.from_array(20 * numpy_helper.to_array(constant), constant.name))

    def last(**choices):
        quantiser = Quantiser(model, spec, Recipe("int8", placement="integer", shifted=True, **choices), inputs)
        tried = quantiser.attempts(nothing)
        return tried[-1], quantiser.facts(tried, tried[-1])["judged_behind_bounded"]

    attempt, behind = last()
    assert len(behind) == 2
    assert last(clipping="best")[1] == behind
    for choices in ({"clipping": "mse"}, {"recovery": "none"}):
        assert last(**choices)[1] == []
    plain, _ = last(recovery="none")
    for name in behind:
        assert attempt.base.activations[name][0] < 0.8 * plain.base.activations[name][0]

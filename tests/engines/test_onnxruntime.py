"""onnxruntime: what a session is built with, and that outputs land in bound memory."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import onnxruntime as ort
import pytest

import engines
from engines import installed
from engines.engine import LayerTime, Options
from engines.onnxruntime import ENGINE, _runs
from engines.thumbnail import load_network
from export.processor import exact_weight_bits
from export.recipe import Recipe
from reference_models.errors import UserError


@pytest.fixture
def built(monkeypatch):
    """What every session was built with: (options, providers), in order; none is built."""
    found = []

    class Session:
        def __init__(self, model, options, providers):
            found.append((options, providers))
            self.providers = [p if isinstance(p, str) else p[0] for p in providers]

        def get_providers(self):
            return self.providers

    monkeypatch.setattr(ort, "InferenceSession", Session)
    return found


def load(networks, device="cpu", precision="fp32", threads=1, **settings):
    return ENGINE._load(
        networks["frozen"].main, Options(device, precision, threads, ENGINE.complete_settings(settings))
    )


def test_threads_and_defaults_reach_the_session(networks, built):
    load(networks, threads=3)
    options, providers = built[0]
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 1
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert providers == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("value", "level"),
    [("extended", "ORT_ENABLE_EXTENDED"), ("basic", "ORT_ENABLE_BASIC"), ("off", "ORT_DISABLE_ALL")],
)
def test_the_graph_setting_is_the_optimisation_level(networks, built, value, level):
    load(networks, graph=value)
    assert built[0][0].graph_optimization_level == getattr(ort.GraphOptimizationLevel, level)


@pytest.mark.parametrize(
    ("setting", "value", "entry"),
    [("denormals", "keep", "session.set_denormal_as_zero"), ("spin", "off", "session.intra_op.allow_spinning")],
)
def test_a_setting_reaches_the_session(networks, built, setting, value, entry):
    load(networks, **{setting: value})
    assert built[0][0].get_session_config_entry(entry) == "0"


def test_every_graph_level_gives_the_same_numbers(networks, expected, picture):
    x = picture(20, 30)
    for level in ("all", "extended", "basic", "off"):
        with load(networks, graph=level) as session:
            assert np.abs(session.run({"x": x})["y"] - expected("frozen", x)).max() < 1e-4


def test_outputs_land_in_one_buffer_for_as_long_as_an_input_is_bound(networks, picture):
    with load(networks) as session:
        session.bind(picture(12, 20))
        places = set()
        for _ in range(3):
            session.enqueue()
            places.add(session._read().ctypes.data)
        assert len(places) == 1
        assert session._read().any()


def test_a_graph_whose_output_is_no_picture_is_read_too(networks, picture):
    with ENGINE.load(networks["thumbnail"].thumbnail, Options(settings=ENGINE.complete_settings({}))) as session:
        assert session.run({"x": picture(20, 30)})["y"].shape == (8, 2, 24)


def test_an_input_is_bound_without_a_copy(networks, picture):
    x = picture(12, 20)
    with load(networks) as session:
        before = session.run({"x": x})["y"]
        x *= 0.5
        session.enqueue()
        assert np.abs(session.read() - before).max() > 1e-2


def test_refit_refuses_a_name_that_the_file_does_not_have(networks):
    options = Options(settings=ENGINE.complete_settings({}), refittable=("nowhere",))
    with (
        ENGINE.load(networks["frozen"].main, options) as session,
        pytest.raises(ValueError, match="no initializer 'nowhere'"),
    ):
        session.refit({"nowhere": np.zeros(1, np.float32)})


def test_a_build_without_cuda_says_so(monkeypatch):
    monkeypatch.setattr(installed, "cuda_device_count", lambda: 1)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert ENGINE.device_missing("cuda:0") == "this build of ONNX Runtime has no CUDA provider"
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert ENGINE.device_missing("cuda:0") is None
    assert "does not exist" in ENGINE.device_missing("cuda:1")
    monkeypatch.setattr(ort, "InferenceSession", object)  # of an older release
    assert "does not tell where it placed nodes" in ENGINE.device_missing("cuda:0")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda m, *a: None if m == "cuda" else find(m, *a))
    assert ENGINE.device_missing("cuda:0") == "Python package `cuda-python` is not installed"
    assert ENGINE.device_missing("cpu") is None


@pytest.mark.parametrize("word", ["capture=on", "l2=flushed", "host_memory=pageable"])
def test_what_only_a_gpu_has_is_refused_on_the_cpu(networks, word):
    name, _, value = word.partition("=")
    with pytest.raises(UserError, match=f"`onnxruntime:{word}`: on the CPU there is none"):
        ENGINE.load(networks["frozen"].main, Options(settings={name: value}))
    ENGINE.check_settings("cuda:0", ENGINE.complete_settings({name: value}))


def test_a_device_that_is_not_there_is_no_reason_to_use_the_cpu(networks, monkeypatch):
    monkeypatch.setattr(installed, "cuda_device_count", lambda: 0)
    with pytest.raises(UserError, match="engine `onnxruntime`: device `cuda:0` does not exist"):
        ENGINE.load(networks["frozen"].main, Options("cuda:0", settings=ENGINE.complete_settings({})))


def test_the_version_names_the_wheel():
    assert ENGINE.version() in {f"onnxruntime-gpu {ort.__version__}", f"onnxruntime {ort.__version__}"}


@pytest.mark.gpu
@pytest.mark.parametrize("statistics", ["image", "frozen", "thumbnail"])
def test_cuda_in_fp32_is_as_exact_as_the_cpu(cuda, networks, expected, picture, statistics):
    if reason := ENGINE.device_missing(cuda):
        pytest.skip(reason)
    x = picture(64, 96)
    options = Options(cuda, settings=ENGINE.complete_settings({}))
    with load_network(engines.get("onnxruntime"), networks[statistics], options) as session:
        wanted = expected(statistics, x)
        assert np.abs(session.run({"x": x})["y"] - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())


# Quantised graphs


def quantised(networks, cache, placement, statistics="frozen", **more):
    """can24 with random weights in int8, calibrated on one small picture."""
    from export.precision import LoweringRequest, lowered_network
    from reference_models import get

    bits = exact_weight_bits()
    recipe = Recipe("int8", placement, True, "minmax", "none", weight_bits=bits, **more)
    picture = np.random.default_rng(1).integers(0, 256, (40, 48, 3), np.uint8)
    return lowered_network(LoweringRequest(networks[statistics], get("can24"), recipe, [picture]), cache)


def types_of(network, **settings):
    """Layer → type."""
    said = ENGINE.layer_types(network.main, Options("cpu", "int8", 1, ENGINE.complete_settings(settings)))
    said = {re.sub(r"_token_\d+$", "", name): kind for name, kind in said.items()}
    return {layer: said.get(node) for layer, node in network.lowering["nodes"].items()}


def test_the_recipe_is_the_placement_that_its_integer_kernels_want():
    assert ENGINE.recipe("cpu", "int8") == Recipe("int8", "integer", shifted=True, weight_bits=exact_weight_bits())
    assert ENGINE.recipe("cuda:0", "fp16") == Recipe("fp16")
    assert ENGINE.recipe("cpu", "fp32") is ENGINE.recipe("cuda:0", "tf32") is None


@pytest.mark.parametrize("statistics", ["image", "frozen"])
def test_the_optimised_graph_says_which_layers_are_integer(networks, cache, statistics):
    """One in float too, which loses its name to another layout and to the activation that it takes in."""
    found = types_of(quantised(networks, cache, "integer", statistics, kept=("convs.3",)))
    assert found == {**{f"convs.{n}": "int8" for n in range(8)}, "convs.3": "fp32", "last": "int8"}


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_the_bits_that_the_processor_multiplies_exactly(bits, monkeypatch):
    monkeypatch.setattr("engines.onnxruntime.exact_weight_bits", lambda: bits)
    assert [ENGINE.recipe("cpu", precision).weight_bits for precision in ("int8", "auto")] == [bits, bits]


def test_pairs_on_inputs_alone_stay_in_float_here_and_that_is_seen(networks, cache):
    assert set(types_of(quantised(networks, cache, "inputs")).values()) == {"fp32"}


def test_types_are_those_of_the_session_that_is_measured_not_of_another_setting(networks, cache):
    """Without optimisation nothing is merged into integer kernels."""
    network = quantised(networks, cache, "integer")
    assert set(types_of(network, graph="off").values()) == {"fp32"}
    for level in ("all", "extended"):
        assert set(types_of(network, graph=level).values()) == {"int8"}


def test_on_cuda_nothing_is_said(networks):
    assert ENGINE.layer_types(networks["frozen"].main, Options("cuda:0", settings=ENGINE.complete_settings({}))) is None


def test_an_integer_session_computes_what_the_graph_says(networks, cache, expected, picture):
    x = picture(40, 48)
    network = quantised(networks, cache, "integer")
    with ENGINE.load(network.main, Options("cpu", "int8", 1, ENGINE.complete_settings({}))) as session:
        error = session.run({"x": x})["y"] - expected("frozen", x)
    assert 1e-4 < np.sqrt(np.mean(error**2)) < 0.1 * np.std(expected("frozen", x)) + 0.1


# Times of layers


def test_every_node_has_a_time_and_quantised_ones_their_integer_kernels(networks, cache, picture):
    options, x = Options("cpu", "int8"), picture(40, 48)
    told = ENGINE.layer_times(quantised(networks, cache, "integer").main, options, x)
    kinds = [node.kind for node in told]
    assert kinds.count("QLinearConv") == 9
    assert kinds.count("QLinearLeakyRelu") == 8
    assert (kinds[0], kinds[-1]) == ("QuantizeLinear", "DequantizeLinear")
    assert all(node.ms >= 0 for node in told)
    assert sum(node.ms for node in told) > 0
    floats = ENGINE.layer_times(networks["frozen"].main, Options(), x)
    assert [node.kind for node in floats].count("Conv") == 9
    assert "QuantizeLinear" not in {node.kind for node in floats}


def test_the_profiled_session_is_made_with_the_options_of_the_timed_one(networks, built):
    with pytest.raises(AttributeError):  # what stands in for a session computes nothing
        ENGINE.layer_times(
            networks["frozen"].main, Options(threads=2, settings={"spin": "off"}), np.ones((1, 3, 8, 8), "f4")
        )
    load(networks, threads=2, spin="off")
    (profiled, _), (timed, _) = built
    assert profiled.enable_profiling
    assert not timed.enable_profiling
    for entry in ("session.set_denormal_as_zero", "session.intra_op.allow_spinning"):
        assert profiled.get_session_config_entry(entry) == timed.get_session_config_entry(entry)
    for name in ("intra_op_num_threads", "inter_op_num_threads", "graph_optimization_level"):
        assert getattr(profiled, name) == getattr(timed, name)


def test_on_cuda_no_times_are_told(networks, picture):
    assert ENGINE.tells_layer_times == ("cpu",)
    assert ENGINE.layer_times(networks["frozen"].main, Options("cuda:0"), picture(8, 9)) is None


def event(name, start, us, kind="Conv", category="Node"):
    return {"cat": category, "name": name, "ts": start, "dur": us, "args": {"op_name": kind}}


def test_a_profile_is_read_run_by_run_without_what_is_inside_of_another_node():
    events = [
        event("model_loading_uri", 0, 50, category="Session"),
        event("a_kernel_time", 100, 1000),
        event("inner_kernel_time", 1200, 300),
        event("branch_kernel_time", 1150, 400, "If"),
        event("SequentialExecutor::Execute", 95, 1500, category="Session"),
        event("model_run", 90, 1520, category="Session"),
        event("a_kernel_time", 2000, 900),
        event("branch_kernel_time", 2950, 0, "If"),
        event("model_run", 1990, 1000, category="Session"),
    ]
    assert _runs(events) == [
        [LayerTime("a", "Conv", 1.0), LayerTime("branch", "If", 0.4)],
        [LayerTime("a", "Conv", 0.9), LayerTime("branch", "If", 0.0)],
    ]


def test_as_many_runs_are_profiled_as_are_asked_for_after_the_warm_up(networks, picture, monkeypatch):
    seen = []
    monkeypatch.setattr("engines.onnxruntime.medians_of", lambda runs: seen.append(len(runs)))
    ENGINE.layer_times(networks["frozen"].main, Options(), picture(8, 9), 4)
    assert seen == [4]


def test_a_graph_on_pictures_takes_and_gives_bytes(networks, cache):
    from export.picture_graph import picture_network
    from reference_models import get
    from reference_models.colour import picture_from_tensor, tensor_from_picture

    spec, network = get("can24"), networks["image"]
    options = Options(settings=ENGINE.complete_settings({"ends": "picture"}))
    inside = ENGINE.load(picture_network(network, spec, cache).main, options)
    with inside, ENGINE.load(network.main, options) as outside:
        for seed, size in enumerate(((12, 20), (9, 14))):
            seen = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
            y = outside.run({"x": tensor_from_picture(seen, spec)})["y"]
            np.testing.assert_array_equal(inside.run({"picture": seen})["result"], picture_from_tensor(y, spec, seen))
        assert "uint8" in inside.contract["ends"]
        assert "ends" not in outside.contract
        with pytest.raises(UserError, match=r"inputs: got 'x'\. Expected 'picture'"):
            inside.run({"x": seen})

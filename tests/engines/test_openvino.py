"""openvino: what a model is compiled with, when it is compiled again, and weights as inputs."""

from __future__ import annotations

import numpy as np
import pytest

from engines.engine import Options
from engines.openvino import ENGINE, OpenVinoSession
from export.network import Graph, Network, file_sha256
from export.processor import exact_weight_bits
from export.recipe import Recipe

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'fullres[openvino]'")


def load(graph, precision="fp32", threads=1, refittable=(), **settings):
    return ENGINE.load(graph, Options("cpu", precision, threads, ENGINE.complete_settings(settings), refittable))


def compiled_with(session, name):
    return session._request.get_compiled_model().get_property(name)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", openvino.Type.f32), ("bf16", openvino.Type.bf16)])
def test_the_precision_is_the_one_asked_for(networks, picture, precision, dtype):
    if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16 instructions")
    with load(networks["image"].main, precision) as session:
        session.bind(picture(8, 9))
        assert compiled_with(session, "INFERENCE_PRECISION_HINT") == dtype


def test_threads_and_one_stream(networks, picture):
    for threads in (1, 2):
        with load(networks["frozen"].main, threads=threads) as session:
            session.bind(picture(8, 9))
            assert compiled_with(session, "INFERENCE_NUM_THREADS") == threads
            assert compiled_with(session, "NUM_STREAMS") == 1
            assert session.contract["threads"] == threads


@pytest.mark.parametrize(
    ("setting", "entry"),
    [
        ({"pinning": "on"}, {"ENABLE_CPU_PINNING": "YES"}),
        ({"pinning": "off"}, {"ENABLE_CPU_PINNING": "NO"}),
        ({"denormals": "zero"}, {"CPU_DENORMALS_OPTIMIZATION": "YES"}),
        ({"denormals": "keep"}, {"CPU_DENORMALS_OPTIMIZATION": "NO"}),
    ],
)
def test_settings_reach_the_plugin(networks, picture, setting, entry):
    with load(networks["frozen"].main, **setting) as session:
        assert entry.items() <= session._config.items()
        session.bind(picture(8, 9))  # and the plugin accepts it


def test_a_model_is_compiled_once_per_shape(networks, picture):
    with load(networks["frozen"].main) as session:
        session.bind(picture(8, 9, 1))
        first = session._request
        session.bind(picture(8, 9, 2))
        assert session._request is first
        session.bind(picture(9, 8))
        assert session._request is not first


def test_refit_keeps_weights_constants_so_that_a_bias_stays_part_of_its_convolution(networks, picture):
    network = networks["thumbnail"]
    names = tuple(name for pair in network.refit_rule for name in pair)
    with load(network.main, refittable=names) as session:
        session.bind(picture(8, 9))
        session.refit({"convs.0.bias": np.ones(24, np.float32)})
        compiled = session._request.get_compiled_model()
        assert [i.get_any_name() for i in compiled.inputs] == ["x"]
        kinds = {op.get_rt_info()["layerType"].astype(str) for op in compiled.get_runtime_model().get_ops()}
        assert "Convolution" in kinds
        assert not {"Eltwise", "Add"} & kinds


def test_one_compiled_model_at_a_time(networks, picture, monkeypatch):
    """Both at once would need the activations' memory twice."""
    with load(networks["frozen"].main, refittable=("last.bias",)) as session:
        session.bind(picture(8, 9))
        core, seen = session._core, []

        class Watched:
            def compile_model(self, *words):
                seen.append(session._request)
                return core.compile_model(*words)

        monkeypatch.setattr(session, "_core", Watched())
        session.refit({"last.bias": np.ones(3, np.float32)})
        assert seen == [None]


def test_refitted_weights_survive_another_shape(networks, picture):
    bias = np.linspace(-1, 1, 3, dtype=np.float32)
    x = picture(16, 20)
    with load(networks["frozen"].main, refittable=("last.bias",)) as session:
        before = session.run({"x": x})["y"]
        session.bind(picture(5, 5))
        session.refit({"last.bias": bias})
        after = session.run({"x": x})["y"]
    moved = (after - before)[0].reshape(3, -1)
    assert np.allclose(moved, moved[:, :1], atol=1e-5)  # a bias of the last layer moves all pixels alike
    assert moved[2, 0] - moved[0, 0] == pytest.approx(2 - _difference_of_last_bias(networks), abs=1e-4)


def _difference_of_last_bias(networks):
    from safetensors.numpy import load_file

    stored = load_file(networks["frozen"].main.state_path)["last.bias"]
    return float(stored[2] - stored[0])


def test_it_never_runs_on_another_device():
    assert set(ENGINE.precisions) == {"cpu"}


# Quantised graphs


def quantised(networks, cache, placement, statistics="frozen", **more):
    """can24 with random weights in int8, calibrated on one small picture."""
    from export.precision import LoweringRequest, lowered_network
    from reference_models import get

    bits = exact_weight_bits()
    recipe = Recipe("int8", placement, True, "minmax", "none", weight_bits=bits, **more)
    picture = np.random.default_rng(1).integers(0, 256, (40, 48, 3), np.uint8)
    return lowered_network(LoweringRequest(networks[statistics], get("can24"), recipe, [picture]), cache)


def types_of(network):
    options = Options("cpu", "int8", 1, ENGINE.complete_settings({}))
    said = ENGINE.layer_types(network.main, options)
    return {name.removesuffix("/WithoutBiases"): kind for name, kind in said.items()}


def test_the_recipe_is_the_placement_of_inputs():
    assert ENGINE.recipe("cpu", "int8") == Recipe("int8", "inputs", shifted=True, weight_bits=exact_weight_bits())
    assert ENGINE.recipe("cpu", "bf16") is ENGINE.recipe("cpu", "fp32") is None


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_the_bits_that_the_processor_multiplies_exactly(bits, monkeypatch):
    monkeypatch.setattr("engines.openvino.exact_weight_bits", lambda: bits)
    assert [ENGINE.recipe("cpu", precision).weight_bits for precision in ("int8", "auto")] == [bits, bits]


@pytest.mark.parametrize("statistics", ["image", "frozen"])
@pytest.mark.parametrize("placement", ["inputs", "integer"])
def test_the_compiled_model_says_the_type_of_every_layer_by_its_node(networks, cache, placement, statistics):
    """That of the last one too, which OpenVINO calls after the graph's output."""
    network = quantised(networks, cache, placement, statistics, kept=("convs.3",))
    said = types_of(network)
    by_layer = {layer: said[node] for layer, node in network.lowering["nodes"].items()}
    assert by_layer == {**dict.fromkeys(network.lowering["nodes"], "int8"), "convs.3": "fp32"}


def test_fp32_layers_are_fp32(networks):
    assert set(types_of(networks["frozen"]).values()) == {"fp32"}


def test_what_the_graph_leaves_open_is_computed_in_fp32(networks, cache, picture):
    network = quantised(networks, cache, "inputs")
    for precision in ("int8", "auto"):
        with load(network.main, precision) as session:
            session.bind(picture(8, 9))
            assert compiled_with(session, "INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_an_integer_model_computes_what_the_graph_says(networks, cache, expected, picture):
    x = picture(40, 48)
    with load(quantised(networks, cache, "inputs").main, "int8") as session:
        error = session.run({"x": x})["y"] - expected("frozen", x)
    assert 1e-4 < np.sqrt(np.mean(error**2)) < 0.1 * np.std(expected("frozen", x)) + 0.1


def test_a_layer_that_makes_the_output_is_named_by_its_node(tmp_path, cache):
    """Without a bias, OpenVINO calls it `y`, or `y_original` behind Q/DQ pairs."""
    from onnx import TensorProto, helper, numpy_helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in "xy"]
    weight = np.random.default_rng(0).random((3, 3, 1, 1), dtype=np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="only")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "one.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    network = Network("one", None, Graph(str(path), file_sha256(path), "", "", {}, "onnx"), None, (), 20)
    assert types_of(network) == {"only": "fp32"}
    assert types_of(quantised({"frozen": network}, cache, "inputs")) == {"only": "int8"}


# Times of layers


def test_every_layer_that_ran_has_a_time_and_what_was_merged_has_none(networks, cache, picture):
    told = ENGINE.layer_times(quantised(networks, cache, "inputs").main, Options("cpu", "int8"), picture(40, 48))
    kinds = [node.kind for node in told]
    assert kinds.count("Convolution") == 9
    assert not {"LeakyRelu", "Parameter", "Result", "Constant"} & set(kinds)
    assert "x.q" in {node.name for node in told}
    assert all(node.ms >= 0 for node in told)
    assert sum(node.ms for node in told) > 0


def test_the_profiled_session_is_compiled_like_the_timed_one(networks):
    options = Options("cpu", "fp32", 2, ENGINE.complete_settings({"pinning": "off"}))
    profiled = OpenVinoSession(networks["frozen"].main, options, profiled=True)
    timed = OpenVinoSession(networks["frozen"].main, options)
    assert profiled._config == {**timed._config, "PERF_COUNT": "YES"}

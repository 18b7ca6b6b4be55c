"""What differs between the libraries; that all names exist in the real bindings is test_contract.py's."""

from __future__ import annotations

import sys
import types

import pytest

from engines.trt.api import TensorRtApi, TensorRtRtxApi
from reference_models.errors import UserError

KINDS = pytest.mark.parametrize("api", [TensorRtApi(), TensorRtRtxApi()], ids=["tensorrt", "tensorrt_rtx"])


@KINDS
def test_without_the_package_it_says_which_one_and_how_to_get_it(api, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert api.missing() == f"Python package `{api.distributions[0]}` is not installed"
    assert api.install.startswith(f"pip install {api.distributions[0]}")


def test_only_rtx_builds_without_a_device_and_only_it_lists_devices():
    assert (TensorRtApi().needs_device_to_build, TensorRtRtxApi().needs_device_to_build) == (True, False)
    assert TensorRtApi().capability_missing((9, 0)) is None
    assert TensorRtRtxApi().capability_missing((8, 9)) is None
    assert "9.0" in (TensorRtRtxApi().capability_missing((9, 0)) or "")


class Record(types.SimpleNamespace):
    """Keeps what is set and called."""

    def set_flag(self, flag):
        self.flags = [*getattr(self, "flags", []), flag]

    def set_compute_capability(self, value, index):
        self.targets = [*getattr(self, "targets", []), (value.name, index)]


LIBRARY = types.SimpleNamespace(
    HardwareCompatibilityLevel=types.SimpleNamespace(AMPERE_PLUS="ampere", SAME_COMPUTE_CAPABILITY="same"),
    BuilderFlag=types.SimpleNamespace(VERSION_COMPATIBLE="version", EXCLUDE_LEAN_RUNTIME="excluded"),
    ComputeCapability=types.SimpleNamespace(
        **{f"SM{n}": types.SimpleNamespace(name=f"SM{n}") for n in (75, 80, 86, 89, 120, 121)}
    ),
)


@pytest.mark.parametrize(
    ("hardware", "compatible", "expected"),
    [
        ("same", "off", {}),
        ("ampere_plus", "off", {"hardware_compatibility_level": "ampere"}),
        ("same_capability", "on", {"hardware_compatibility_level": "same", "flags": ["version"]}),
        ("same", "excluded", {"flags": ["version", "excluded"]}),
    ],
)
def test_tensorrt_s_target_is_other_devices_and_versions(hardware, compatible, expected):
    config = Record()
    TensorRtApi().set_target(LIBRARY, config, {"hardware": hardware, "version_compatible": compatible})
    assert vars(config) == expected


@pytest.mark.parametrize(
    ("compatible", "runtime", "module", "trusted"),
    [
        ("off", "full", "tensorrt", None),
        ("on", "full", "tensorrt", True),
        ("on", "lean", "tensorrt_lean", True),
        ("excluded", "full", "tensorrt", None),
        ("excluded", "lean", "tensorrt_lean", None),
    ],
)
def test_code_in_a_plan_is_allowed_only_where_there_is_some(compatible, runtime, module, trusted, monkeypatch):
    for name in ("tensorrt", "tensorrt_lean"):
        library = types.ModuleType(name)
        library.Runtime = lambda logger, name=name: types.SimpleNamespace(logger=logger, of=name)  # type: ignore
        monkeypatch.setitem(sys.modules, name, library)
    made = TensorRtApi().new_runtime("logger", {"version_compatible": compatible, "runtime": runtime})
    assert (made.of, getattr(made, "engine_host_code_allowed", None)) == (module, trusted)


def packages(monkeypatch, *installed):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)


def test_the_lean_runtime_wants_plans_that_it_can_run_and_its_package(monkeypatch):
    api = TensorRtApi()
    packages(monkeypatch, "tensorrt", "tensorrt_lean")
    api.check_settings({"runtime": "full", "version_compatible": "off"})
    api.check_settings({"runtime": "lean", "version_compatible": "excluded"})
    with pytest.raises(UserError, match=r"runtime=lean.*not.*Add `--set tensorrt.version_compatible=excluded`"):
        api.check_settings({"runtime": "lean", "version_compatible": "off"})
    packages(monkeypatch, "tensorrt")
    with pytest.raises(UserError, match=r"runtime=lean.*tensorrt-lean-cu13.*not installed.*pip install"):
        api.check_settings({"runtime": "lean", "version_compatible": "on"})


@pytest.mark.parametrize(
    ("installed", "compatible", "runtime"),
    [
        (["tensorrt", "tensorrt_lean"], "on", "full"),
        (["tensorrt_lean"], "on", "lean"),
        (["tensorrt_lean"], "excluded", "lean"),
        (["tensorrt_lean"], "off", "full"),
        ([], "on", "full"),
    ],
)
def test_where_the_lean_runtime_is_alone_it_runs_the_plans_that_it_can(installed, compatible, runtime, monkeypatch):
    packages(monkeypatch, *installed)
    settings = {"version_compatible": compatible, "runtime": "full", "level": "3"}
    assert TensorRtApi().runnable(settings) == {**settings, "runtime": runtime}
    assert TensorRtRtxApi().runnable({"target": "all"}) == {"target": "all"}


def test_rtx_s_target_is_a_compute_capability():
    config = Record()
    TensorRtRtxApi().set_target(LIBRARY, config, {"target": "all"})
    assert vars(config) == {}
    TensorRtRtxApi().set_target(LIBRARY, config, {"target": "120"})
    assert (config.num_compute_capabilities, config.targets) == (1, [("SM120", 0)])


def test_tensorrt_keeps_timings_and_rtx_takes_none():
    given = []
    cache = types.SimpleNamespace(serialize=lambda: memoryview(b"timed"))
    config = types.SimpleNamespace(
        create_timing_cache=lambda blob: given.append(blob) or cache,
        set_timing_cache=lambda found, ignore_mismatch: given.append((found, ignore_mismatch)),
        get_timing_cache=lambda: cache,
    )
    api = TensorRtApi()
    api.load_timings(None, config, b"old")
    assert given == [b"old", (cache, False)]
    assert api.stored_timings(config) == b"timed"
    rtx = TensorRtRtxApi()
    rtx.load_timings(None, None, b"")
    assert rtx.stored_timings(None) == b""


@pytest.mark.parametrize(("compiled", "loaded"), [(b"", []), (b"kernels", [b"kernels"])])
def test_rtx_s_context_takes_the_kernels_of_an_earlier_process(compiled, loaded):
    given = []
    kernel_cache = types.SimpleNamespace(deserialize=given.append, serialize=lambda: memoryview(b"more"))
    config = types.SimpleNamespace(create_runtime_cache=lambda: kernel_cache, set_runtime_cache=given.append)
    engine = types.SimpleNamespace(
        create_runtime_config=lambda: config, create_execution_context=lambda with_config: ("context", with_config)
    )
    trt = types.SimpleNamespace(
        DynamicShapesKernelSpecializationStrategy=types.SimpleNamespace(EAGER="eager!", LAZY="lazy!", NONE="none!")
    )
    api = TensorRtRtxApi()
    context, found = api.create_context(trt, engine, {"specialise": "lazy"}, compiled)
    assert given == [*loaded, kernel_cache]
    assert config.dynamic_shapes_kernel_specialization_strategy == "lazy!"
    assert context == ("context", config)
    assert api.stored_kernels(found) == b"more"


def test_tensorrt_s_context_needs_nothing_of_it():
    engine = types.SimpleNamespace(create_execution_context=lambda: "context")
    assert TensorRtApi().create_context(None, engine, {}, b"") == ("context", None)
    assert TensorRtApi().stored_kernels(None) == b""


def test_a_library_that_does_not_tell_the_size_of_weights_is_not_asked():
    trt = types.SimpleNamespace(EngineStat=types.SimpleNamespace(TOTAL_WEIGHTS_SIZE="weights"))
    engine = types.SimpleNamespace(get_engine_stat={"weights": 12}.get)
    assert TensorRtApi().weights_bytes(trt, engine) == 12
    assert TensorRtApi().weights_bytes(None, types.SimpleNamespace()) is None


@pytest.fixture
def shuffle_path(tmp_path):
    import onnx
    from onnx import helper

    node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")
    ends = [helper.make_tensor_value_info(n, 1, [1, c, "H", "W"]) for n, c in (("x", 12), ("y", 3))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("api", [TensorRtApi(), TensorRtRtxApi()], ids=["tensorrt", "tensorrt_rtx"])
def test_without_plugins_the_file_is_parsed_as_it_is(api, shuffle_path):
    assert api.graph(str(shuffle_path), {"plugins": "off"}, "fp32") == (shuffle_path.read_bytes(), [])


def test_plugins_are_registered_once_a_process_and_asked_for_in_the_graph(shuffle_path, monkeypatch):
    import onnx

    from engines.trt import api as api_file

    registered = []
    monkeypatch.setattr(api_file, "triton_missing", lambda: None)
    monkeypatch.setattr("engines.trt.device.current_device", lambda: 0)
    monkeypatch.setattr("engines.trt.device.capability", lambda index: (7, 5))
    monkeypatch.setattr("engines.plugins.registration.register_plugins", lambda *words: registered.append(words))
    monkeypatch.setitem(sys.modules, "tensorrt", "tensorrt")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", "tensorrt.plugin")  # type: ignore[arg-type]
    api = TensorRtApi()
    for _ in range(2):
        model, names = api.graph(str(shuffle_path), {"plugins": "on"}, "fp32")
        assert names == ["fullres::FullresPixelShuffle"]
        assert [n.op_type for n in onnx.load_from_string(model).graph.node] == ["FullresPixelShuffle"]
    assert registered == [("tensorrt", "tensorrt.plugin", 75)]


@pytest.mark.parametrize("choice", ["on", "picture"])
def test_only_who_asks_for_it_gets_the_picture_from_a_plugin(choice, shuffle_path, monkeypatch):
    from engines.trt import api as api_file

    asked = []
    monkeypatch.setattr(api_file, "triton_missing", lambda: None)
    monkeypatch.setattr("engines.trt.device.current_device", lambda: 0)
    monkeypatch.setattr("engines.trt.device.capability", lambda index: (9, 0))
    monkeypatch.setattr("engines.plugins.nodes.use_plugins", lambda model, products, pictures: asked.append(pictures))
    TensorRtApi().graph(str(shuffle_path), {"plugins": choice}, "fp32")
    assert asked == [choice == "picture"]
    assert next(s.choices for s in TensorRtApi.settings if s.name == "plugins") == ("off", "on", "picture")


@pytest.mark.parametrize("choice", ["on", "picture"])
def test_plugins_without_triton_are_refused(choice, shuffle_path, monkeypatch):
    from engines.trt import api as api_file

    monkeypatch.setattr(api_file, "triton_missing", lambda: "it is not installed")
    with pytest.raises(UserError, match=rf"plugins={choice}.*it is not installed.*pip install triton"):
        TensorRtApi().graph(str(shuffle_path), {"plugins": choice}, "fp32")


def test_kernels_with_products_are_for_the_device_that_is_in_use(monkeypatch):
    monkeypatch.setattr("engines.trt.device.current_device", lambda: 1)
    monkeypatch.setattr("engines.trt.device.capability", {0: (8, 9), 1: (7, 5)}.__getitem__)
    assert not TensorRtApi()._has_tensor_cores()
    monkeypatch.setattr("engines.trt.device.current_device", lambda: 0)
    assert TensorRtApi()._has_tensor_cores()

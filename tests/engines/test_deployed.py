"""A plan and its sidecar are enough: what they give is what torch makes of the same picture."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import engines
import reference_models
from engines import deployed
from engines.deployed import load
from engines.sidecar import Deployment, sidecar, sidecar_path
from export.network import INPUT, OUTPUT, Graph, Network, file_sha256
from export.recipe import Recipe
from reference_models.errors import UserError


def deploy(folder, onnx_path, engine, model="can24", sizes=()):
    """A plan with its sidecar in a folder of its own, as `bench build` writes them."""
    plan = folder / "net.onnx"
    shutil.copy(onnx_path, plan)
    spec = reference_models.get(model)
    graph = Graph(str(plan), file_sha256(plan), "", "", {}, "published")
    found = engines.get(engine)
    settings = found.complete_settings({})
    deployed = Deployment(spec, None, engine, found.version(), "fp32", settings, sizes, {}, {})
    sidecar_path(plan).write_text(json.dumps(sidecar(plan, Network(model, None, graph, None, (), 20), deployed)))
    return plan


@pytest.fixture
def frozen(networks, tmp_path):
    return deploy(tmp_path, networks["frozen"].main.onnx_path, "onnxruntime")


def test_a_picture_comes_out_as_torch_makes_it(frozen, expected, picture):
    x = picture(21, 34)
    seen = np.floor(x[0, ::-1].transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)  # the network takes BGR
    x = np.ascontiguousarray(seen[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255)
    wanted = expected("frozen", x)
    with load(frozen) as session:
        assert np.abs(session.run({INPUT: x})[OUTPUT] - wanted).max() < 1e-4
        y = session(seen)
    truncated = np.floor(255 * wanted.clip(0, 1))[0].transpose(1, 2, 0)[:, :, ::-1]
    assert (y.dtype, y.shape) == (np.uint8, (21, 34, 3))
    off = np.abs(y.astype(int) - truncated)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01
    assert session.sidecar["engine"]["name"] == "onnxruntime"


def test_a_plan_that_was_changed_is_refused(frozen):
    frozen.write_bytes(frozen.read_bytes() + b"x")
    with pytest.raises(UserError, match="a plan and a sidecar of one build"):
        load(frozen)


@pytest.mark.parametrize(("bits", "here", "warned"), [(8, 7, True), (7, 7, False), (8, 8, False)])
def test_int8_that_overflows_on_this_processor_is_said(frozen, bits, here, warned, monkeypatch):
    path = sidecar_path(frozen)
    recipe = Recipe("int8", "integer", shifted=True, weight_bits=bits).to_dict()
    lowering = {"recipe": recipe, "layers": {"first": "int8", "last": "fp32"}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "lowering": lowering}))
    monkeypatch.setattr(deployed, "exact_weight_bits", lambda: here)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        engines.load(frozen, "cpu").close()
    assert [("--weight-bits 7" in str(one.message), one.filename) for one in said] == [(True, __file__)] * warned


def test_an_engine_that_is_not_there_says_how_to_get_it(networks, tmp_path, monkeypatch):
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, "tensorrt_rtx")
    monkeypatch.setattr(type(engines.get("tensorrt_rtx").api), "missing", lambda self: "it is not installed")
    with pytest.raises(UserError, match="it is not installed") as error:
        load(plan)
    assert error.value.todo == engines.get("tensorrt_rtx").install


@pytest.mark.parametrize(("compatible", "trusted"), [("on", False), ("on", True), ("excluded", False)])
def test_code_in_a_plan_wants_a_word_of_trust(compatible, trusted, networks, tmp_path, monkeypatch):
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, "tensorrt")
    told = json.loads(sidecar_path(plan).read_text())
    told["engine"]["settings"]["version_compatible"] = compatible
    sidecar_path(plan).write_text(json.dumps(told))
    monkeypatch.setattr(deployed, "_session", lambda *_: "session")
    if compatible == "on" and not trusted:
        with pytest.raises(UserError, match=r"holds a runtime.*host_code=True"):
            engines.load(plan, "cuda:0")
    else:
        assert engines.load(plan, "cuda:0", host_code=trusted)._session == "session"


def test_a_tensorrt_plan_is_run_in_its_own_profiles(networks, tmp_path, monkeypatch):
    sizes = [{"resolution": "a", "least": [4, 6], "tuned": [5, 6], "most": [8, 9]}]
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, "tensorrt", sizes=sizes)
    asked = []
    monkeypatch.setattr(type(engines.get("tensorrt")), "load_plan", lambda self, *words: asked.append(words))
    load(plan)
    graph, options, given = asked[0]
    assert (options.device, options.precision, graph.planes) == ("cuda:0", "fp32", 3)
    assert (given.path, given.sha256) == (plan, file_sha256(plan))
    assert [(p.least, p.tuned, p.most) for p in given.profiles] == [((4, 6), (5, 6), (8, 9))]


@pytest.mark.parametrize(("precision", "device"), [("fp32", "cuda:0"), ("fp16", "cuda:0"), ("int8", "cpu")])
def test_auto_takes_a_gpu_only_where_the_engine_has_the_precision_there(precision, device, monkeypatch):
    engine = engines.get("onnxruntime")
    monkeypatch.setattr(deployed, "_usable_on_cuda", lambda engine: True)
    assert deployed._device_for(engine, precision, "auto") == device
    assert deployed._device_for(engine, precision, "cpu") == "cpu"


def test_a_plan_on_pictures_is_given_the_picture_itself(networks, tmp_path, monkeypatch):
    sizes = [{"resolution": "a", "least": [4, 6], "tuned": [5, 6], "most": [8, 9]}]
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, "tensorrt", sizes=sizes)
    told = json.loads(sidecar_path(plan).read_text()) | {"takes": "pictures"}
    sidecar_path(plan).write_text(json.dumps(told))
    made = []

    class Made:
        def __init__(self, graph):
            self.graph = graph

        def run(self, inputs):
            return {"result": 255 - inputs["picture"]}

        def bind_device(self, array):
            made.append(array)

        def enqueue(self):
            made.append("enqueue")

        def synchronize(self):
            made.append("synchronize")

        def output_on_device(self):
            return "device array"

    monkeypatch.setattr(type(engines.get("tensorrt")), "load_plan", lambda self, graph, *_: Made(graph))
    session = load(plan)
    assert session._session.graph.role == "picture"
    seen = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(session(seen), 255 - seen)
    with pytest.raises(UserError, match="becomes an input of 40x5"):
        session(np.zeros((5, 40, 3), np.uint8))
    array = SimpleNamespace(__cuda_array_interface__={})
    assert session.run({"picture": array}) == {"result": "device array"}
    assert made == [array, "enqueue", "synchronize"]
    with pytest.raises(UserError, match="Expected 'picture'"):
        session.run({"x": array})


def test_an_onnx_file_on_pictures_gives_what_the_one_on_tensors_gives(networks, cache, tmp_path):
    from export.picture_graph import picture_network

    spec, plans = reference_models.get("can24"), []
    for network in (networks["frozen"], picture_network(networks["frozen"], spec, cache)):
        folder = tmp_path / str(len(plans))
        folder.mkdir()
        plan = deploy(folder, network.main.onnx_path, "onnxruntime")
        if network.main.takes_pictures:
            sidecar_path(plan).write_text(
                json.dumps(json.loads(sidecar_path(plan).read_text()) | {"takes": "pictures"})
            )
        plans.append(plan)
    seen = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
    with load(plans[0], "cpu") as tensors, load(plans[1], "cpu") as pictures:
        assert np.array_equal(tensors(seen), pictures(seen))
        assert pictures._session.graph.takes_pictures


def test_a_device_s_array_for_a_plan_of_the_cpu_is_refused(frozen):
    with load(frozen, "cpu") as session, pytest.raises(UserError, match="Copy it to the host"):
        session.run({INPUT: SimpleNamespace(__cuda_array_interface__={})})


def test_wrong_pictures_and_closed_sessions_are_refused(frozen):
    with load(frozen) as session:
        with pytest.raises(UserError, match="Repeat the grey plane"):
            session(np.zeros((4, 5), np.uint8))
        session.close()
    with pytest.raises(UserError, match="after it was closed"):
        session(np.zeros((4, 5, 3), np.uint8))


def test_many_threads_get_what_one_would(frozen):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (5 + i % 4 * 9, 40 - i % 3 * 11, 3), np.uint8) for i in range(24)]
    with load(frozen) as session:
        alone = [session(picture) for picture in pictures]
        with ThreadPoolExecutor(6) as threads:
            together = list(threads.map(session, pictures))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_thread_owns_the_session(frozen, monkeypatch):
    """A CUDA context belongs to a thread, so that it must be the same one for building, running and closing."""
    import threading

    from engines.onnxruntime import OnnxRuntimeSession

    seen = []
    for name in ("__init__", "_bind", "_enqueue", "_read", "_close"):
        real = getattr(OnnxRuntimeSession, name)

        def noted(self, *words, real=real, **more):
            seen.append(threading.get_ident())
            return real(self, *words, **more)

        monkeypatch.setattr(OnnxRuntimeSession, name, noted)
    with load(frozen) as session, ThreadPoolExecutor(3) as threads:
        list(threads.map(session, [np.zeros((8, 8, 3), np.uint8)] * 6))
    assert len(seen) >= 2 + 3 * 6
    assert len(set(seen)) == 1
    assert seen[0] != threading.get_ident()


def test_a_forked_child_is_told_to_load_it_itself(frozen):
    with load(frozen) as session:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                session(np.zeros((4, 4, 3), np.uint8))
            except UserError as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        assert "in the child" in os.read(read, 1000).decode()


def test_a_size_without_a_profile_is_refused_with_those_there_are(networks, tmp_path, monkeypatch):
    sizes = [{"resolution": "a", "least": [4, 6], "tuned": [5, 6], "most": [8, 9]}]
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, "tensorrt", sizes=sizes)
    monkeypatch.setattr(type(engines.get("tensorrt")), "load_plan", lambda self, *words: None)
    with pytest.raises(UserError, match="6x4 to 9x8") as error:
        load(plan)(np.zeros((9, 9, 3), np.uint8))
    assert "becomes an input of 9x9" in error.value.what


def test_a_bundle_s_model_is_refused_with_what_runs_it(frozen):
    path = sidecar_path(frozen)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"takes": "pictures", "example": "example.py"}))
    with pytest.raises(UserError, match=r"example\.py"):
        load(frozen)


WITHOUT_TORCH = """
import sys, threading
import numpy as np

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "skimage", "pandas", "PIL", "matplotlib"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
import engines

with engines.load(sys.argv[1]) as session:
    result = session(np.full((9, 11, 3), 99, np.uint8))
assert result.shape == (9, 11, 3), result.shape
assert "torch" not in sys.modules
print("done")
"""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_neither_torch_nor_onnx_is_imported(engine, networks, tmp_path):
    if reason := engines.get(engine).missing():
        pytest.skip(reason)
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, engine)
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, plan], check=False, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt_rtx"])
def test_a_session_of_tensorrt_imports_no_torch_on_its_way(engine, networks, tmp_path):
    """Where it cannot run, as here without a GPU, up to the error that says so."""
    sizes = [{"resolution": "a", "least": [4, 6], "tuned": [5, 6], "most": [8, 9]}]
    plan = deploy(tmp_path, networks["frozen"].main.onnx_path, engine, sizes=sizes)
    told = "try:\n    engines.load(sys.argv[1])\nexcept Exception as error:\n    print(type(error).__name__)\n"
    code = f"import sys\nimport engines\n{told}print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, plan], check=False, capture_output=True, text=True)
    assert done.stdout.split()[-1] == "False", done.stderr

"""The session over a CUDA runtime in host memory (conftest.py); a real device is for `pytest -m gpu`."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from engines.engine import LayerTime, Options
from engines.trt import session as session_file
from engines.trt.engine import settings_of
from engines.trt.plans import StoredPlan
from engines.trt.session import TrtSession
from export.network import Graph
from reference_models.errors import UserError


@pytest.fixture
def built(monkeypatch, tmp_path):
    """Plans that the session asks for; each is a JSON of the sizes that it takes."""
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path))
    asked = []

    def stored_plan(api, request, device, report, device_bytes):
        asked.append((request, device, device_bytes))
        path = tmp_path / f"{len(asked)}.plan"
        sizes = request.profiles[0]
        path.write_text(json.dumps({"profile": [sizes.least, sizes.most]}))
        return StoredPlan(path, f"sha{len(asked)}", f"key{len(asked)}", {"timing_cache_sha256": None}, False)

    monkeypatch.setattr(session_file, "stored_plan", stored_plan)
    return asked


@pytest.fixture
def load(fake_api, built, tmp_path):
    graph = Graph(str(tmp_path / "a.onnx"), "ab", "", "", {}, "published", upscale=2)

    def make(refittable=(), **settings):
        complete = {s.name: s.default for s in settings_of(fake_api)} | settings
        return TrtSession(fake_api, graph, Options("cuda:0", "fp32", 1, complete, refittable))

    return make


def picture(height, width, seed=0):
    return np.random.default_rng(seed).random((1, 3, height, width), np.float32)


def doubled(x):
    return np.kron(2 * x, np.ones((1, 1, 2, 2), np.float32))


@pytest.mark.parametrize("graph", ["on", "off"])
@pytest.mark.parametrize("host_memory", ["pinned", "pageable"])
def test_every_size_that_is_bound_gives_its_own_output(load, graph, host_memory, cuda):
    with load(graph=graph, host_memory=host_memory) as session:
        for number, size in enumerate([(4, 6), (4, 6), (3, 5), (4, 6)]):
            x = picture(*size, number)
            assert np.array_equal(session.run({"x": x})["y"], doubled(x))
        assert session.contract["graph_capture"] == (graph == "on")
        assert session.contract["host_memory"] == host_memory
        assert ("pinned" in {kind for kind, _ in cuda.live.values()}) == (host_memory == "pinned")
    assert cuda.live == {}


def test_the_device_is_opened_before_the_library_s_runtime(load, cuda):
    load().close()  # the fake Runtime asserts it
    assert cuda.calls[0] == "device 0"


def test_a_static_plan_is_built_for_every_size_and_a_dynamic_one_once(load, built, monkeypatch):
    monkeypatch.setattr(session_file, "DYNAMIC_MOST", (216, 384))
    with load() as session:
        session.bind(picture(4, 6))
        session.bind(picture(4, 6, 1))
        session.bind(picture(5, 6))
    assert [request.profiles[0] for request, _, _ in built] == [
        session_file.Profile.of((4, 6)),
        session_file.Profile.of((5, 6)),
    ]
    built.clear()
    with load(profile="dynamic") as session:
        for size in ((100, 80), (64, 64), (216, 384), (4, 6)):
            session.bind(picture(*size))
    sizes = [(r.profiles[0].least, r.profiles[0].tuned, r.profiles[0].most) for r, _, _ in built]
    assert sizes == [((64, 64), (100, 80), (216, 384)), ((4, 6), (4, 6), (216, 384))]


def test_the_runtime_that_runs_a_plan_is_named_where_it_is_not_the_library(load):
    with load() as session:
        assert "runtime" not in session.contract
    with load(runtime="lean", version_compatible="excluded") as session:
        x = picture(4, 6)
        assert np.array_equal(session.run({"x": x})["y"], doubled(x))
        assert session.contract["runtime"] == "tensorrt_lean"


def test_what_the_plan_is_built_from_is_asked_for(load, built, cuda):
    with load(refittable=("w",)) as session:
        session.bind(picture(4, 6))
        assert session.contract["plan_sha256"] == "sha1"
    request, device, memory = built[0]
    assert (request.sha256, request.precision, request.refittable) == ("ab", "fp32", True)
    assert device == "Fake GPU, driver 13000"  # TensorRT times its kernels there
    assert memory == cuda.total


def test_with_a_graph_nothing_is_enqueued_by_hand(load, cuda):
    with load() as session:
        session.bind(picture(4, 6))
        cuda.calls.clear()
        session.enqueue()
        assert cuda.calls == ["event", "replay", "event"]
        session.synchronize()
        assert cuda.calls[-1] == "synchronize"
    with load(graph="off") as session:
        session.bind(picture(4, 6))
        cuda.calls.clear()
        session.enqueue()
        assert cuda.calls == ["event", "execute", "event"]


def test_the_first_run_after_a_change_of_shape_is_no_part_of_a_capture(load, cuda):
    with load() as session:
        cuda.calls.clear()
        session.bind(picture(4, 6))
        assert cuda.calls[: cuda.calls.index("begin") + 2] == ["execute", "synchronize", "begin", "execute"]


def test_a_capture_that_fails_is_ended(load, cuda, fake_api):
    with load() as session:
        session.bind(picture(4, 6))
        session._engine.broken = True
        with pytest.raises(RuntimeError, match="does not run this plan"):
            session._device.capture(lambda: session._execute(session._device, session._context))
        assert cuda.recording is None


def test_device_times_are_those_of_events(load):
    with load() as session:
        session.bind(picture(4, 6))
        assert session.device_ms() == {"h2d": 1.5}
        session.enqueue()
        assert session.device_ms() == {"h2d": 1.5, "compute": 1.5}
        session.read()
        assert session.device_ms() == {"h2d": 1.5, "compute": 1.5, "d2h": 1.5}


def test_several_inferences_in_flight_have_contexts_and_outputs_of_their_own(load, cuda):
    with load(streams="4") as session:
        assert (session.in_flight, session.contract["streams"]) == (4, 4)
        for size in ((4, 6), (5, 7), (4, 6)):
            x = picture(*size)
            assert np.array_equal(session.run({"x": x})["y"], doubled(x))
            addresses = {lane.y for lane in session._lanes} | {session._y}
            assert len(addresses) == 4
            for lane in session._lanes:
                got = session_file.host_array(lane.y, doubled(x))  # the fake's device memory is the host's
                assert np.array_equal(got, doubled(x))
        cuda.calls.clear()
        session.enqueue()
        assert cuda.calls.count("replay") == 4
        assert cuda.calls.count("wait") == 6  # each lane for the start, the main stream for each lane's end
        assert (cuda.calls[0], cuda.calls[-1]) == ("event", "event")
        assert session.memory_bytes()["context"] == 4 * 4096
    assert cuda.live == {}


def test_the_cache_is_emptied_before_an_inference_and_not_in_it(load, cuda):
    with load(l2="flushed") as session:
        session.bind(picture(4, 6))
        cuda.calls.clear()
        session.prepare()
        assert cuda.calls == ["memset", "synchronize"]
        cuda.calls.clear()
        session.enqueue()
        assert "memset" not in cuda.calls
        assert session.contract["l2_state"] == "emptied before every inference"
    with load() as session:
        cuda.calls.clear()
        session.prepare()
        assert cuda.calls == []


def on_device(values, off=0):
    """Somebody's array at a multiple of 256 bytes, or so many bytes behind one; and what keeps it alive."""
    room = np.zeros(values.nbytes + 512, np.uint8)
    start = -room.ctypes.data % 256 + off
    there = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    there[...] = values
    told = {"shape": there.shape, "typestr": there.dtype.str, "data": (there.ctypes.data, False), "version": 3}
    return SimpleNamespace(__cuda_array_interface__=told, there=there)


@pytest.mark.parametrize("way", [("off", 0, 0), ("off", 4, 1), ("on", 0, 1)])
@pytest.mark.parametrize("streams", ["1", "2"])
def test_somebody_s_device_array_is_read_where_it_lies_or_copied_on_the_device(load, cuda, way, streams):
    """A graph keeps its addresses, and TensorRT takes multiples of 256; nothing is captured anew."""
    x, (graph, off, copied) = picture(4, 6), way
    with load(graph=graph, streams=streams) as session:
        session.bind(picture(4, 6, 9))
        cuda.calls.clear()
        foreign = on_device(x, off)
        session.bind_device(foreign)
        session.enqueue()
        session.synchronize()
        assert (cuda.calls.count("d2d"), cuda.calls.count("begin")) == (copied, 0)
        assert "h2d" not in cuda.calls
        assert cuda.calls.count("execute") == (int(streams) if graph == "off" else 0)
        told = session.output_on_device().__cuda_array_interface__
        assert (told["shape"], told["typestr"], told["data"][1]) == ((1, 3, 8, 12), "<f4", False)
        assert np.array_equal(session.read(), doubled(x))
        other = on_device(5 * x, off)
        session.bind_device(other)  # of the same shape, elsewhere
        session.enqueue()
        session.synchronize()
        assert np.array_equal(session.read(), doubled(5 * x))
        assert np.array_equal(session.run({"x": 3 * x})["y"], doubled(3 * x))  # of the host again
        with pytest.raises(UserError, match="input `x`: got ndarray"):
            session.bind_device(x)


@pytest.mark.parametrize(("where", "said"), [((2, 1), "cuda:1"), ((1, 0), "the host")])
def test_an_array_of_another_device_is_refused(load, cuda, where, said):
    foreign = on_device(picture(4, 6))
    cuda.elsewhere[foreign.there.ctypes.data] = where
    with load() as session, pytest.raises(UserError, match=f"it lies on {said}. Expected memory of cuda:0"):
        session.bind_device(foreign)


def test_an_output_on_the_device_ends_with_its_memory(load):
    with load() as session:
        session.run({"x": picture(4, 6)})
        y = session.output_on_device()
        session.run({"x": picture(4, 6, 1)})
        assert y.__cuda_array_interface__["shape"] == (1, 3, 8, 12)  # the same memory
        session.run({"x": picture(6, 6)})
        with pytest.raises(UserError, match="has run with another size"):
            _ = y.__cuda_array_interface__
        y = session.output_on_device()
    with pytest.raises(UserError, match="its session was closed"):
        _ = y.__cuda_array_interface__


def test_memory_that_the_library_refuses_is_an_error(load, cuda, monkeypatch):
    """And no answer to the picture before."""
    with load() as session:
        session.bind(picture(4, 6))
        monkeypatch.setattr(type(session._context), "set_tensor_address", lambda *_: False)
        with pytest.raises(RuntimeError, match="refuses the memory of"):
            session.bind(picture(5, 6))


@pytest.mark.parametrize("graph", ["on", "off"])
def test_a_graph_on_pictures_takes_and_gives_bytes(fake_api, built, cuda, graph):
    complete = {s.name: s.default for s in settings_of(fake_api)} | {"graph": graph, "ends": "picture"}
    seen = np.random.default_rng(0).integers(0, 100, (5, 7, 3), np.uint8)
    wanted = np.kron(2 * seen, np.ones((2, 2, 1), np.uint8))
    on_pictures = Graph("a.onnx", "ab", "", "", {}, "picture", upscale=2)
    with TrtSession(fake_api, on_pictures, Options("cuda:0", "fp32", 1, complete)) as session:
        got = session.run({"picture": seen})["result"]
        assert (got.dtype, got.shape) == (np.uint8, (10, 14, 3))
        assert np.array_equal(got, wanted)
        assert session.contract["ends"] == "uint8 (H, W, 3) RGB picture in and out, converted in the plan"
        foreign = on_device(seen)
        session.bind_device(foreign)
        session.enqueue()
        session.synchronize()
        assert np.array_equal(session.read(), wanted)
        assert session.output_on_device().__cuda_array_interface__["typestr"] == "|u1"
        with pytest.raises(UserError, match=r"got \(1, 3, 5, 7\) float32"):
            session.bind(picture(5, 7))
        with pytest.raises(UserError, match=r"\(H, W, 3\) in device memory"):
            session.bind_device(on_device(picture(5, 7)))
    assert built[0][0].profiles == (session_file.Profile.of((5, 7)),)
    assert cuda.live == {}


def test_new_weights_are_in_every_later_output_and_in_later_plans(load, monkeypatch, cuda):
    with load(refittable=("w", "refused")) as session:
        monkeypatch.setattr(session, "_check_shapes", lambda arrays: None)
        x = picture(4, 6)
        session.bind(x)
        session.refit({"w": np.full((1,), 3, np.float32)})
        session.enqueue()
        session.synchronize()
        assert np.allclose(session.read(), 1.5 * doubled(x))
        assert "begin" not in cuda.calls  # a capture for every new set of weights would cost more than it saves
        assert session.contract["graph_capture"] is False
        y = picture(5, 7)
        assert np.allclose(session.run({"x": y})["y"], 1.5 * doubled(y))
        with pytest.raises(RuntimeError, match="refuses new weights 'refused'"):
            session.refit({"refused": np.zeros(1, np.float32)})


def test_weights_of_another_shape_are_refused(load, tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    node = helper.make_node("Mul", ["x", "w"], ["y"])
    ends = [helper.make_tensor_value_info(n, 1, [1, 3, 2, 2]) for n in "xy"]
    weight = numpy_helper.from_array(np.ones(1, np.float32), "w")
    onnx.save(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [weight])), tmp_path / "a.onnx")
    with load(refittable=("w",)) as session, pytest.raises(ValueError, match=r"initializer 'w' of shape \(2,\)"):
        session.refit({"w": np.zeros(2, np.float32)})


def test_a_device_without_memory_is_said_so_and_leaves_nothing(load, cuda):
    with load() as session:
        session.bind(picture(4, 6))
        cuda.full = True
        with pytest.raises(MemoryError, match="no memory left"):
            session.bind(picture(8, 8))
        cuda.full = False
        x = picture(4, 6, 3)
        assert np.array_equal(session.run({"x": x})["y"], doubled(x))
    assert cuda.live == {}


def test_a_plan_that_cannot_be_loaded_is_named(load, monkeypatch, tmp_path):
    path = tmp_path / "bad.plan"
    path.write_text("{}")
    monkeypatch.setattr(
        session_file, "stored_plan", lambda *_: StoredPlan(path, "", "", {"timing_cache_sha256": None}, True)
    )
    with load() as session, pytest.raises(RuntimeError, match="cannot load its plan"):
        session.bind(picture(4, 6))


def test_memory_and_layers_are_told(load):
    with load() as session:
        assert session.memory_bytes() == {}  # no plan yet
        session.bind(picture(4, 6))
        assert session.memory_bytes() == {"weights": 12, "context": 4096}
        assert session.layer_times() == [
            LayerTime("conv", "CaskConvolution, Half", 0.625),
            LayerTime("shuffle", "", 0.25),
        ]


@pytest.mark.parametrize("where", ["device_words", "runtime_module", "new_runtime", "a lane's device"])
def test_a_session_that_cannot_be_made_leaves_nothing(load, fake_api, cuda, monkeypatch, where):
    def refuse(*_):
        raise MemoryError(where)

    if where == "device_words":
        monkeypatch.setattr(session_file, where, refuse)
    elif where == "a lane's device":
        kinds = iter([session_file.Device, session_file.Device, refuse])

        def opened(index):
            kind = next(kinds)
            return kind(index)

        monkeypatch.setattr(session_file, "Device", opened)
    else:
        monkeypatch.setattr(fake_api, where, refuse)
    with pytest.raises(MemoryError, match=where):
        load(streams="3")
    assert cuda.made > 0
    assert cuda.live == {}


def test_closing_twice_is_closing_once(load, cuda):
    session = load()
    session.bind(picture(4, 6))
    session.close()
    session.close()
    assert cuda.live == {}


def test_compiled_kernels_are_kept_for_the_next_process(load, fake_api, tmp_path, monkeypatch):
    given = []

    def create_context(trt, engine, settings, compiled):
        given.append(compiled)
        return engine.create_execution_context(), "cache"

    monkeypatch.setattr(fake_api, "create_context", create_context)
    monkeypatch.setattr(fake_api, "stored_kernels", lambda cache: b"kernels")
    with load() as session:
        session.bind(picture(4, 6))
        path = session._kernels_path()
    assert (given, path.read_bytes(), path.parent) == ([b""], b"kernels", tmp_path / "plans")


def test_a_given_plan_runs_in_the_profile_that_takes_the_size(fake_api, cuda, tmp_path):
    path = tmp_path / "given.plan"
    sizes = [((4, 6), (4, 6)), ((8, 8), (16, 16))]
    path.write_text(json.dumps({"profile": sizes[0], "profiles": sizes}))
    profiles = tuple(session_file.Profile(least, least, most) for least, most in sizes)
    given = session_file.GivenPlan(path, "ab", profiles)
    complete = {s.name: s.default for s in settings_of(fake_api)}
    graph = Graph("", "", "", "", {}, "onnx", upscale=2)
    with TrtSession(fake_api, graph, Options("cuda:0", "fp32", 1, complete), given) as session:
        for size in ((8, 12), (4, 6), (16, 9), (4, 6)):
            x = picture(*size)
            assert np.array_equal(session.run({"x": x})["y"], doubled(x))
        with pytest.raises(UserError, match=r"an input of 7x6. Expected one of 6x4 to 6x4, 8x8 to 16x16"):
            session.bind(picture(6, 7))
        assert session.contract["plan_sha256"] == "ab"

"""A session on a device: numbers, buffers, events, captures and new weights, over host memory and real arithmetic."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from engines.engine import Options
from engines.onnxruntime import ENGINE
from engines.ort.device_session import CAPTURING_RUNS
from export.picture_graph import picture_network
from reference_models import get
from reference_models.colour import picture_from_tensor, tensor_from_picture
from tests.engines.ort.conftest import HostSession


def difference(got, wanted):
    assert got.shape == wanted.shape
    assert got.dtype == np.float32
    return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


def parts(fake_cuda, kind):
    return sum(1 for what, _ in fake_cuda.live.values() if what == kind)


@pytest.mark.parametrize(("statistics", "memory"), [("image", "pinned"), ("frozen", "pageable")])
def test_every_size_that_is_bound_gives_torchs_numbers(host, networks, request, statistics, memory):
    expected, picture = map(request.getfixturevalue, ("expected", "picture"))
    pictures = [picture(24, 40, 1), picture(17, 31, 2), picture(24, 40, 3), picture(24, 40, 4)]
    with host(networks[statistics].main, host_memory=memory) as session:
        outputs = [session.run({"x": x})["y"] for x in pictures]
        assert session.opened == [(1, 3, 24, 40)]  # one for all sizes
    for x, y in zip(pictures, outputs, strict=True):
        assert difference(y, expected(statistics, x)) < 1e-4


@pytest.mark.parametrize("capture", ["off", "on"])
def test_a_graph_on_pictures_takes_and_gives_bytes(host, networks, cache, fake_cuda, capture):
    spec, network = get("can24"), networks["frozen"]
    on_pictures = picture_network(network, spec, cache).main
    with host(on_pictures, capture=capture) as session, ENGINE.load(network.main, Options()) as plain:
        for seed, size in enumerate(((12, 20), (9, 14), (12, 20))):
            seen = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
            got = session.run({"picture": seen})["result"]
            y = plain.run({"x": tensor_from_picture(seen, spec)})["y"]
            assert (got.dtype, got.shape) == (np.uint8, seen.shape)
            np.testing.assert_array_equal(got, picture_from_tensor(y, spec, seen))
        assert "uint8" in session.contract["ends"]
        sizes = [memory[1] for kind, memory in fake_cuda.live.values() if kind == "device"]
        assert sizes == [12 * 20 * 3] * 2


def test_buffers_stay_for_as_long_as_the_shape_does(host, networks, picture, fake_cuda):
    with host(networks["frozen"].main) as session:
        places = []
        for x in (picture(12, 20), picture(12, 20, 2), picture(8, 20)):
            session.bind(x)
            places.append((session._x, session._y))
            assert (parts(fake_cuda, "device"), parts(fake_cuda, "pinned")) == (2, 2)
        assert places[0] == places[1]
        assert len(session.opened) == 1
    assert fake_cuda.live == {}


def test_pageable_copies_take_no_page_locked_memory(host, networks, picture, fake_cuda):
    with host(networks["frozen"].main, host_memory="pageable") as session:
        session.bind(picture(12, 20))
        assert (parts(fake_cuda, "device"), parts(fake_cuda, "pinned")) == (2, 0)
        assert session.contract["host_memory"] == "pageable"


def test_an_output_whose_size_the_graph_does_not_declare_is_found_by_a_run(host, enlarger, picture):
    x = picture(9, 14)
    with host(enlarger) as session, ENGINE.load(enlarger, Options()) as plain:
        assert session.run({"x": x})["y"].shape == (1, 3, 18, 28)
        assert difference(session.read(), plain.run({"x": x})["y"]) < 1e-6
        assert session.run({"x": picture(5, 6)})["y"].shape == (1, 3, 10, 12)


def test_a_run_that_finds_the_size_neither_captures_nor_replays(host, enlarger, picture, monkeypatch):
    seen = []
    real = ort.InferenceSession.run_with_iobinding

    def noted(self, binding, run_options=None):
        try:
            seen.append(run_options.get_run_config_entry("gpu_graph_id"))
        except RuntimeError:
            seen.append(None)
        assert run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        return real(self, binding, run_options)

    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", noted)
    with host(enlarger, capture="on") as session:
        session.bind(picture(5, 6))
        session.enqueue()
    assert seen == ["-1"] + [None] * (CAPTURING_RUNS + 1)


def test_events_stand_around_copies_and_the_inference_alone(host, networks, picture, fake_cuda):
    with host(networks["frozen"].main) as session:
        assert session.asynchronous
        session.bind(picture(8, 12))
        assert session.runs == 0  # the first run is the cold one that is timed
        fake_cuda.calls.clear()
        session.enqueue()
        assert fake_cuda.calls == ["event", "event"]  # and nobody waited
        session.synchronize()
        session.read()
        assert session.device_ms() == {"h2d": 1.5, "compute": 1.5, "d2h": 1.5}


@pytest.mark.parametrize("capture", ["off", "on"])
def test_a_replay_that_waits_is_not_timed_apart(host, networks, picture, fake_cuda, capture):
    class Waiting(HostSession):
        def _replay_waits(self):
            return True

    apart = capture == "off"
    with host(networks["frozen"].main, kind=Waiting, capture=capture) as session:
        session.bind(picture(8, 12))
        fake_cuda.calls.clear()
        session.enqueue()
        assert fake_cuda.calls == ["event", "event"] * apart
        session.synchronize()
        assert session.read().any()
        assert set(session.device_ms()) == {"h2d", "d2h"} | ({"compute"} if apart else set())
        assert session.asynchronous is apart
        assert (session.contract["synchronisation"] == "the library waits for the device in every replay") != apart
        assert session.contract["graph_capture"] != apart


def test_a_capture_is_made_while_binding_and_again_for_another_shape(host, networks, expected, picture):
    first, other = picture(12, 20), picture(8, 20)
    with host(networks["frozen"].main, capture="on") as session:
        assert session.contract["graph_capture"] is True
        for x in (first, picture(12, 20, 2)):
            session.bind(x)
            assert session.runs == CAPTURING_RUNS
            assert session.opened == [first.shape]
        session.bind(other)
        assert session.runs == 2 * CAPTURING_RUNS
        assert session.opened == [first.shape, other.shape]
        assert difference(session.run({"x": first})["y"], expected("frozen", first)) < 1e-4
        assert session.opened == [first.shape, other.shape, first.shape]


def test_after_a_failure_a_captured_session_is_not_used_with_other_buffers(host, networks, picture, fake_cuda):
    with host(networks["frozen"].main, capture="on") as session:
        session.bind(picture(12, 20))
        fake_cuda.full = True
        with pytest.raises(MemoryError):
            session.bind(picture(8, 20))
        fake_cuda.full = False
        session.bind(picture(12, 20))
        assert len(session.opened) == 3
        assert session.run({"x": picture(12, 20)})["y"].any()
    assert fake_cuda.live == {}


def test_a_session_for_one_shape_is_opened_anew_for_another(host, networks, picture):
    class Fixed(HostSession):
        per_shape = True
        least_runs = 1

    with host(networks["frozen"].main, kind=Fixed) as session:
        for height, runs in ((8, 1), (8, 1), (9, 2), (8, 3)):
            session.bind(picture(height, 10))
            assert session.runs == runs
        assert [shape[2] for shape in session.opened] == [8, 9, 8]


def test_new_weights_leave_a_session_of_its_shape(host, networks, picture):
    class Fixed(HostSession):
        per_shape = True

    names = networks["thumbnail"].refit_rule[0]
    with host(networks["thumbnail"].main, names, kind=Fixed) as session:
        session.refit({names[1]: np.zeros(24, np.float32)})  # nothing to open yet
        assert session.opened == []
        session.bind(picture(8, 10))
        session.refit({names[1]: np.ones(24, np.float32)})
        session.bind(picture(9, 10))
        assert [shape[2] for shape in session.opened] == [8, 8, 9]


def test_new_weights_after_a_bind_that_failed_wait_for_the_next(host, networks, picture, fake_cuda):
    class Fixed(HostSession):
        per_shape = True

    graph, x, names = networks["thumbnail"].main, picture(8, 10), networks["thumbnail"].refit_rule[0]
    new = {names[1]: np.ones(24, np.float32)}
    with host(graph, names, kind=Fixed) as session, ENGINE.load(graph, Options(refittable=names)) as plain:
        fake_cuda.full = True
        with pytest.raises(MemoryError):
            session.bind(x)
        fake_cuda.full = False
        session.refit(new)
        assert session.opened == [x.shape]
        plain.refit(new)
        assert difference(session.run({"x": x})["y"], plain.run({"x": x})["y"]) < 1e-6
        assert session.opened == [x.shape] * 2


def test_after_new_weights_that_failed_the_next_bind_opens_a_session(host, networks, picture):
    class Broken(HostSession):
        breaks = False

        def _new_session(self, shape):
            if self.breaks:
                raise MemoryError
            return super()._new_session(shape)

    x, names = picture(8, 10), networks["thumbnail"].refit_rule[0]
    with host(networks["thumbnail"].main, names, kind=Broken) as session:
        session.bind(x)
        session.breaks = True
        with pytest.raises(MemoryError):
            session.refit({names[1]: np.ones(24, np.float32)})
        session.breaks = False
        assert session.run({"x": x})["y"].any()


@pytest.mark.parametrize("when", ["before", "after"])
def test_new_weights_give_what_they_give_on_the_cpu(host, networks, picture, when):
    graph, x = networks["thumbnail"].main, picture(10, 16)
    names = tuple(name for pair in networks["thumbnail"].refit_rule for name in pair)
    new = {names[1]: np.full(24, 25.0, np.float32)}
    with (
        host(graph, names, capture="on") as session,
        ENGINE.load(graph, Options(refittable=names)) as plain,
    ):
        assert session.contract["graph_capture"] is False  # every picture would want a capture of its own
        if when == "before":
            session.refit(new)
            session.bind(x)
        else:
            session.bind(x)
            session.enqueue()
            before = session.read()
            session.refit(new)
        session.enqueue()
        plain.refit(new)
        assert difference(session.read(), plain.run({"x": x})["y"]) < 1e-6
        if when == "after":
            assert difference(session.read(), before) > 1e-3
        with pytest.raises(ValueError, match=r"has no initializer '.*' of shape \(23,\)"):
            session.refit({names[1]: np.zeros(23, np.float32)})


def test_the_cache_is_emptied_where_that_is_asked_for(host, networks, picture, fake_cuda):
    for l2, times in (("warm", 0), ("flushed", 1)):
        with host(networks["frozen"].main, l2=l2) as session:
            session.bind(picture(8, 8))
            fake_cuda.calls.clear()
            session.prepare()
            assert fake_cuda.calls.count("memset") == times
            assert session.contract["l2_state"].startswith("emptied") == (times == 1)


def test_a_session_of_another_provider_is_refused(host, networks, picture):
    class Lost(HostSession):
        provider = "CUDAExecutionProvider"

        def _new_session(self, shape):
            return ort.InferenceSession(self._source(), providers=["CPUExecutionProvider"])

    with (
        host(networks["frozen"].main, kind=Lost) as session,
        pytest.raises(RuntimeError, match="did not start CUDAExecutionProvider; it offers"),
    ):
        session.bind(picture(8, 8))


def test_a_session_that_did_not_record_its_nodes_is_refused(host, networks, picture):
    class Silent(HostSession):
        def _new_session(self, shape):
            return ort.InferenceSession(self._source(), providers=["CPUExecutionProvider"])

    with host(networks["frozen"].main, kind=Silent) as session, pytest.raises(Fail, match="must be set to"):
        session.bind(picture(8, 8))


def test_the_contract_names_what_a_latency_contains(host, networks):
    with host(networks["frozen"].main) as session:
        assert set(session.contract) == {
            *("transfers", "graph_capture", "synchronisation", "streams", "l2_state", "threads", "host_memory")
        }

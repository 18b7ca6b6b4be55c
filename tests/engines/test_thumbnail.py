"""Networks whose statistics come from a thumbnail: two sessions that act as one."""

from __future__ import annotations

import numpy as np
import pytest

import engines
from engines.engine import Engine, Options, Session
from engines.thumbnail import ThumbnailSession, load_network
from reference_models.errors import UserError


def options(name="onnxruntime", **more):
    return Options(threads=1, settings=engines.get(name).complete_settings({}), **more)


@pytest.fixture
def session(networks):
    with load_network(engines.get("onnxruntime"), networks["thumbnail"], options()) as session:
        yield session


@pytest.mark.parametrize("statistics", ["image", "frozen"])
def test_other_networks_are_plain_sessions(networks, statistics):
    with load_network(engines.get("onnxruntime"), networks[statistics], options()) as session:
        assert not isinstance(session, ThumbnailSession)
        assert "statistics" not in session.contract


def test_every_picture_is_normalised_by_its_own_thumbnail(session, expected, picture):
    dark, bright = 0.3 * picture(32, 44, 1), picture(32, 44, 2)
    for x in (dark, bright, dark):  # nothing is left over from the picture before
        wanted = expected("thumbnail", x)
        assert np.abs(session.run({"x": x})["y"] - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())


def test_new_content_of_a_bound_input_has_new_statistics(session, expected, picture):
    x = picture(32, 44, 1)
    session.run({"x": x})
    x *= np.float32(0.3)
    session.enqueue()  # the input is bound without a copy
    session.synchronize()
    wanted = expected("thumbnail", x)
    assert np.abs(session.read() - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())


def test_scales_do_not_pile_up(session, picture):
    session.bind(picture(20, 28))
    outputs = []
    for _ in range(3):
        session.enqueue()
        outputs.append(session.read())
    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[0], outputs[2])


def test_a_batch_is_refused_in_three_parts(session):
    with pytest.raises(UserError, match=r"got \(2, 3, 8, 8\).*Expected \(1, 3, H, W\).*run pictures one by one\."):
        session.bind(np.zeros((2, 3, 8, 8), np.float32))


def test_it_refits_itself_alone(networks):
    opened = load_network(engines.get("onnxruntime"), networks["thumbnail"], options(refittable=("last.bias",)))
    with opened as session, pytest.raises(ValueError, match="refits itself"):
        session.refit({"last.bias": np.zeros(3, np.float32)})


def test_the_contract_says_that_all_of_it_is_timed(session):
    assert session.contract["statistics"] == "thumbnail, folding and new weights are in every inference"
    assert {"transfers", "threads", "streams"} <= set(session.contract)


class Recording(Engine):
    """Writes down what is asked of its sessions, in one list."""

    name = title = install = "recording"
    precisions = {"cpu": ("fp32",)}  # noqa: RUF012

    def __init__(self):
        self.calls, self.loaded = [], []

    def missing(self):
        return None

    def version(self):
        return ""

    def _load(self, graph, options):
        self.loaded.append((graph.role, options))
        return RecordingSession(graph, options, self.calls)


class RecordingSession(Session):
    def __init__(self, graph, options, calls):
        super().__init__(graph, options)
        self.role, self.calls, self.contract = graph.role, calls, {}

    def _bind(self, x):
        self.calls.append((self.role, "bind"))

    def prepare(self):
        self.calls.append((self.role, "prepare"))

    def _enqueue(self):
        self.calls.append((self.role, "enqueue"))

    def _synchronize(self):
        self.calls.append((self.role, "synchronize"))

    def _read(self):
        return np.stack([np.full((8, 24), 2), np.full((8, 24), 5)], 1).astype(np.float32)

    def _refit(self, tensors):
        self.calls.append((self.role, "refit"))
        self.tensors = tensors

    def _close(self):
        self.calls.append((self.role, "close"))


def test_what_comes_before_an_inference_reaches_the_session_that_its_contract_speaks_of(networks):
    engine = Recording()
    session = load_network(engine, networks["thumbnail"], Options(threads=4))
    engine.calls.clear()
    session.prepare()
    assert engine.calls == [("folded", "prepare")]


def test_one_inference_is_thumbnail_then_refit_then_main(networks):
    engine = Recording()
    session = load_network(engine, networks["thumbnail"], Options(threads=4))
    session.bind(np.zeros((1, 3, 8, 8), np.float32))
    engine.calls.clear()
    session.enqueue()
    small, main = "thumbnail_affines", "folded"
    assert engine.calls == [(small, "enqueue"), (small, "synchronize"), (main, "refit"), (main, "enqueue")]
    session.synchronize()
    assert engine.calls[-1] == (main, "synchronize")
    session.close()
    assert set(engine.calls[-2:]) == {(small, "close"), (main, "close")}


def test_scale_goes_to_the_weight_as_published_and_offset_is_the_bias(networks):
    from safetensors.numpy import load_file

    network = networks["thumbnail"]
    session = load_network(Recording(), network, Options())
    session.bind(np.zeros((1, 3, 8, 8), np.float32))
    session.enqueue()
    session.enqueue()
    base = load_file(network.main.state_path)
    tensors = session._main.tensors
    assert set(tensors) == {name for pair in network.refit_rule for name in pair}
    for weight, bias in network.refit_rule:
        assert np.array_equal(tensors[weight], 2 * base[weight])
        assert np.array_equal(tensors[bias], np.full(24, 5))


def test_the_main_graph_alone_is_refittable(networks):
    engine = Recording()
    load_network(engine, networks["thumbnail"], Options(threads=4))
    refittable = {role: set(options.refittable) for role, options in engine.loaded}
    assert refittable["thumbnail_affines"] == set()
    assert refittable["folded"] == {name for pair in networks["thumbnail"].refit_rule for name in pair}
    assert {options.threads for _, options in engine.loaded} == {4}

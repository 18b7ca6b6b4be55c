"""The checks that Engine and Session make once for every back end, on a double that computes 2 x."""

from __future__ import annotations

import numpy as np
import pytest

from engines.engine import CPU_CONTRACT, CUDA_CONTRACT, Engine, Options, Session, Setting
from export.network import Graph
from reference_models.errors import UserError

GRAPH = Graph("/none.onnx", "", "/none.safetensors", "p:C", {}, "published")
X = np.ones((1, 3, 2, 4), np.float32)


class Double(Session):
    def __init__(self, graph, options):
        super().__init__(graph, options)
        self.contract = CPU_CONTRACT
        self.calls = []

    def _bind(self, x):
        self.calls.append("bind")
        self.x = x

    def _enqueue(self):
        self.calls.append("enqueue")
        self.y = 2 * self.x

    def _synchronize(self):
        self.calls.append("synchronize")

    def _read(self):
        return self.y

    def _refit(self, tensors):
        self.calls.append("refit")

    def _close(self):
        self.calls.append("close")


class Doubling(Engine):
    name = "doubling"
    title = "twice"
    install = "pip install doubling"
    precisions = {"cpu": ("fp32", "bf16"), "cuda": ("fp16",)}  # noqa: RUF012
    settings = (Setting("layout", "rows", ("rows", "columns"), "…"), Setting("free", "a", (), "any word"))
    reason = None

    def missing(self):
        return self.reason

    def version(self):
        return "1"

    def device_missing(self, device):
        return f"no {device}" if device == "cuda:7" else None

    def _load(self, graph, options):
        return Double(graph, options)


class Bare(Doubling):
    name = "bare"
    settings = ()


@pytest.fixture
def session():
    return Doubling().load(GRAPH, Options(refittable=("w",)))


# Engine


def test_a_usable_engine_loads():
    assert isinstance(Doubling().load(GRAPH, Options(precision="bf16")), Double)
    assert isinstance(Doubling().load(GRAPH, Options("cuda:0", "fp16")), Double)


def test_an_engine_that_is_missing_says_why_and_how_to_get_it():
    engine = Doubling()
    engine.reason = "its library is not installed"
    with pytest.raises(UserError, match=r"engine `doubling`: its library is not installed\. .*pip install doubling"):
        engine.load(GRAPH, Options())


def test_a_device_that_is_missing_is_named():
    with pytest.raises(UserError, match="engine `doubling`: no cuda:7"):
        Doubling().load(GRAPH, Options("cuda:7", "fp16"))


def test_a_precision_is_never_replaced_by_another():
    with pytest.raises(UserError, match=r"engine `doubling`: no int8 on cpu, only fp32, bf16\. Expected a precision"):
        Doubling().load(GRAPH, Options(precision="int8"))
    with pytest.raises(UserError, match=r"no fp32 on cuda, only fp16\."):
        Doubling().load(GRAPH, Options("cuda:0", "fp32"))
    with pytest.raises(UserError, match=r"does not run on tpu\. Expected a precision and device"):
        Doubling().load(GRAPH, Options("tpu:0"))


def test_settings_are_completed_in_their_order():
    assert Doubling().complete_settings({"free": "b"}) == {"layout": "rows", "free": "b"}
    assert Bare().complete_settings({}) == {}


def test_a_misspelt_setting_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"`--set doubling.layuot=rows`.*one of layout, free\. Did you mean layout\?"):
        Doubling().complete_settings({"layuot": "rows"})
    with pytest.raises(UserError, match="`bench engines --settings` describes them"):
        Doubling().complete_settings({"zzz": "rows"})
    with pytest.raises(UserError, match="none: it has no settings"):
        Bare().complete_settings({"layout": "rows"})


def test_a_value_that_a_setting_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"`--set doubling.layout=row`: not a value.*Expected rows, columns\."):
        Doubling().complete_settings({"layout": "row"})


def test_by_default_an_engine_needs_no_environment():
    assert Doubling().environment({}) == {}


# Session


def test_run_binds_runs_waits_and_reads(session):
    assert np.array_equal(session.run({"x": X})["y"], 2 * X)
    assert session.calls == ["bind", "enqueue", "synchronize"]


def test_nothing_reaches_the_engine_before_an_input_is_bound(session):
    with pytest.raises(UserError, match="run before any input was bound"):
        session.enqueue()
    assert session.calls == []


@pytest.mark.parametrize("x", [X[0], X.astype(np.float16), X[:, :, :0]], ids=["rank", "dtype", "empty"])
def test_a_wrong_input_never_reaches_the_engine(session, x):
    with pytest.raises(UserError, match="float32 without empty axes"):
        session.bind(x)
    assert session.calls == []


def test_as_many_planes_as_the_graph_says_and_no_others():
    graph = Graph("/none.onnx", "", "/none.safetensors", "p:C", {}, "published", planes=13)
    with Doubling().load(graph, Options()) as session:
        with pytest.raises(UserError, match=r"got \(1, 3, 2, 4\) float32\. Expected \(1, 13, H, W\) float32"):
            session.bind(X)
        session.bind(np.ones((1, 13, 2, 4), np.float32))


def test_an_engine_sees_contiguous_arrays_only(session):
    session.bind(np.arange(48, dtype=np.float32).reshape(1, 4, 3, 4).transpose(0, 2, 1, 3)[..., ::-1])
    assert session.x.flags.c_contiguous
    assert session.x[0, 1, 2, 0] == 2 * 12 + 1 * 4 + 3


def test_a_contiguous_array_is_bound_without_a_copy(session):
    session.bind(X)
    assert np.shares_memory(session.x, X)


def test_what_was_read_is_the_callers_own(session):
    session.run({"x": X})
    first = session.read()
    first[:] = 0
    assert np.array_equal(session.read(), 2 * X)


def test_refit_takes_the_names_of_the_options_alone(session):
    with pytest.raises(ValueError, match=r"not refittable: a, v; name them in Options\.refittable"):
        session.refit({"v": X, "w": X, "a": X})
    assert session.calls == []
    session.refit({"w": X})
    assert session.calls == ["refit"]


def test_a_session_is_closed_even_on_error():
    with pytest.raises(ZeroDivisionError), Doubling().load(GRAPH, Options()) as session:
        raise ZeroDivisionError
    assert session.calls == ["close"]


def test_both_contracts_answer_the_same_questions():
    assert set(CPU_CONTRACT) == set(CUDA_CONTRACT)
    assert {"transfers", "graph_capture", "synchronisation", "streams", "l2_state"} == set(CPU_CONTRACT)


def test_an_engine_that_cannot_tell_times_of_layers_says_so_before_anything_is_built():
    assert not Doubling.tells_layer_times
    assert Doubling().layer_times(GRAPH, Options(), X) is None


def test_a_setting_for_a_gpu_is_refused_on_the_cpu_alone():
    class OnDevices(Doubling):
        cuda_only = {"layout": "rows"}  # noqa: RUF012

    with pytest.raises(UserError) as error:
        OnDevices().load(GRAPH, Options(settings={"layout": "columns"}))
    assert error.value.what == "`doubling:layout=columns`: on the CPU there is none"
    assert error.value.expected == "layout=rows"
    for engine, device in ((OnDevices(), "cuda:0"), (Doubling(), "cpu")):
        engine.check_settings(device, {"layout": "columns", "free": "a"})

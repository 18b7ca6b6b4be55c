"""Layer times and facts; the library is a double."""

from __future__ import annotations

import json
import types

import pytest

from engines.trt.layers import kinds_of, layer_facts, layer_times_ms


def test_times_of_one_layer_are_summed_and_the_profiler_makes_no_enqueue_wait():
    trt = types.SimpleNamespace(IProfiler=type("IProfiler", (), {"__init__": lambda self: None}))
    order = []

    class Context:
        profiler = None
        enqueue_emits_profile = True

        def execute_async_v3(self, stream):
            assert stream == 7
            assert self.profiler is not None
            assert not self.enqueue_emits_profile
            order.append("execute")
            return True

        def report_to_profiler(self):
            order.append("report")
            for name, ms in (("b", 1.0), ("a", 2.0), ("b", 0.5)):
                self.profiler.report_layer_time(name, ms)
            return True

    device = types.SimpleNamespace(stream=7, synchronize=lambda: order.append("synchronize"))
    assert list(layer_times_ms(trt, Context(), device).items()) == [("b", 1.5), ("a", 2.0)]
    assert order == ["execute", "synchronize", "report"]


@pytest.mark.parametrize(
    ("told", "facts"),
    [
        ({"Layers": ["a", {"Name": "b", "LayerType": "conv"}]}, [{"Name": "a"}, {"Name": "b", "LayerType": "conv"}]),
        ({}, []),
    ],
)
def test_a_plan_with_names_only_tells_names(told, facts):
    trt = types.SimpleNamespace(LayerInformationFormat=types.SimpleNamespace(JSON="json"))
    inspector = types.SimpleNamespace(get_engine_information=lambda form: json.dumps(told) if form == "json" else "")
    assert layer_facts(trt, types.SimpleNamespace(create_engine_inspector=lambda: inspector)) == facts


def test_what_a_layer_is_in_the_library_s_words_where_it_tells():
    whole = {"Name": "a", "LayerType": "conv", "Outputs": [{"Name": "y", "Format/Datatype": "Int8"}]}
    facts = [whole, {"Name": "b", "LayerType": "conv", "Outputs": []}, {"Name": "c"}, {"Name": "d", "Outputs": ["y"]}]
    assert kinds_of(facts) == {"a": "conv, Int8", "b": "conv", "c": "", "d": ""}


@pytest.mark.parametrize(
    ("ran", "reported", "told"), [(False, True, [("a", 1.0)]), (True, False, []), (True, True, [])]
)
def test_a_profiler_that_tells_nothing_is_an_error_and_no_empty_list(ran, reported, told):
    trt = types.SimpleNamespace(IProfiler=type("IProfiler", (), {"__init__": lambda self: None}))

    class Context:
        profiler = None

        def execute_async_v3(self, stream):
            return ran

        def report_to_profiler(self):
            for name, ms in told:
                self.profiler.report_layer_time(name, ms)
            return reported

    with pytest.raises(RuntimeError, match="tells the time of no layer"):
        layer_times_ms(trt, Context(), types.SimpleNamespace(stream=7, synchronize=lambda: None))

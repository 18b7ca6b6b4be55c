"""The environment variable that decides on TF32 where there is no option: what it does to the real library's plans."""

from __future__ import annotations

import os
import threading

import pytest

from engines.ort.tf32 import OVERRIDE, tf32, tf32_missing


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_it_says_no_by_0_and_yes_by_its_absence_and_leaves_the_environment_as_it_was(monkeypatch, before):
    monkeypatch.delenv(OVERRIDE, raising=False)
    if before is not None:
        monkeypatch.setenv(OVERRIDE, before)
    for allowed, word in ((False, "0"), (True, None)):
        with tf32(allowed):
            assert os.environ.get(OVERRIDE) == word
        assert os.environ.get(OVERRIDE) == before
        with pytest.raises(KeyError), tf32(allowed):
            raise KeyError
        assert os.environ.get(OVERRIDE) == before


def test_a_user_who_forbids_tf32_gets_none(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    assert tf32_missing() is None
    monkeypatch.setenv(OVERRIDE, "0")
    assert tf32_missing() == "NVIDIA_TF32_OVERRIDE=0 in the environment forbids TF32"


def test_a_second_thread_waits_until_the_first_has_built(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    inside, seen = threading.Event(), []

    def other():
        inside.wait()
        seen.append(tf32_missing())
        with tf32(True):
            seen.append(os.environ.get(OVERRIDE))

    thread = threading.Thread(target=other)
    thread.start()
    with tf32(False):
        inside.set()
        thread.join(0.5)  # without a lock it is through by then
        assert (os.environ.get(OVERRIDE), seen) == ("0", [])
    thread.join()
    assert seen == [None, None]
    assert OVERRIDE not in os.environ


def test_one_thread_may_ask_within_itself(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    with tf32(False):
        with tf32(True):
            assert OVERRIDE not in os.environ
        assert os.environ[OVERRIDE] == "0"


def test_the_librarys_plan_is_then_the_one_with_tf32_cleared(enlarger, monkeypatch):
    """The provider leaves the builder's flag as it is, which is on; the library reads the variable at every build."""
    import engines

    if reason := engines.get("tensorrt_rtx").missing():
        pytest.skip(f"tensorrt_rtx: {reason}")
    import tensorrt_rtx as trt

    from engines.trt.reporting import Messages, new_logger

    messages = Messages()
    logger = new_logger(trt, messages)

    def plan(allowed, cleared):
        with tf32(allowed):
            builder = trt.Builder(logger)
            network = builder.create_network(0)
            parser = trt.OnnxParser(network, logger)
            assert parser.parse_from_file(enlarger.onnx_path)
            config = builder.create_builder_config()
            profile = builder.create_optimization_profile()
            profile.set_shape("x", (1, 3, 16, 16), (1, 3, 16, 16), (1, 3, 16, 16))
            config.add_optimization_profile(profile)
            assert config.get_flag(trt.BuilderFlag.TF32)
            if cleared:
                config.clear_flag(trt.BuilderFlag.TF32)
            return bytes(builder.build_serialized_network(network, config))

    monkeypatch.delenv(OVERRIDE, raising=False)
    assert plan(True, cleared=False) != plan(True, cleared=True)
    assert plan(False, cleared=False) == plan(False, cleared=True)
    assert any("Disabling TF32" in warning for warning in messages.warnings)
    assert plan(True, cleared=False) != plan(False, cleared=False)

"""torch_compile: needs a compiler and says so; computes what torch_eager computes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from engines.engine import Options
from engines.torch_compile import ENGINE
from engines.torch_eager import ENGINE as EAGER
from reference_models.errors import UserError


@pytest.fixture
def options():
    if reason := ENGINE.missing():
        pytest.skip(reason)
    yield Options(threads=2, settings=ENGINE.complete_settings({}))
    torch._dynamo.reset()


def test_without_a_compiler_it_is_not_usable(networks, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert ENGINE.missing() == "inductor needs a C++ compiler, and none is on the PATH"
    with pytest.raises(UserError, match=r"engine `torch_compile`: inductor needs .*g\+\+"):
        ENGINE.load(networks["frozen"].main, Options(settings=ENGINE.complete_settings({})))


@pytest.mark.parametrize("compiler", ["g++", "c++", "clang++"])
def test_any_of_three_compilers_will_do(monkeypatch, compiler):
    if EAGER.missing():
        pytest.skip(EAGER.missing())
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == compiler else None)
    assert ENGINE.missing() is None


def test_it_is_torch_eager_in_everything_but_the_compiling():
    assert ENGINE.version() == EAGER.version()
    assert ENGINE.precisions == EAGER.precisions
    assert ENGINE.settings == EAGER.settings
    settings = ENGINE.complete_settings({})
    assert ENGINE.environment(settings) == EAGER.environment(settings)
    assert ENGINE.device_missing("cuda:99") == EAGER.device_missing("cuda:99")


def test_a_compiled_network_equals_torch_and_takes_new_weights(networks, expected, picture, options, monkeypatch):
    from dataclasses import replace

    compiled = []
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **more: compiled.append(more) or compile_(module, **more))
    x = picture(24, 32)
    with ENGINE.load(networks["frozen"].main, replace(options, refittable=("last.bias",))) as session:
        before = session.run({"x": x})["y"]
        session.refit({"last.bias": np.zeros(3, np.float32)})
        session.enqueue()
        after = session.read()
    assert compiled == [{"dynamic": False, "fullgraph": True}]
    assert np.abs(before - expected("frozen", x)).max() < 1e-4
    moved = (before - after)[0].reshape(3, -1)
    assert np.abs(moved).min() > 0.1  # the random biases are 0.4 to 0.6
    assert np.allclose(moved, moved[:, :1], atol=1e-5)

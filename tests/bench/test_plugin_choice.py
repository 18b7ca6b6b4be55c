"""Words of `--engine` with and without own kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.plugin_choice import CHOICES, plugin_choices, with_plugins
from reference_models.errors import UserError

Command = Callable[..., Any]


def test_on_and_off_are_two_variants_of_every_engine_that_has_them() -> None:
    assert with_plugins(["torch_eager", "onnxruntime", "torch_compile:graph=on"], ["on", "off"]) == [
        *("torch_eager:plugins=on", "torch_eager:plugins=off", "onnxruntime"),
        *("torch_compile:graph=on:plugins=on", "torch_compile:graph=on:plugins=off"),
    ]
    assert with_plugins(["tensorrt:plugins=on", "tensorrt"], ["off"]) == ["tensorrt:plugins=on", "tensorrt:plugins=off"]
    assert with_plugins(["onnxruntime"], []) == ["onnxruntime"]
    assert with_plugins([], []) == []


def test_tensorrt_and_torch_have_kernels_of_ours() -> None:
    names = ("tensorrt", "torch_eager", "torch_compile", "tensorrt_rtx", "onnxruntime")
    assert [plugin_choices(name) for name in names] == [("off", "on", "picture"), *[("off", "on")] * 2, (), ()]
    assert set().union(*map(plugin_choices, names)) == set(CHOICES)


def test_a_choice_is_for_those_that_have_it() -> None:
    assert with_plugins(["tensorrt:ends=picture", "torch_eager"], ["off", "picture"]) == [
        *("tensorrt:ends=picture:plugins=off", "tensorrt:ends=picture:plugins=picture", "torch_eager:plugins=off"),
    ]
    assert with_plugins(["torch_eager", "tensorrt"], ["picture"]) == ["torch_eager", "tensorrt:plugins=picture"]


@pytest.mark.parametrize(
    ("words", "asked", "named"),
    [
        (["tensorrt"], ["yes"], "`--plugins yes`"),
        (["onnxruntime"], ["on"], "which engine's.*tensorrt, torch_compile, torch_eager"),
        ([], ["on", "off"], "which engine's"),
        (["torch_eager"], ["on", "picture"], "`--plugins picture`: which engine's.*one of tensorrt"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], asked: list[str], named: str) -> None:
    with pytest.raises(UserError, match=named):
        with_plugins(words, asked)


def test_what_means_nothing_on_this_device_is_refused_before_anything_is_done(command: Command) -> None:
    words = (
        "run",
        "--model",
        "can24",
        "--res",
        "64x48",
        "--device",
        "cpu",
        "--engine",
        "torch_eager",
        "--plugins",
        "on",
    )
    outcome = command(*words)
    outcome.assert_refused("`torch_eager:plugins=on`: on the CPU there is none", "plugins=off")
    assert "prepare" not in outcome.err

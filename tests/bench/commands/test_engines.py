"""`bench engines`: what is usable here, and what makes the rest usable."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import engines

Command = Callable[..., Any]


def test_every_engine_has_its_line_with_version_and_precisions(command: Command) -> None:
    outcome = command("engines")
    assert (outcome.code, outcome.err) == (0, "")
    for engine in map(engines.get, engines.names()):
        usable = "no" if engine.missing() else "yes"
        (line,) = [line for line in outcome.out.splitlines() if re.match(rf"{engine.name} +{usable} ", line)]
        assert all(f"{kind}: fp32" in line for kind in engine.precisions)
        if usable == "yes":
            assert engine.version() in line


def test_an_engine_that_is_not_usable_says_why_and_what_would_help(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engines.get("openvino")), "missing", lambda _: "Python package `openvino` is [not] here")
    text = " ".join(command("engines").out.split())
    assert re.search(r"openvino no ", text)
    assert "Python package `openvino` is [not] here" in text
    assert "pip install" in text


def test_settings_are_listed_with_their_values(command: Command) -> None:
    assert "--set" not in command("engines").out
    text = " ".join(command("engines", "--settings").out.split())
    for engine in map(engines.get, engines.names()):
        for setting in engine.settings:
            assert f"--set {engine.name}.{setting.name}=… {' '.join(setting.choices)}" in text
            assert setting.doc in text

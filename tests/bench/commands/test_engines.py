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
    lines = [" ".join(line.split()) for line in command("engines", "--settings").out.splitlines()]
    for engine in map(engines.get, engines.names()):
        for setting in engine.settings:
            others = [choice for choice in setting.choices if choice != setting.default]
            words = f"{engine.name}.{setting.name}= {' '.join([setting.default, *others])}"
            assert any(line.startswith(words) for line in lines), words
    text = " ".join(lines)
    assert "how long the builder looks for kernels; 3 is the library's own" in text

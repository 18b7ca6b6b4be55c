"""`bench doctor`: one line for each finding, exit code 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import bench.doctor
from bench.doctor import Check


def test_one_line_for_each_finding(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("a", "fine", True), Check("b", "bad", False), Check("c", "so", None)]
    monkeypatch.setattr(bench.doctor, "examine", lambda: checks)
    done = command("doctor")
    assert (done.code, done.out) == (0, "✓ a: fine\n✗ b: bad\n· c: so\n")

"""The texts of a bundle are Python, short, and name what is there."""

from __future__ import annotations

from typing import Any

import pytest

from bench.bundle_texts import RUNTIMES, example, note, triton_config

TOLD: dict[str, Any] = {
    "name": "net", "hint": "bf16", "precision": "fp32", "triton_backend": "onnxruntime", "triton_kind": "KIND_CPU",
    "plan": {"file": "model.onnx"}, "engine": {"name": "onnxruntime", "version": "onnxruntime 1.2"},
    "model": {"title": "net depth=7", "weights": None, "trained": False, "statistics": None, "licence": "MIT"},
    "inputs": [{"name": "picture", "dtype": "uint8", "shape": [-1, -1, 3]}],
    "outputs": [{"name": 'odd "name"', "dtype": "float16", "shape": [1, 3, 8, 9]}],
}  # fmt: skip


@pytest.mark.parametrize("engine", RUNTIMES)
def test_the_example_is_python_of_some_thirty_lines(engine: str) -> None:
    text = example({**TOLD, "engine": {"name": engine}})
    compile(text, "example.py", "exec")
    assert len(text.splitlines()) <= 35
    assert max(map(len, text.splitlines())) <= 120
    assert f"import {engine}" in text
    assert "HINT" not in text.replace("INFERENCE_PRECISION_HINT", "")


def test_names_are_quoted_and_types_are_triton_s() -> None:
    text = triton_config(TOLD)
    assert r'name: "odd \"name\""' in text
    assert "data_type: TYPE_FP16" in text
    assert "dims: [ 1, 3, 8, 9 ]" in text
    assert "dynamic_batching" not in text.replace("no dynamic batching", "")


def test_the_note_says_that_untrained_weights_mean_nothing() -> None:
    assert "untrained" in note(TOLD)
    assert "python example.py" not in note(TOLD)
    assert "python example.py" in note({**TOLD, "example": "example.py"})

"""The texts of a bundle are Python, short, and name what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
    assert len(text.splitlines()) <= 37
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


@pytest.mark.parametrize(
    ("bits", "kinds", "engine", "said"),
    [
        ({}, ["int8", "fp32"], "onnxruntime", "have 8 bits"),
        ({}, ["int8"], "openvino", "have 8 bits"),
        ({"weight_bits": 7}, ["int8"], "onnxruntime", "have 7 bits"),
        ({}, ["fp32"], "onnxruntime", ""),
        ({}, ["int8"], "tensorrt", ""),
    ],
)
def test_the_note_says_where_weights_of_8_bits_overflow(
    bits: dict[str, int], kinds: list[str], engine: str, said: str
) -> None:
    layers = {f"layer{number}": kind for number, kind in enumerate(kinds)}
    told = {**TOLD, "engine": {"name": engine, "version": "1"}, "lowering": {"layers": layers, "recipe": bits}}
    assert said in note(told)
    assert ("weights have" in note(told)) is bool(said)


def test_the_example_refuses_what_it_would_make_black_pictures_of(tmp_path: Path) -> None:
    text = example({**TOLD, "engine": {"name": "onnxruntime"}}).replace("import onnxruntime", "")
    place = tmp_path / "example.py"
    place.write_text(text)
    np.save(tmp_path / "in.npy", np.zeros((4, 5, 3), np.float32))
    program = f"import sys; sys.argv[0] = {str(place)!r}; import example; import numpy as np; "
    done = subprocess.run(
        [sys.executable, "-c", program + "example.apply(None, np.load('in.npy'))"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert "uint8 RGB of (height, width, 3) is needed, not float32 (4, 5, 3)" in done.stderr
    done = subprocess.run([sys.executable, place], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (1, "usage: example.py IN.npy OUT.npy, or IN.png OUT.png with Pillow\n")

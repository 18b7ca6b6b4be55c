"""Writing weights: whole or not at all, float32, and the same bytes for the same tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reference_models import get
from reference_models.errors import UserError
from reference_models.weights import read_tensors
from reference_models.weights_file import save_weights

SPEC = get("can24")


def test_tensors_come_back_as_float32(tmp_path: Path) -> None:
    state = {"a": torch.tensor(1.5, dtype=torch.float64), "b": torch.randn(4, 3).t()}
    save_weights(tmp_path / "w.safetensors", SPEC, state)
    found = read_tensors(tmp_path / "w.safetensors")
    assert found["a"].shape == ()
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["b"], state["b"].numpy())


def test_equal_tensors_make_equal_bytes(tmp_path: Path) -> None:
    state = {name: torch.arange(5.0) for name in "abcdef"}
    for name in ("x", "y"):
        save_weights(tmp_path / f"{name}.safetensors", SPEC, state)
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the name of a safetensors file"):
        save_weights(tmp_path / "w.pt", SPEC, {})

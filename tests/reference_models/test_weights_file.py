"""Writing weights: whole or not at all, float32, and the same bytes for the same tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reference_models import get
from reference_models.errors import UserError
from reference_models.weights import read_tensors
from reference_models.weights_file import looks_whole, save_weights

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


def test_a_file_is_whole_with_all_its_bytes_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, SPEC, {"a": torch.arange(5.0), "b": torch.zeros(())})
    data = path.read_bytes()
    assert looks_whole(path)
    for other in (data[:-1], data + b"\0", data[:100], data[:5], b""):
        path.write_bytes(other)
        assert not looks_whole(path)


HEADERS = [b"", b"{", b"[]", b"{}", b'"x"', b"\xff\xff", b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": [0]}}',
           b'{"a": {"data_offsets": [0, 0]}}', b'{"a": {"data_offsets": [0, 0], "shape": [0], "dtype": "F31"}}',
           b'{"a": {"data_offsets": [0, 0], "shape": [1], "dtype": "F32"}}',
           b'{"a": {"data_offsets": [4, 4], "shape": [0], "dtype": "F32"}}',
           b'{"a": {"data_offsets": "01"}}', b'{"a": {"data_offsets": [0, null]}}', b"[" * 100_000]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: repr(header[:30]))
def test_a_header_that_is_none_is_not_whole(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert not looks_whole(path)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the name of a safetensors file"):
        save_weights(tmp_path / "w.pt", SPEC, {})

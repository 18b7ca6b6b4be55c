"""Fixtures of all tests: the reference data beside the checkout, and a writer of TensorFlow checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

_DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "uint8": 4, "float16": 19}


@pytest.fixture(scope="session")
def originals() -> Path:
    """The folder of published weights, pictures and outputs; set FULLRES_ORIGINALS where it lies elsewhere."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "originals"
    folder = Path(os.environ.get("FULLRES_ORIGINALS") or default)
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; set FULLRES_ORIGINALS to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """`write(prefix, tensors, …)` writes a TensorFlow V2 checkpoint and returns the prefix; see `_write_checkpoint`."""
    return _write_checkpoint


def _masked_crc32c(data: bytes) -> int:
    """Bit by bit, so that it shares nothing with the table of the reader."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _block(records: list[tuple[bytes, bytes]]) -> bytes:
    """Prefix-compressed records with one restart point."""
    out, last = b"", b""
    for key, value in records:
        shared = len(os.path.commonprefix([key, last]))  # noqa: RUF071 (of characters, as wanted)
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        last = key
    return out + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def _entry(tensor: np.ndarray, shard: int, offset: int) -> bytes:
    data = tensor.tobytes()
    shape = b"".join(_field(2, _field(1, side) if side else b"") for side in tensor.shape)
    numbers = _field(3, shard) + _field(4, offset) + _field(5, len(data))
    checksum = _varint(6 << 3 | 5) + _masked_crc32c(data).to_bytes(4, "little")
    return _field(1, _DTYPES[tensor.dtype.name]) + _field(2, shape) + numbers + checksum


def _write_checkpoint(
    prefix: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    shards: int = 1,
    block_records: int = 3,
    header: bytes | None = None,
    compression: int = 0,
    spoil: Callable[[bytes], bytes] = lambda block: block,
    extra_field: bytes = b"",
) -> Path:
    """Tensors go to the data files in turn.

    Args:
        block_records: records per block of the index.
        header: BundleHeaderProto to write in place of the right one.
        compression: number to write as the method of the blocks; they stay uncompressed.
        spoil: changes the bytes of every block before its checksum is taken.
        extra_field: bytes appended to every BundleEntryProto.
    """
    data = [b""] * shards
    records = [(b"", _field(1, shards) if header is None else header)]
    for i, (name, tensor) in enumerate(sorted(tensors.items())):
        shard = i % shards
        records.append((name.encode(), _entry(tensor, shard, len(data[shard])) + extra_field))
        data[shard] += tensor.tobytes()
    for shard in range(shards):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(data[shard])

    table = b""

    def append(block: bytes) -> bytes:
        nonlocal table
        block = spoil(block)
        handle = _varint(len(table)) + _varint(len(block))
        signed = block + bytes([compression])
        table += signed + _masked_crc32c(signed).to_bytes(4, "little")
        return handle

    index = []
    for start in range(0, len(records), block_records):
        chunk = records[start : start + block_records]
        index.append((chunk[-1][0] + b"~", append(_block(chunk))))
    footer = append(_block([])) + append(_block(index))
    table += footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
    Path(f"{prefix}.index").write_bytes(table)
    return prefix

"""TensorFlow V2 checkpoint (PREFIX.index, PREFIX.data-NNNNN-of-MMMMM) → NumPy arrays. Reads data only; runs nothing.

Own code, because the only well-kept reader is TensorFlow itself: 600 MB with its own protobuf pins, for a format that
has not changed since 2016. Graphs (.meta), V1 checkpoints, partitioned variables and strings are not read.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.h and tensorflow/core/protobuf/tensor_bundle.proto;
the index is a table as in https://github.com/google/leveldb/blob/main/doc/table_format.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from reference_models.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
"""After each block: one byte for the compression, four for the checksum."""
_LONGEST_NAME = 4096
"""In bytes. Names are stored as differences, so a small damaged file could otherwise grow to gigabytes."""
_LARGEST_RANK = 32
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 10: "|b1"}
_UNREAD_DTYPES = {4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 14: "bfloat16", 19: "float16"}
_ENDING = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})\Z")
_TRAINING_STATE = re.compile(r"(^|/)(Adam(_\d+)?|RMSProp(_\d+)?|Momentum|Adagrad|beta[12]_power(_\d+)?|global_step)$")


@dataclass(frozen=True)
class _Entry:
    """Where one tensor lies: bytes offset to offset + size of one data file."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    partitioned: bool


class _UnreadableError(Exception):
    """Why bytes cannot be read, in the three parts of a UserError, still without the file's name."""

    def __init__(
        self,
        what: str,
        expected: str = "an intact TensorFlow V2 checkpoint",
        todo: str = "Copy all its files again from their source",
    ) -> None:
        self.parts = what, expected, todo
        super().__init__(what)


class _Cursor:
    """Reads one byte string from its start; never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self.data) - self.at:
            raise _UnreadableError(f"{count} bytes announced where {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        """An unsigned 64-bit number: seven bits per byte, lowest first, the eighth bit says that more follow."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        else:
            raise _UnreadableError("a number of more than ten bytes")
        if value >= 1 << 64:
            raise _UnreadableError("a number of more than 64 bits")
        return value


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 (the usual form of this loop)
        table.append(value)
    return tuple(table)


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as LevelDB stores it; about 15 MB/s.

    Source: RFC 3720, appendix B.4; the mask: leveldb/util/crc32c.h.
    """
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def is_training_state(name: str) -> bool:
    """Whether a variable of this name belongs to TensorFlow's optimiser: slots, beta powers, the step."""
    return _TRAINING_STATE.search(name) is not None


def checkpoint_prefix(path: Path) -> Path:
    """The common beginning of a checkpoint's file names, from that beginning or any one of the files."""
    return Path(_ENDING.sub("", str(path)))


def checkpoint_names(path: Path) -> list[str]:
    """Names of all tensors, sorted; only the index is read.

    Raises:
        UserError: the index is missing, damaged or of a kind that is not read.
    """
    return sorted(_index(path)[0])


def data_files(path: Path) -> list[Path]:
    """The data files that the index names, in their order, whether they exist or not.

    Raises:
        UserError: the index is missing, damaged or of a kind that is not read.
    """
    prefix, shards = checkpoint_prefix(path), _index(path)[1]
    return [_shard_path(prefix, shard, shards) for shard in range(shards)]


def read_checkpoint(path: Path, wanted: Callable[[str], bool] | None = None) -> dict[str, np.ndarray]:
    """Name → array, in the stored dtype (float32, float64, int32, int64 or bool) and layout, checksums verified.

    Args:
        path: the prefix, or the .index, .data-… or .meta file.
        wanted: which names to read; None: all. Other tensors may be of dtypes that are not read.

    Raises:
        UserError: a file is missing or damaged, or a wanted tensor is of a kind that is not read.
    """
    prefix = checkpoint_prefix(path)
    entries, shards = _index(path)
    chosen = {name: entry for name, entry in entries.items() if wanted is None or wanted(name)}
    try:
        for name, entry in chosen.items():
            _check_entry(name, entry, shards)
        found: dict[str, np.ndarray] = {}
        for shard in sorted({entry.shard for entry in chosen.values()}):
            mine = {name: entry for name, entry in chosen.items() if entry.shard == shard}
            found |= _read_shard(_shard_path(prefix, shard, shards), mine)
    except _UnreadableError as problem:
        raise _user_error(prefix, problem) from None
    return {name: found[name] for name in chosen}


def _user_error(prefix: Path, problem: _UnreadableError) -> UserError:
    what, expected, todo = problem.parts
    return UserError(f"checkpoint `{prefix}`: {what}", expected, todo)


def _shard_path(prefix: Path, shard: int, shards: int) -> Path:
    return Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")


def _index(path: Path) -> tuple[dict[str, _Entry], int]:
    """Entries by name, and the number of data files."""
    prefix = checkpoint_prefix(path)
    try:
        return _parse_index(_read_file(Path(f"{prefix}.index")))
    except _UnreadableError as problem:
        raise _user_error(prefix, problem) from None


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _UnreadableError(
            f"cannot read `{path.name}` ({getattr(error, 'strerror', None) or error})",
            "PREFIX.index beside PREFIX.data-NNNNN-of-MMMMM (TensorFlow V2)",
            "Give the prefix or one of these files, and keep them in one folder",
        ) from None


def _parse_index(data: bytes) -> tuple[dict[str, _Entry], int]:
    if len(data) < _FOOTER_BYTES or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise _UnreadableError("the index is cut off or something else (wrong magic number at its end)")
    records: dict[bytes, bytes] = {}
    for key, value in _table(data):
        if key in records:
            raise _UnreadableError(f"the index lists {key!r} twice")
        records[key] = value
    shards = _shard_count(records.pop(b"", None))
    return {_text(key): _entry(value) for key, value in records.items()}, shards


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All records of a table file: footer → index block → data blocks."""
    footer = _Cursor(data[-_FOOTER_BYTES:-8])
    footer.varint(), footer.varint()  # the block of filters, which checkpoints leave empty
    end = 0
    for _, handle in _block_records(_block(data, footer.varint(), footer.varint())):
        cursor = _Cursor(handle)
        offset, size = cursor.varint(), cursor.varint()
        if offset < end:  # else a small file could name one large block many times
            raise _UnreadableError("the blocks of the index overlap")
        end = offset + size
        yield from _block_records(_block(data, offset, size))


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The contents of the block at `offset`, its checksum verified."""
    end = offset + size
    if end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise _UnreadableError(f"a block of {size} bytes at {offset} lies outside of the index")
    if masked_crc32c(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little"):
        raise _UnreadableError(f"checksum of the index block at {offset} is wrong")
    if data[end] != 0:
        raise _UnreadableError(
            f"an index block is compressed (method {data[end]}; 1 is snappy)",
            "uncompressed blocks, as TensorFlow's Saver writes them",
            "Load the checkpoint in TensorFlow and save it again",
        )
    return data[offset:end]


def _block_records(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; each key is stored as what differs from the end of the key before it."""
    restarts = int.from_bytes(block[-4:], "little")
    limit = len(block) - 4 - 4 * restarts
    if limit < 0:
        raise _UnreadableError("an index block is shorter than its own table of contents")
    cursor, key = _Cursor(block[:limit]), b""
    while cursor.at < limit:
        shared, fresh, size = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or shared + fresh > _LONGEST_NAME:
            raise _UnreadableError("an index block holds an impossible name")
        key = key[:shared] + cursor.take(fresh)
        yield key, cursor.take(size)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer message: numbers as int, submessages and strings as bytes."""
    cursor = _Cursor(message)
    while cursor.at < len(message):
        number, kind = divmod(cursor.varint(), 8)
        if kind == 0:
            yield number, cursor.varint()
        elif kind in (1, 5):
            yield number, int.from_bytes(cursor.take(8 if kind == 1 else 4), "little")
        elif kind == 2:
            yield number, cursor.take(cursor.varint())
        else:
            raise _UnreadableError(f"a protocol buffer field of unknown kind {kind}")


def _number(value: int | bytes) -> int:
    """A non-negative number that fits a signed 64-bit integer."""
    if isinstance(value, bytes) or value >= 1 << 63:
        raise _UnreadableError("a protocol buffer field holds no number, or a negative one")
    return value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _UnreadableError("a protocol buffer field holds a number in place of a message")
    return value


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise _UnreadableError(f"the name {key[:40]!r} is not UTF-8") from None


def _shard_count(header: bytes | None) -> int:
    """Number of data files, from the record that belongs to the empty name (BundleHeaderProto)."""
    if header is None:
        raise _UnreadableError("the index has no header: it is a table, but not of a checkpoint")
    fields = dict(_fields(header))
    if _number(fields.get(2, 0)) != 0:
        raise _UnreadableError(
            "it was written on a big-endian machine", "little-endian data", "Load it in TensorFlow and save it again"
        )
    shards = _number(fields.get(1, 0))
    if not 1 <= shards <= 99999:  # the file names have five digits
        raise _UnreadableError(f"the index announces {shards} data files")
    return shards


def _entry(message: bytes) -> _Entry:
    """One BundleEntryProto: dtype 1, shape 2, shard 3, offset 4, size 5, crc32c 6, slices 7."""
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    partitioned = False
    for field, value in _fields(message):
        if field == 2:
            shape = _shape(_message(value))
        elif field == 7:
            partitioned = True
        elif field in numbers:
            numbers[field] = _number(value)
    return _Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6], partitioned)


def _shape(message: bytes) -> tuple[int, ...]:
    """One TensorShapeProto: repeated dim 2 {size 1}. A size of 0 is left out when written."""
    dims = [dict(_fields(_message(value))) for field, value in _fields(message) if field == 2]
    if len(dims) > _LARGEST_RANK:
        raise _UnreadableError(f"a tensor of {len(dims)} dimensions")
    return tuple(_number(dim.get(1, 0)) for dim in dims)


def _check_entry(name: str, entry: _Entry, shards: int) -> None:
    if entry.partitioned or entry.dtype not in _DTYPES:
        kind = "partitioned" if entry.partitioned else _UNREAD_DTYPES.get(entry.dtype, f"dtype number {entry.dtype}")
        raise _UnreadableError(
            f"tensor `{name}` is {kind}",
            "whole tensors of float32, float64, int32, int64 or bool",
            "Leave it out, or save it again from TensorFlow in one of these",
        )
    # Every side counts as 1 at least, so that no array with a side of 0 has other sides that NumPy refuses.
    if prod(max(side, 1) for side in entry.shape) >= 1 << 48:
        raise _UnreadableError(f"tensor `{name}` has the impossible shape {entry.shape}")
    if entry.size != prod(entry.shape) * int(_DTYPES[entry.dtype][-1]):
        raise _UnreadableError(f"tensor `{name}` of shape {entry.shape} is said to take {entry.size} bytes")
    if entry.shard >= shards:
        raise _UnreadableError(f"tensor `{name}` is said to lie in data file {entry.shard} of {shards}")


def _read_shard(path: Path, entries: dict[str, _Entry]) -> dict[str, np.ndarray]:
    import numpy as np

    data = _read_file(path)
    if sum(entry.size for entry in entries.values()) > len(data):
        raise _UnreadableError(f"`{path.name}` has {len(data)} bytes, fewer than its tensors take: it is cut off")
    found = {}
    for name, entry in entries.items():
        stored = data[entry.offset : entry.offset + entry.size]
        if len(stored) != entry.size:
            raise _UnreadableError(f"`{path.name}` has {len(data)} bytes, tensor `{name}` ends beyond: it is cut off")
        if masked_crc32c(stored) != entry.checksum:
            raise _UnreadableError(f"checksum of tensor `{name}` is wrong")
        if entry.dtype == 10 and stored.strip(b"\0\1"):
            raise _UnreadableError(f"tensor `{name}` holds booleans that are neither 0 nor 1")
        found[name] = np.frombuffer(stored, _DTYPES[entry.dtype]).reshape(entry.shape)
    return found

"""The checkpoint reader against the published checkpoint, against ones written here, and against damage."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from reference_models.errors import UserError
from reference_models.tf_checkpoint import (
    checkpoint_names,
    checkpoint_prefix,
    data_files,
    is_training_state,
    masked_crc32c,
    read_checkpoint,
)

Write = Callable[..., Path]

TENSORS = {
    "scope/weights": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "scope/weights/Adam": np.full((2, 3, 4), 0.5, np.float32),
    "scope/w0": np.float32(1.25).reshape(()),
    "double": np.array([1e300, -0.0]),
    "step": np.array(7, np.int64),
    "small": np.array([[-1], [2]], np.int32),
    "flags": np.array([True, False, True]),
    "empty": np.zeros((3, 0), np.float32),
}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.fixture
def published(originals: Path) -> Path:
    return originals / "can24_an" / "tf_checkpoint_L0_smoothing" / "model.ckpt"


def test_published_checkpoint_equals_the_converted_tensors_bit_for_bit(originals: Path, published: Path) -> None:
    found = read_checkpoint(published)
    expected = load_file(originals / "can24_an" / "weights" / "L0_smoothing.safetensors")
    assert len(found) == 120
    assert len(expected) == 50
    assert_same({name: found[name] for name in expected}, expected)
    assert sorted(found) == checkpoint_names(published)
    assert sum(is_training_state(name) for name in found) == 70  # 68 Adam slots, 2 beta powers


@pytest.mark.parametrize("ending", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_any_file_of_a_checkpoint_names_it(tmp_path: Path, write_checkpoint: Write, ending: str) -> None:
    prefix = write_checkpoint(tmp_path / "model.ckpt-300", TENSORS)
    path = Path(f"{prefix}{ending}")
    assert checkpoint_prefix(path) == prefix
    assert_same(read_checkpoint(path), TENSORS)


@pytest.mark.parametrize(("shards", "block_records"), [(1, 1), (1, 100), (3, 2)])
def test_blocks_and_data_files_are_joined(tmp_path: Path, write_checkpoint: Write, shards: int, block_records: int):
    prefix = write_checkpoint(tmp_path / "m", TENSORS, shards=shards, block_records=block_records)
    assert_same(read_checkpoint(prefix), TENSORS)
    assert data_files(prefix) == sorted(tmp_path.glob("m.data-*"))
    assert len(data_files(prefix)) == shards


def test_only_wanted_tensors_are_read(tmp_path: Path, write_checkpoint: Write) -> None:
    prefix = write_checkpoint(tmp_path / "m", {**TENSORS, "half": np.zeros(2, np.float16)})
    found = read_checkpoint(prefix, lambda name: name.startswith("scope") and not is_training_state(name))
    assert list(found) == ["scope/w0", "scope/weights"]
    with pytest.raises(UserError, match="`half` is float16") as error:
        read_checkpoint(prefix)
    assert "float32, float64, int32, int64 or bool" in error.value.expected


def test_checksum_is_castagnoli_masked_as_leveldb_does() -> None:
    # CRC-32C of "123456789" is 0xE3069283 (RFC 3720 and every catalogue of checksums); mask: rotate right 15, add.
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("g_conv1/weights/Adam", True),
        ("g_conv1/weights/Adam_1", True),
        ("beta2_power", True),
        ("global_step", True),
        ("g_conv1/BatchNorm/beta", False),
        ("Adam/weights", False),
        ("g_conv1/weights", False),
    ],
)
def test_training_state(name: str, expected: bool) -> None:
    assert is_training_state(name) is expected


def replace(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("m.index", lambda d: d[:-1], "wrong magic number"),
        ("m.index", lambda d: b"", "wrong magic number"),
        ("m.index", lambda d: d[:-8] + bytes(8), "wrong magic number"),
        ("m.index", lambda d: bytes([d[0] ^ 1]) + d[1:], "checksum of the index block at 0"),
        ("m.index", lambda d: d[:60] + d[61:], "outside of the index|checksum|announced"),
        ("m.data-00000-of-00001", lambda d: d[:-1], "cut off"),
        ("m.data-00000-of-00001", lambda d: b"", "cut off"),
        ("m.data-00000-of-00001", lambda d: d[:-1] + bytes([d[-1] ^ 1]), "checksum of tensor `step` is wrong"),
    ],
)
def test_damage_is_named(tmp_path: Path, write_checkpoint: Write, file: str, change, message: str) -> None:
    prefix = write_checkpoint(tmp_path / "m", TENSORS)
    replace(tmp_path / file, change)
    with pytest.raises(UserError, match=message) as error:
        read_checkpoint(prefix)
    assert str(prefix) in error.value.what
    assert error.value.expected
    assert error.value.todo


def test_missing_files_are_named(tmp_path: Path, write_checkpoint: Write) -> None:
    prefix = write_checkpoint(tmp_path / "m", TENSORS, shards=2)
    (tmp_path / "m.data-00001-of-00002").unlink()
    with pytest.raises(UserError, match=r"cannot read `m.data-00001-of-00002` \(No such file"):
        read_checkpoint(prefix)
    (tmp_path / "m.index").unlink()
    with pytest.raises(UserError, match=r"cannot read `m.index`"):
        read_checkpoint(prefix)


@pytest.mark.parametrize("path", ["", ".", "/", "..", "a\0b", ".index"])
def test_odd_paths(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        read_checkpoint(Path(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": 1}, "compressed .* snappy"),
        ({"header": b"\x08\x01\x10\x01"}, "big-endian"),
        ({"header": b"\x08\x00"}, "announces 0 data files"),
        ({"header": b"\x08\xff\xff\xff\x7f"}, "announces 268435455 data files"),
        ({"header": b"\x0b"}, "unknown kind 3"),
        ({"extra_field": b"\x3a\x00"}, "is partitioned"),  # field 7, slices
        ({"extra_field": b"\x18\x05"}, "data file 5 of 1"),  # field 3, the shard
        ({"extra_field": b"\x28\x07"}, "said to take 7 bytes"),  # field 5, the size
        ({"extra_field": b"\x20" + b"\xff" * 8 + b"\x7f"}, "ends beyond"),  # field 4, the offset: 2^63 - 1
        ({"extra_field": b"\x20" + b"\xff" * 9 + b"\x01"}, "negative"),  # field 4: -1
        ({"extra_field": b"\x20" + b"\xff" * 9 + b"\x7f"}, "more than 64 bits"),
        ({"extra_field": b"\x20" + b"\xff" * 11}, "more than ten bytes"),
        ({"extra_field": b"\x12" + b"\x42" + b"\x12\x00" * 33}, "33 dimensions"),  # field 2, the shape
        ({"extra_field": b"\x12\x0c\x12\x00\x12\x08\x08\xff\xff\xff\xff\xff\xff\x7f"}, "impossible shape"),
        ({"extra_field": b"\x10\x01"}, "number in place of a message"),
        ({"extra_field": b"\x1a\x01x"}, "holds no number"),
    ],
)
def test_lies_under_a_right_checksum_are_named(tmp_path: Path, write_checkpoint: Write, options, message: str) -> None:
    prefix = write_checkpoint(tmp_path / "m", {"w": np.zeros(2, np.float32)}, **options)
    with pytest.raises(UserError, match=message):
        read_checkpoint(prefix)


def test_a_table_that_is_no_checkpoint(tmp_path: Path, write_checkpoint: Write) -> None:
    prefix = write_checkpoint(tmp_path / "m", {}, spoil=lambda block: b"\0\0\0\0\1\0\0\0")  # no records at all
    with pytest.raises(UserError, match="has no header"):
        read_checkpoint(prefix)


def test_a_name_that_occurs_twice(tmp_path: Path, write_checkpoint: Write) -> None:
    tensors = {"wa": np.zeros(1, np.float32), "wb": np.ones(1, np.float32)}
    spoil = lambda block: block.replace(b"wb", b"wa")  # noqa: E731
    prefix = write_checkpoint(tmp_path / "m", tensors, block_records=1, spoil=spoil)
    with pytest.raises(UserError, match="lists b'wa' twice"):
        read_checkpoint(prefix)


def test_a_name_that_would_fill_the_memory(tmp_path: Path, write_checkpoint: Write) -> None:
    prefix = write_checkpoint(tmp_path / "m", {"n" * 4095: np.zeros(1, np.float32)})
    assert checkpoint_names(prefix) == ["n" * 4095]
    prefix = write_checkpoint(tmp_path / "m", {"n" * 4097: np.zeros(1, np.float32)})
    with pytest.raises(UserError, match="impossible name"):
        read_checkpoint(prefix)


def test_a_block_that_is_listed_twice(tmp_path: Path, write_checkpoint: Write) -> None:
    sizes: list[int] = []

    def spoil(block: bytes) -> bytes:
        sizes.append(len(block))
        if len(sizes) < 4:  # header, one tensor, filters
            return block
        second, first = bytes([sizes[0] + 5, sizes[1]]), bytes([0, sizes[0]])
        assert block.count(second) == 1
        return block.replace(second, first)

    prefix = write_checkpoint(tmp_path / "m", {"w": np.zeros(1, np.float32)}, block_records=1, spoil=spoil)
    with pytest.raises(UserError, match="blocks of the index overlap"):
        read_checkpoint(prefix)


def test_booleans_other_than_0_and_1(tmp_path: Path, write_checkpoint: Write) -> None:
    prefix = write_checkpoint(tmp_path / "m", {"f": np.array([1, 2], np.uint8).view(bool)})
    with pytest.raises(UserError, match="neither 0 nor 1"):
        read_checkpoint(prefix)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One byte changed, bytes cut off at the end, or bytes taken out."""
    at = rng.randrange(len(data))
    kind = rng.randrange(4)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + rng.randrange(1, 9) :]
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def damaged_reads(prefix: Path, expected: dict[str, np.ndarray]) -> int:
    """1 for a UserError, 0 for the right tensors; anything else fails the test."""
    try:
        found = read_checkpoint(prefix)
    except UserError:
        return 1
    assert_same(found, expected)
    return 0


def test_no_damage_to_the_published_index_gives_wrong_data_or_another_error(tmp_path: Path, published: Path) -> None:
    for file in published.parent.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    index, expected = tmp_path / "model.ckpt.index", read_checkpoint(published)
    whole, rng = index.read_bytes(), random.Random(24)
    errors = 0
    for _ in range(300):
        index.write_bytes(mutated(whole, rng))
        errors += damaged_reads(tmp_path / "model.ckpt", expected)
    assert errors > 280  # of the bytes, only the padding of the footer and the filter block are of no use


def test_no_damage_under_a_right_checksum_gives_another_error(tmp_path: Path, write_checkpoint: Write) -> None:
    """The parser itself: the checksums do not stop this damage. Values may differ, the type of error may not."""
    rng, errors, reads = random.Random(32), 0, 400
    small = {name: TENSORS[name] for name in ("scope/weights", "scope/w0", "flags", "empty")}
    for _ in range(reads):
        hit = rng.randrange(4)  # two blocks of data, the filters, the list of blocks
        blocks = iter(range(4))

        def spoil(block: bytes, blocks=blocks, hit: int = hit) -> bytes:
            return mutated(block, rng) if next(blocks) == hit else block

        prefix = write_checkpoint(tmp_path / "m", small, spoil=spoil)
        try:
            read_checkpoint(prefix)
        except UserError:
            errors += 1
    assert reads * 0.5 < errors < reads

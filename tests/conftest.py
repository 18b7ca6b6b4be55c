"""Fixtures of all tests: published data beside the checkout, networks of random weights, and a checkpoint writer."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from export.network import Network
    from reference_models.spec import ModelSpec

_DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "uint8": 4, "float16": 19}


LARGE = 20_000_000
"""Parameters of a network that only the slow tests run; TensorRT-RTX builds them in the ordinary ones, too."""
_ORDINARY: dict[str, Callable[[bool, bool], bool]] = {
    "every_model": lambda large, smallest: True,
    "any_model": lambda large, smallest: not large,
    "any_family": lambda large, smallest: not large and smallest,
}
"""Argument of a test → whether a network is one of its ordinary ones."""


def pytest_configure() -> None:
    """Ctrl-C is heeded again where it was ignored when the tests were started (`&` in a script): tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Names of the registry in turn: `every_model` all of them, `any_model` with the large ones slow, `any_family` with
    all but the smallest of each factory slow, too."""
    for argument, rule in _ORDINARY.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, _registered(rule))


def _registered(rule: Callable[[bool, bool], bool]) -> list[Any]:
    import reference_models

    counts = _parameter_counts()
    factories = {name: reference_models.get(name).factory for name in counts}
    smallest = {f: min((n for n in counts if factories[n] == f), key=counts.__getitem__) for f in factories.values()}
    ordinary = {n for n, count in counts.items() if rule(count > LARGE, smallest[factories[n]] == n)}
    return [pytest.param(name, marks=[] if name in ordinary else pytest.mark.slow) for name in counts]


@functools.cache
def _parameter_counts() -> dict[str, int]:
    """Of every network, built without memory; tests/reference_models/test_contract.py says whether all can be."""
    import torch

    import reference_models

    found = {}
    for name in reference_models.names():
        with torch.device("meta"):
            model = reference_models.create_model(name)
        found[name] = sum(parameter.numel() for parameter in model.parameters())
    return found


@pytest.fixture(scope="session")
def originals() -> Path:
    """The folder of published weights, pictures and outputs; set FULLRES_ORIGINALS where it lies elsewhere."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "originals"
    folder = Path(os.environ.get("FULLRES_ORIGINALS") or default)
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; set FULLRES_ORIGINALS to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of every test that asks for it, here and in the processes that it starts: FULLRES_CACHE."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("FULLRES_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def randomise() -> Callable[..., Any]:
    """`randomise(can, seed)` gives a CAN random weights, in place, and returns it; see `_randomise`."""
    return _randomise


@pytest.fixture(scope="session")
def can24_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A safetensors file of random weights of can24 in which every parameter matters."""
    from safetensors.torch import save_file

    from reference_models import create_model

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(_randomise(create_model("can24")).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def calibration() -> list[np.ndarray]:
    """Two uint8 (H, W, 3) pictures of different sizes and brightness."""
    rng = np.random.default_rng(5)
    return [rng.integers(0, 200, (40, 56, 3), np.uint8), rng.integers(90, 256, (31, 33, 3), np.uint8)]


@pytest.fixture(scope="session")
def networks(cache: Path, can24_weights: Path, calibration: list[np.ndarray]) -> Mapping[str, Network]:
    """can24 with `can24_weights`, exported once for each kind of statistics."""
    from export.to_onnx import ExportRequest, export_network
    from reference_models import get

    spec = get("can24")
    used = {"frozen": calibration}
    return {s: export_network(ExportRequest(spec, str(can24_weights), s, used.get(s, ())), cache) for s in _STATISTICS}


@pytest.fixture(scope="session")
def expected(can24_weights: Path, calibration: list[np.ndarray]) -> Callable[[str, np.ndarray], np.ndarray]:
    """`expected(statistics, x)`: what torch makes of x with `can24_weights`; uses neither export nor engines."""
    import torch

    from reference_models import create_model, get
    from reference_models.colour import tensor_from_picture
    from reference_models.networks.statistics import ThumbnailAffines, calibrated_affines, fold_

    can: Any = create_model("can24", str(can24_weights))
    calibrated = [torch.from_numpy(tensor_from_picture(picture, get("can24"))) for picture in calibration]

    def module(statistics: str, x: torch.Tensor) -> torch.nn.Module:
        if statistics == "image":
            return can
        if statistics == "frozen":
            return fold_(can.folded(), calibrated_affines(can, calibrated))
        return fold_(can.folded(), ThumbnailAffines(can)(x))

    def run(statistics: str, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            tensor = torch.from_numpy(x)
            return module(statistics, tensor)(tensor).numpy()

    return run


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """`picture(height, width, seed)`: (1, 3, H, W) float32 in [0, 1], smooth with noise, its planes unlike."""
    return _picture


OWN_FAMILY = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return x * self.gain + x.mean((2, 3), keepdim=True)

    def styled(self, style=None):
        return Styled(self.gain, torch.zeros(1, 3, 1, 1) if style is None else style.mean((2, 3), keepdim=True))


class Styled(nn.Module):
    def __init__(self, gain, mean):
        super().__init__()
        self.gain = gain
        self.register_buffer("mean", mean)

    def forward(self, x):
        return x * self.gain + self.mean


def configure(name, gain, kind):
    from dataclasses import replace

    return replace(SPEC, name=name, description=kind, options={"gain": gain})
"""


@pytest.fixture
def own_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """The spec, gain 3 chosen, of a network of the tests' own: gain * x + mean of x per plane, or of a style."""
    from reference_models.spec import ModelSpec, Option

    folder = tmp_path_factory.mktemp("own")
    (folder / "own_family.py").write_text(OWN_FAMILY)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("own_family", None)
    offers = (Option("gain", 2.0, "factor", low=0.5, high=8), Option("kind", "mean", "what is added", ("mean", "none")))
    spec = ModelSpec(
        "own", "Own", "own_family:Own", "https://example.org", "MIT", "gain and mean", options={"gain": 2.0},
        offers=offers, configure="own_family:configure", style=True,
    )  # fmt: skip
    own_family = importlib.import_module("own_family")
    own_family.SPEC = spec  # type: ignore[attr-defined]
    made: ModelSpec = own_family.configure("own", 3.0, "mean")
    return made.with_choices({"gain": 3.0})


@pytest.fixture
def cuda() -> str:
    """The device `cuda:0`, for tests marked gpu; skips with the reason where there is none."""
    from engines.installed import cuda_missing

    if reason := cuda_missing("cuda:0"):
        pytest.skip(reason)
    return "cuda:0"


_STATISTICS = ("image", "frozen", "thumbnail")


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 3, height), np.linspace(0, 5, width)
    waves = [np.sin((i + 1) * y + seed)[:, None] * np.cos((3 - i) * x)[None] for i in range(3)]
    level = np.array([0.3, 0.5, 0.65])[:, None, None]
    return (level + 0.2 * np.stack(waves) + rng.uniform(-0.1, 0.1, (3, height, width)))[None].astype(np.float32)


def _randomise(can: Any, seed: int = 0) -> Any:
    """Random weights under which a CAN neither explodes nor dies out: planes of about unit size, output near [0, 1]."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for conv, norm in zip(can.convs, can.norms, strict=True):
            # The taps around the centre see zeros where the dilation is larger than the picture.
            conv.weight.normal_(0, conv.weight[0].numel() ** -0.5, generator=generator)
            conv.weight[:, :, 1, 1] *= 2
            norm.scale_identity.uniform_(0.3, 0.6, generator=generator)
            norm.scale_norm.uniform_(0.4, 0.7, generator=generator)
            norm.beta.normal_(0, 0.3, generator=generator)
        can.last.weight.normal_(0, 0.08, generator=generator)
        can.last.bias.uniform_(0.4, 0.6, generator=generator)
    return can


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

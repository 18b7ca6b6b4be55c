"""Where made files are kept, and the key that says what they were made from. Never by name alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from export.network import Graph, Network, file_sha256
from reference_models.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from export.to_onnx import ExportRequest


def cache_folder() -> Path:
    """FULLRES_CACHE, or fullres below XDG_CACHE_HOME or ~/.cache; made where it is missing.

    Raises:
        UserError: it cannot be made or written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("FULLRES_CACHE") or Path(base) / "fullres")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cache folder {folder}: {error.strerror}", "a folder that can be written", "Set FULLRES_CACHE to one"
        ) from None
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"cache folder {folder}: not writable", "a folder that can be written", "Set FULLRES_CACHE to one"
        )
    return folder


def forget_leftovers(folder: Path) -> None:
    """Removes what killed processes left half-made: hidden files and folders that nobody touched for an hour."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime > time.time() - 3600:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def made_once(cache: Path, key: str, write: Callable[[Path], Network]) -> Network:
    """The network that `write` makes in a folder, made once per key.

    The folder appears whole or not at all; where two processes make the same, the files of one of them stay.
    """
    folder = cache / "networks" / key
    done = folder / "network.json"
    if not done.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        forget_leftovers(folder.parent)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
        try:
            start = time.perf_counter()
            network = replace(write(scratch), export_s=time.perf_counter() - start)
            (scratch / "network.json").write_text(_with_folder(network, Path()).to_json())
            _put(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _with_folder(Network.from_json(done.read_text()), folder.resolve())


def _put(scratch: Path, folder: Path) -> None:
    """Gives `scratch` the name `folder`, unless a whole network has it: another process was quicker, its files are as
    good, and somebody may be reading them already. What somebody left there without its `network.json` goes first."""
    with _alone_in(folder.parent):
        if (folder / "network.json").exists():
            return
        if folder.exists():
            left = scratch.with_name(scratch.name + "-left")
            os.rename(folder, left)
            shutil.rmtree(left, ignore_errors=True)
        os.rename(scratch, folder)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is in here for this folder; where folders cannot be locked, nobody waits."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file servers lock files alone
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _with_folder(network: Network, folder: Path) -> Network:
    """The same network with its files in `folder`: the cache stores names only, so that it can be moved."""

    def moved(graph: Graph) -> Graph:
        onnx_path, state_path = (
            str(folder / Path(path).name) if path else "" for path in (graph.onnx_path, graph.state_path)
        )
        return replace(graph, onnx_path=onnx_path, state_path=state_path)

    thumbnail = moved(network.thumbnail) if network.thumbnail else None
    return replace(network, main=moved(network.main), thumbnail=thumbnail)


def content_key(request: ExportRequest) -> str:
    """SHA-256 over all that a network's files depend on, in hexadecimal, shortened to 32 digits."""
    spec = request.spec
    facts = {
        "spec": spec.to_json(),
        "weights": file_sha256(request.weights) if request.weights else None,
        "statistics": request.statistics,
        "calibration": [picture_sha256(p) for p in request.calibration],
        "style": picture_sha256(request.style) if request.style is not None else None,
        "code": code_sha256(),
        "versions": {name: metadata.version(name) for name in ("torch", "onnx", "onnxscript")},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def picture_sha256(picture: np.ndarray) -> str:
    """SHA-256 of a picture's size and content, in hexadecimal."""
    return hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()


@cache
def code_sha256() -> str:
    """SHA-256 over the sources of reference_models and export: a changed definition never meets an old file."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(p for package in ("reference_models", "export") for p in (root / package).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

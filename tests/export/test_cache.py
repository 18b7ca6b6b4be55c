"""The cache folder and its errors, and the key: whatever a network's files depend on changes it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from export import cache as module
from export.cache import cache_folder, code_sha256, content_key, forget_leftovers, made_once
from export.network import Graph, Network
from export.to_onnx import ExportRequest
from reference_models import get
from reference_models.errors import UserError

PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture
def request_(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    return ExportRequest(get("can24"), str(tmp_path / "w.safetensors"), "frozen", (PICTURE, PICTURE[::-1].copy()))


@pytest.fixture
def no_cache_variables(monkeypatch, tmp_path):
    monkeypatch.delenv("FULLRES_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


# The key


def test_equal_requests_have_equal_keys(request_):
    again = dataclasses.replace(request_, calibration=[picture.copy() for picture in request_.calibration])
    assert content_key(again) == content_key(request_)
    assert len(content_key(request_)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"weights": None},
        {"statistics": "image"},
        {"statistics": None},
        {"calibration": (PICTURE,)},
        {"calibration": (PICTURE, PICTURE)},
        {"calibration": (PICTURE + 1, PICTURE[::-1].copy())},
        {"calibration": (PICTURE.reshape(6, 4, 3), PICTURE[::-1].copy())},
        {"spec": get("can32")},
        {"spec": dataclasses.replace(get("can24"), options={**get("can24").options, "width": 25})},
        {"spec": dataclasses.replace(get("can24"), factory="another:Can")},
        {"spec": dataclasses.replace(get("can24"), name="another")},
        {"spec": dataclasses.replace(get("can24"), input="rgb")},
        {"spec": dataclasses.replace(get("can24"), output="rgb")},
        {"spec": dataclasses.replace(get("can24"), constant_planes=(1.0,))},
        {"spec": dataclasses.replace(get("can24"), pre_upscale=2)},
        {"spec": dataclasses.replace(get("can24"), min_size=2)},
        {"spec": dataclasses.replace(get("can24"), output_range=(-1.0, 1.0))},
        {"spec": dataclasses.replace(get("can24"), upscale=2)},
        {"spec": dataclasses.replace(get("can24"), size_multiple=2)},
        {"style": PICTURE},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_the_files_depend_on_changes_the_key(request_, change):
    assert content_key(dataclasses.replace(request_, **change)) != content_key(request_)


def test_weights_count_by_content_and_not_by_name(request_, tmp_path):
    before = content_key(request_)
    copied = shutil.copy(request_.weights, tmp_path / "other.safetensors")
    assert content_key(dataclasses.replace(request_, weights=str(copied))) == before
    Path(request_.weights).write_bytes(b"Weights")
    assert content_key(request_) != before


def test_what_a_factory_of_one_s_own_loads_changes_the_key(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = (
        "import torch\ndef make():\n    net = torch.nn.Conv2d(3, 3, 1)\n    net.load_state_dict(torch.load('w.pt'))\n"
    )
    (tmp_path / "loads_its_own.py").write_text(text + "    return net\n")
    keys = []
    try:
        for value in (1.0, 1.0, 2.0):
            torch.save({"weight": torch.full((3, 3, 1, 1), value), "bias": torch.zeros(3)}, tmp_path / "w.pt")
            keys.append(content_key(ExportRequest(get("loads_its_own:make"), None, None)))
    finally:
        sys.modules.pop("loads_its_own", None)
    assert keys[0] == keys[1] != keys[2]


def test_changed_code_changes_the_key(request_, monkeypatch):
    before = content_key(request_)
    monkeypatch.setattr(module, "code_sha256", lambda: "0" * 64)
    assert content_key(request_) != before


@pytest.mark.parametrize("library", ["torch", "onnx", "onnxscript"])
def test_another_version_of_the_exporter_changes_the_key(request_, monkeypatch, library):
    before, version = content_key(request_), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0" if name == library else version(name))
    assert content_key(request_) != before


def test_the_digest_of_the_code_covers_both_packages(monkeypatch, tmp_path):
    for package in ("reference_models/networks", "export", "engines"):
        (tmp_path / package).mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "export" / "cache.py"))

    def digest(path=None):
        if path:
            (tmp_path / path).write_text("x = 1\n")
        code_sha256.cache_clear()
        return code_sha256()

    try:
        found = [digest(), digest("reference_models/networks/net.py"), digest("export/to_onnx.py")]
        assert len(set(found)) == 3
        assert digest("engines/null.py") == found[-1]
    finally:
        code_sha256.cache_clear()


# The folder


def test_fullres_cache_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "xdg").exists()
    assert cache_folder() == tmp_path / "a" / "b"  # that it exists is no error


def test_then_the_users_cache_folder(no_cache_variables, monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "home" / ".cache" / "fullres"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fullres"
    monkeypatch.setenv("FULLRES_CACHE", "")  # empty counts as not set
    assert cache_folder() == tmp_path / "xdg" / "fullres"


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_named(monkeypatch, tmp_path, below):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path / "file" / below))
    with pytest.raises(UserError, match=r"cache folder .*file.*: .*Expected a folder.*Set FULLRES_CACHE"):
        cache_folder()


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # the superuser may write everywhere
    with pytest.raises(UserError, match=r"not writable.*Set FULLRES_CACHE"):
        cache_folder()


def test_what_killed_processes_left_is_removed_after_an_hour(tmp_path):
    for name in (".old", ".new", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    (tmp_path / ".file").write_text("")
    for name in (".old", ".file", "kept"):
        os.utime(tmp_path / name, (time.time() - 4000,) * 2)
    forget_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".new", "kept"]


# One of two that make the same stays


def _network(folder: Path, sha256: str) -> Network:
    (folder / "main.onnx").write_text(sha256)
    graph = Graph(str(folder / "main.onnx"), sha256, "", "factory", {}, "published")
    return Network("can24", "image", graph, None, (), 20)


def test_what_a_quicker_process_made_stays_with_its_files(tmp_path):
    made = []

    def write(folder: Path) -> Network:
        made.append(made_once(tmp_path, "key", lambda other: _network(other, "quicker")))
        return _network(folder, "slower")

    network = made_once(tmp_path, "key", write)
    assert network == made[0]
    assert Path(network.main.onnx_path).read_text() == network.main.sha256 == "quicker"
    assert [p.name for p in (tmp_path / "networks").iterdir()] == ["key"]


def test_of_many_that_make_the_same_at_once_one_stays(tmp_path):
    """Each puts its own in place at the same moment, over something broken; none may lose the files it was given."""
    left = tmp_path / "networks" / "key"
    left.mkdir(parents=True)
    (left / "main.onnx").write_text("left")
    barrier = threading.Barrier(8)

    def one(number: int) -> tuple[Network, str]:
        def write(folder: Path) -> Network:
            network = _network(folder, str(number))
            barrier.wait()
            return network

        network = made_once(tmp_path, "key", write)
        return network, Path(network.main.onnx_path).read_text()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(8)))
    assert len({network.main.sha256 for network, _ in found}) == 1
    assert {text for _, text in found} == {found[0][0].main.sha256}
    assert [p.name for p in (tmp_path / "networks").iterdir()] == ["key"]


def test_what_somebody_left_without_its_description_is_replaced(tmp_path):
    (tmp_path / "networks" / "key").mkdir(parents=True)
    (tmp_path / "networks" / "key" / "main.onnx").write_text("left")
    network = made_once(tmp_path, "key", lambda folder: _network(folder, "whole"))
    assert Path(network.main.onnx_path).read_text() == "whole"
    assert [p.name for p in (tmp_path / "networks").iterdir()] == ["key"]


def test_a_network_that_cannot_be_put_in_place_is_an_error(tmp_path, monkeypatch):
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        made_once(tmp_path, "key", lambda folder: _network(folder, "whole"))
    assert list((tmp_path / "networks").iterdir()) == []

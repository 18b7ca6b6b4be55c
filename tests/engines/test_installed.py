"""Packages and devices are found without importing or initialising anything of them."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from importlib import metadata

import pytest

from engines import installed
from engines.installed import cuda_device_count, cuda_missing, package_missing, package_version


class Driver:
    """libcuda with so many devices."""

    def __init__(self, count, init=0, counted=0):
        self.count, self.init, self.counted = count, init, counted

    def cuInit(self, flags):  # noqa: N802
        assert flags == 0
        return self.init

    def cuDeviceGetCount(self, pointer):  # noqa: N802
        pointer._obj.value = self.count
        return self.counted


@pytest.fixture
def driver(monkeypatch):
    """`driver(...)` puts a driver in place of the machine's."""

    def put(*args, **kwargs):
        cuda_device_count.cache_clear()
        monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(*args, **kwargs))

    yield put
    cuda_device_count.cache_clear()


def test_a_package_that_is_there():
    assert package_missing("numpy", ("numpy",)) is None


def test_a_package_that_is_not_there_is_named_as_pip_names_it():
    assert package_missing("no_such_module", ("no-such", "other")) == "Python package `no-such` is not installed"


def test_looking_imports_nothing():
    code = "import sys, engines.installed as i; i.package_missing('torch', ('torch',)); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_package_whose_files_are_gone_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "not installed" in package_missing("numpy", ("numpy",))


def test_the_version_comes_with_the_name_of_the_distribution_that_is_there(monkeypatch):
    def version(name):
        if name != "second":
            raise metadata.PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(metadata, "version", version)
    assert package_version(("first", "second")) == "second 1.2"
    assert package_version(("first",)) == ""
    assert package_version(()) == ""


def test_no_driver_is_no_device(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    cuda_device_count.cache_clear()
    try:
        assert cuda_device_count() == 0
    finally:
        cuda_device_count.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "count"), [({"count": 2}, 2), ({"count": 2, "init": 100}, 0), ({"count": 2, "counted": 3}, 0)]
)
def test_devices_are_those_of_a_driver_that_starts(driver, arguments, count):
    driver(**arguments)
    assert cuda_device_count() == count


def test_the_driver_is_asked_once(driver, monkeypatch):
    driver(1)
    assert cuda_device_count() == 1
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(5))
    assert cuda_device_count() == 1


@pytest.mark.parametrize(
    ("device", "missing"), [("cpu", False), ("cuda:0", False), ("cuda", False), ("cuda:1", True), ("cuda:12", True)]
)
def test_a_device_is_missing_beyond_those_the_driver_shows(monkeypatch, device, missing):
    monkeypatch.setattr(installed, "cuda_device_count", lambda: 1)
    wanted = f"device `{device}` does not exist: the driver shows 1 CUDA devices here"
    assert cuda_missing(device) == (wanted if missing else None)


def test_the_cpu_asks_no_driver(monkeypatch):
    monkeypatch.setattr(installed, "cuda_device_count", lambda: pytest.fail("asked"))
    assert cuda_missing("cpu") is None


@pytest.mark.gpu
def test_the_driver_shows_the_devices_that_torch_sees(cuda):
    import torch

    assert cuda_missing(cuda) is None
    assert cuda_device_count() == torch.cuda.device_count()

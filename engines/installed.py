"""Whether a Python package and a CUDA device are there, found out without importing the package."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from functools import cache
from importlib import metadata


def package_missing(module: str, distributions: tuple[str, ...]) -> str | None:
    """None when the module can be found, else the sentence that says it is not installed."""
    if importlib.util.find_spec(module) is not None:
        return None
    return f"Python package `{distributions[0]}` is not installed"


def package_version(distributions: tuple[str, ...]) -> str:
    """Version of the first of these distributions that is installed, with its name; empty where none is."""
    for name in distributions:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


@cache
def cuda_device_count() -> int:
    """CUDA devices that the driver shows to this process; 0 without a driver. Imports and initialises no framework."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def cuda_missing(device: str) -> str | None:
    """None for `cpu` and for a CUDA device that exists, else the sentence that says what there is."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return None
    count = cuda_device_count()
    if int(index or 0) < count:
        return None
    return f"device `{device}` does not exist: the driver shows {count} CUDA devices here"


def gpu_missing(device: str, unfit: Callable[[tuple[int, int]], str | None]) -> str | None:
    """None where `device` is a CUDA device that exists and cuda-python drives it, else the sentence that says why not.

    Args:
        unfit: what is wrong with a device of this compute capability, major and minor; None: nothing.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return f"it runs on an NVIDIA GPU only, and the driver shows {cuda_device_count()} CUDA devices here"
    if reason := cuda_missing(device) or package_missing("cuda", ("cuda-python",)):
        return reason
    from engines.trt.device import capability

    try:
        return unfit(capability(int(index or 0)))
    except RuntimeError as error:  # a driver that is there and too old
        return f"the NVIDIA driver does not answer ({error})"

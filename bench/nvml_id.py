"""CUDA's `cuda:N` → the same device for NVML and nvidia-smi, which count differently.

CUDA counts the devices that CUDA_VISIBLE_DEVICES lets a process see, by default the fastest first; NVML counts all of
the machine, in the order of their buses. Workers are started with BUS_ORDER, so that both mean the same order.

Source: CUDA programming guide, CUDA environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

BUS_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def nvml_id(device: str, environment: Mapping[str, str] = os.environ) -> str:
    """What nvidia-smi's `--id` and `nvml_handle` take for a device such as `cuda:1`: an index, or a UUID."""
    ordinal = int(device.partition(":")[2] or 0)
    visible = [word.strip() for word in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return visible[ordinal] if ordinal < len(visible) else str(ordinal)


def nvml_handle(pynvml: Any, device: str) -> Any:
    """NVML's handle of the device; pynvml is initialised.

    Raises:
        pynvml.NVMLError: NVML does not know it.
    """
    found = nvml_id(device)
    if found.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(found))
    return pynvml.nvmlDeviceGetHandleByUUID(found)

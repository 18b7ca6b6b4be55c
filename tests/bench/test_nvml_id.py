"""The same GPU for CUDA and for NVML."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench.nvml_id import nvml_handle, nvml_id

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "", "1"),
        ("cuda:0", "3", "3"),
        ("cuda:1", "3, 2", "2"),
        ("cuda:0", UUID, UUID),
        ("cuda:5", "3", "5"),  # CUDA itself will say that there is none
    ],
)
def test_visible_devices_are_counted_by_cuda_alone(device: str, visible: str | None, expected: str) -> None:
    assert nvml_id(device, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_handles_are_found_by_index_or_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(nvmlDeviceGetHandleByIndex=lambda i: ("index", i), nvmlDeviceGetHandleByUUID=lambda u: u)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"2,{UUID}")
    assert nvml_handle(nvml, "cuda:0") == ("index", 2)
    assert nvml_handle(nvml, "cuda:1") == UUID

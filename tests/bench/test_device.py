"""What is asked of a session on a device: parts for the clock, copies, memory; the session is a double."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import device
from bench.measure import Rule, measure
from engines.engine import Options, Session
from export.network import Graph


class Doubled(Session):
    """Copies take 1, 2, 3 … ms by its clock, inferences 5."""

    asynchronous = True
    contract = {}  # noqa: RUF012

    def __init__(self, clock: bool = True) -> None:
        super().__init__(Graph("", "", "", "", {}, "published"), Options())
        self.calls: list[str] = []
        self.copies = 0
        self.clock = clock

    def _bind(self, x: np.ndarray) -> None:
        self.copies += 1

    def _enqueue(self) -> None:
        self.calls.append("enqueue")

    def _synchronize(self) -> None:
        self.calls.append("synchronize")

    def prepare(self) -> None:
        self.calls.append("prepare")

    def device_ms(self) -> dict[str, float]:
        return {"h2d": self.copies, "compute": 5.0, "d2h": 2.0 * self.copies} if self.clock else {}

    def memory_bytes(self) -> dict[str, int | None]:
        return {"weights": None, "context": 3 << 20}

    def _read(self) -> np.ndarray:
        return np.zeros(1)

    def _refit(self, tensors: Any) -> None: ...
    def _close(self) -> None: ...


X = np.zeros((1, 3, 2, 2), np.float32)


def test_a_session_is_prepared_timed_in_two_parts_and_asked_for_the_device_s_time() -> None:
    session = Doubled()
    session.bind(X)
    series = measure(device.parts_of(session), Rule(budget_s=1, max_samples=3))
    assert session.calls[:3] == ["prepare", "enqueue", "synchronize"]
    assert series.compute == [5.0] * 3
    assert len(series.enqueue) == 3
    assert all(0 <= part <= whole for part, whole in zip(series.enqueue, series.samples, strict=True))


def test_copies_are_timed_apart_and_the_first_does_not_count() -> None:
    found = device.transfers_of(Doubled(), X)
    assert found == {"h2d": 6.5, "d2h": 13.0}  # of 2 to 11
    assert device.transfers_of(Doubled(clock=False), X) is None


def test_memory_is_told_by_all_who_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "used_mib", lambda name: 1500.0)
    monkeypatch.setattr(device, "process_mib", lambda name: None)
    assert device.memory_of(Doubled(), "cuda:0", 1000.0) == {
        "device_peak_mib": 500.0,
        "device_memory": {
            "driver_growth": 500.0, "nvml_process": None, "library": {"weights": None, "context": 3.0},
        },
    }  # fmt: skip
    assert device.memory_of(Doubled(), "cuda:0", None)["device_peak_mib"] is None


def test_on_the_cpu_there_is_none() -> None:
    assert device.memory_of(Doubled(), "cpu", None) == {"device_peak_mib": None, "device_memory": None}


def test_memory_of_this_process_is_found_among_those_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(f'#!/bin/sh\nprintf "1, 900\\n{os.getpid()}, 77\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert device.process_mib("cuda:0") == 77.0
    script.write_text('#!/bin/sh\nprintf "1, 900\\n"\n')  # a container's process numbers are its own
    assert device.process_mib("cuda:0") is None
    assert device.process_mib("cpu") is None


def test_memory_of_a_cuda_device_is_none_without_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device.used_mib("cuda:0") is None
    assert device.used_mib("cpu") is None


@pytest.mark.parametrize(("prints", "expected"), [("echo 1234", 1234.0), ("echo '[N/A]'", None), ("exit 6", None)])
def test_memory_of_a_cuda_device_is_what_its_driver_says(
    prints: str, expected: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(f'#!/bin/sh\ncase "$*" in *--id=1*memory.used*) {prints};; *) exit 1;; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert device.used_mib("cuda:1") == expected

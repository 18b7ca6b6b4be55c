"""What the machine did meanwhile: from made-up folders and a made-up NVML, and what is called throttling."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.measure import Series
from bench.telemetry import Telemetry, cpu_source, gpu_source, summary, throttling


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    for core in os.sched_getaffinity(0):
        for name, text in (("cpufreq/scaling_cur_freq", "2400000"), ("thermal_throttle/package_throttle_count", "7")):
            path = tmp_path / "cpu" / f"cpu{core}" / name
            path.parent.mkdir(parents=True)
            path.write_text(text + "\n")
    for number, text in enumerate(("41000", "63500", "no number")):
        path = tmp_path / "thermal" / f"thermal_zone{number}" / "temp"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "loadavg").write_text("1.25 0.9 0.5 2/300 4711\n")
    return tmp_path / "cpu", tmp_path / "thermal", tmp_path / "proc"


def test_the_processor(folders: tuple[Path, Path, Path]) -> None:
    source = cpu_source(*folders)
    assert source is not None
    assert source() == {"cpu_mhz": 2400, "cpu_c": 63.5, "cpu_throttled": 7, "load": 1.25}


def test_what_a_system_does_not_show_is_missing(tmp_path: Path) -> None:
    assert cpu_source(tmp_path, tmp_path, tmp_path) is None


def test_readings_are_apart_and_summed_up() -> None:
    times = iter((0.0, 0.2, 0.5, 0.7, 1.6))
    telemetry = Telemetry("cpu", 0.5, lambda: next(times))
    values = iter([{"load": 1.0}, {"load": 4.0, "cpu_c": 60.0}, {"load": 2.0}])
    telemetry.read = lambda: next(values)  # type: ignore[method-assign]
    for _ in range(5):
        telemetry(Series(1.0))
    assert len(telemetry.readings) == 3
    assert summary(telemetry.readings) == {
        "load": {"least": 1, "median": 2, "most": 4}, "cpu_c": {"least": 60, "median": 60, "most": 60},
    }  # fmt: skip


class FakeNvml:
    """Clocks, 0x8: hardware slowdown, and three processes of which one is ours."""

    NVMLError = ValueError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlInit = staticmethod(lambda: None)  # noqa: N815
    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)  # noqa: N815
    nvmlDeviceGetClockInfo = staticmethod(lambda handle, kind: 1000 * kind)  # noqa: N815
    nvmlDeviceGetTemperature = staticmethod(lambda handle, kind: 71)  # noqa: N815
    nvmlDeviceGetCurrentClocksEventReasons = staticmethod(lambda handle: 0x8)  # noqa: N815

    @staticmethod
    def nvmlDeviceGetPowerUsage(handle: int) -> int:  # noqa: N802
        raise FakeNvml.NVMLError("Not Supported")

    @staticmethod
    def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in (1, os.getpid(), 2)]


def test_the_gpu_and_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml)
    source = gpu_source("cuda:0")
    assert source is not None
    reading = source()
    assert "gpu_w" not in reading
    assert (reading["gpu_mhz"], reading["gpu_c"], reading["gpu_others"]) == (1000, 71, 2)
    assert [name for name, value in reading.items() if value == 1] == ["hardware slowdown"]
    assert throttling([summary([reading])]) == [
        "2 other processes computed on the GPU", "the GPU was kept from its clocks: hardware slowdown",
    ]  # fmt: skip


def test_no_gpu_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_source("cuda:0") is None
    assert gpu_source("cpu") is None


def test_only_a_count_that_went_up_is_throttling() -> None:
    def of(least: float, most: float) -> dict[str, dict[str, float]]:
        return {"cpu_throttled": {"least": least, "median": least, "most": most}}

    assert throttling([of(7, 7), of(9, 9)]) == []
    assert throttling([of(7, 7), of(7, 8)]) == ["the processor was throttled by its temperature"]
    assert throttling([{}]) == []

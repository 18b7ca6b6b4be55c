"""Joules from counters in made-up folders: sums, wrap-around, rest, and the reason where there is no counter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import energy
from bench.energy import Counter, measure_energy, nvml_counter, rapl_counters


def zone(root: Path, name: str, words: str, energy_uj: int = 0, most: int = 262143328850) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(words + "\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_packages_and_memory_count_and_nothing_counts_twice(tmp_path: Path) -> None:
    for name, words in (
        ("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "uncore"),
        ("intel-rapl:0:2", "dram"), ("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys"), ("intel-rapl", ""),
    ):  # fmt: skip
        zone(tmp_path, name, words, 1_500_000)
    found, reason = rapl_counters(tmp_path)
    assert [counter.name for counter in found] == ["rapl package-0 0", "rapl dram 0", "rapl package-1 1"]
    assert reason is None
    assert found[0].read_j() == 1.5


def test_a_counter_that_wraps_counts_on() -> None:
    counter = Counter("x", lambda: 0.0, range_j=262.0)
    assert counter.between(10, 30) == 20
    assert counter.between(260, 3) == pytest.approx(5)
    with pytest.raises(ValueError, match="went back"):
        Counter("x", lambda: 0.0).between(10, 9)


def test_no_counter_is_a_reason_and_no_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "rapl_counters", lambda: rapl_counters(tmp_path))
    told = measure_energy(lambda: pytest.fail("nothing to count, nothing to run"), "cpu")
    assert told["joules"] is None
    assert told["reason"] == f"no RAPL counter below {tmp_path}"


def test_a_counter_that_only_root_may_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj"
    real = Path.read_text

    def read_text(self: Path, *words: Any, **more: Any) -> str:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *words, **more)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert rapl_counters(tmp_path) == ([], f"{path} may only be read by root")


class Machine:
    """A clock and a counter: 10 W at rest, 50 W while it computes; a picture takes half a second."""

    def __init__(self) -> None:
        self.now = self.joules = 0.0

    def spend(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.joules += seconds * watts

    def told(self, monkeypatch: pytest.MonkeyPatch, step_s: float = 0.5, wrap_j: float | None = None) -> dict[str, Any]:
        read: Callable[[], float] = lambda: self.joules % wrap_j if wrap_j else self.joules  # noqa: E731
        counters = [Counter("one", read, wrap_j), Counter("two", lambda: self.now)]
        monkeypatch.setattr(energy, "counters_of", lambda device: (counters, None))
        return measure_energy(
            lambda: self.spend(step_s, 50), "cpu", lambda: self.now, lambda seconds: self.spend(seconds, 10)
        )


@pytest.mark.parametrize("wrap_j", [None, 101.0])
def test_joules_per_picture_are_those_of_all_counters(monkeypatch: pytest.MonkeyPatch, wrap_j: float | None) -> None:
    told = Machine().told(monkeypatch, wrap_j=wrap_j)
    assert told["inferences"] == 4
    assert told["by"] == {"one": pytest.approx(25), "two": pytest.approx(0.5)}
    assert told["joules"] == pytest.approx(25.5)
    assert told["rest_w"] == pytest.approx(11)
    assert told["reason"] is None


def test_one_slow_picture_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Machine().told(monkeypatch, step_s=60.0)["inferences"] == 1


def test_a_counter_that_fails_on_the_way_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([1.0])

    def read() -> float:
        try:
            return next(readings)
        except StopIteration:
            raise OSError("NVML: lost") from None

    monkeypatch.setattr(energy, "counters_of", lambda device: ([Counter("gpu", read)], None))
    told = measure_energy(lambda: None, "cuda:0", sleep=lambda _: None)
    assert (told["joules"], told["reason"]) == (None, "NVML: lost")


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self, millijoules: int | None) -> None:
        self._millijoules = millijoules

    def nvmlInit(self) -> None:  # noqa: N802
        if self._millijoules is None:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        assert self._millijoules is not None
        return self._millijoules + handle


def test_a_gpu_counts_with_the_processor_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(5000))
    monkeypatch.setattr(energy, "rapl_counters", lambda: ([Counter("cpu", lambda: 0.0)], None))
    found, _ = energy.counters_of("cuda:1")
    assert [counter.name for counter in found] == ["nvml gpu 1", "cpu"]
    assert found[0].read_j() == pytest.approx(5.001)


def test_without_its_driver_or_package_a_gpu_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(None))
    monkeypatch.setattr(energy, "rapl_counters", lambda: ([Counter("cpu", lambda: 0.0)], None))
    assert energy.counters_of("cuda:0") == ([], "NVML: Driver Not Loaded")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_counter("cuda:0") == (None, "Python package `nvidia-ml-py` is not installed")


def test_here_it_is_a_number_or_a_reason() -> None:
    told = measure_energy(SimpleNamespace().__init__, "cpu", sleep=lambda _: None)
    assert (told["joules"] is None) == bool(told["reason"])

"""`bench sweep`: measures what its folder does not hold, and nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import run as run_module
from bench import store

Command = Callable[..., Any]
SWEEP = ("sweep", "--model", "can24", "--engine", "null", "--budget", "0.2", "--processes", "1")


def ids(folder: Path) -> list[str]:
    return [run["id"] for run in store.load(folder / "runs.json")]


def test_a_second_sweep_measures_only_what_is_new(command: Command, tmp_path: Path) -> None:
    first = command(*SWEEP, "--res", "64x48", "--output", tmp_path / "out")
    assert first.code == 0
    assert "0 of 1 cases are in" in first.err
    held = ids(tmp_path / "out")
    second = command(*SWEEP, "--res", "64x48,80x60", "--output", tmp_path / "out")
    assert second.code == 0
    assert "1 of 2 cases are in" in second.err
    assert ids(tmp_path / "out")[:1] == held
    assert len(ids(tmp_path / "out")) == 2
    assert "64x48" in second.out  # what was there is shown with what is new
    assert "80x60" in second.out


def test_a_complete_sweep_measures_nothing_and_shows_all(command: Command, tmp_path: Path) -> None:
    words = (*SWEEP, "--res", "64x48,80x60", "--output", tmp_path / "out")
    assert command(*words).code == 0
    before, names = (tmp_path / "out" / "runs.json").read_bytes(), sorted((tmp_path / "out").iterdir())
    (tmp_path / "out" / "runs.json.lock").touch()  # of a sweep that was killed after it had stored its last run
    again = command(*words)
    assert again.code == 0
    assert sorted((tmp_path / "out").iterdir()) == names
    assert "2 of 2 cases are in" in again.err
    assert "80x60" in again.out
    assert (tmp_path / "out" / "runs.json").read_bytes() == before


def test_a_failed_case_is_measured_again(command: Command, tmp_path: Path) -> None:
    words = (*SWEEP, "--res", "64x48", "--output", tmp_path / "out")
    assert command(*words).code == 0
    (run,) = store.load(tmp_path / "out" / "runs.json")
    store.put(tmp_path / "out" / "runs.json", [run | {"status": "failed", "reason": "killed"}])
    assert command(*words).code == 0
    assert [r["status"] for r in store.load(tmp_path / "out" / "runs.json")] == ["failed", "ok"]


def test_shards_of_one_folder_come_together_to_the_whole(command: Command, tmp_path: Path) -> None:
    words = (*SWEEP, "--res", "64x48,80x60,32x32", "--output", tmp_path / "out")
    for shard in ("1/2", "2/2"):
        assert command(*words, "--shard", shard).code == 0
    found = [run["case"]["resolution"] for run in store.load(tmp_path / "out" / "runs.json")]
    assert sorted(found) == ["32x32", "64x48", "80x60"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--output", "out", "--shard", "3/2"], ["--shard 3/2", "INDEX/COUNT"]),
        ([], ["--output"]),
        (["--output", "out", "--json", "x.json"], ["--json"]),
    ],
)
def test_wrong_words(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command(*SWEEP, "--res", "64x48", *words).assert_refused(*named)
    assert list(tmp_path.iterdir()) == []


def test_a_case_is_held_by_its_recipe(command: Command, tmp_path: Path, save: Callable[..., Path]) -> None:
    picture, out = save(tmp_path / "picture.png", 64, 48), tmp_path / "out"
    words = (
        "sweep", "--model", "can:depth=3:width=8", "--engine", "openvino", "--budget", "0.2", "--processes", "1",
        "--res", "64x48", "--calibration", picture, "--recovery", "none", "--output", out,
    )  # fmt: skip
    searched = ("--precision", "auto", "--floor", "20dB")
    assert command(*words, *searched).code == 0
    (layers,) = out.glob("layers-*.json")
    before = layers.read_bytes()
    layers.unlink()
    again = command(*words, *searched)
    assert "1 of 1 cases are in" in again.err
    assert f"layers: {layers}" in again.out
    assert layers.read_bytes() == before
    other = command(*words, "--precision", "auto", "--floor", "15dB")
    assert "0 of 1 cases are in" in other.err
    assert [run["case"]["recipe"]["floor_db"] for run in store.load(out / "runs.json")] == [20, 15]
    assert len(list(out.glob("layers-*.json"))) == 2


def test_a_sweep_within_a_time_ends_in_it_and_the_same_command_goes_on(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second case is left by a clock that jumps; nothing of it stands in the table."""
    words = (*SWEEP, "--res", "64x48,80x60", "--output", tmp_path / "out")
    monkeypatch.setattr("bench.run.Execution.peaks", lambda self: {"failed": "left out by the test"})
    real = run_module.Execution.turn

    def turn(self: Any, *more: Any) -> None:
        real(self, *more)
        self.end = time.monotonic() - 1

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Execution, "turn", turn)
        cut = command(*words, "--within", "10min")
    assert cut.code == 0, cut.err
    assert "1 case is left: the same command goes on with them" in cut.out
    assert [run["case"]["resolution"] for run in store.load(tmp_path / "out" / "runs.json")] == ["80x60"]
    assert "80x60" in cut.out
    assert "64x48" not in cut.out
    again = command(*words, "--within", "10min")
    assert "1 of 2 cases are in" in again.err
    assert again.code == 0
    assert "64x48" in again.out
    assert "are left" not in again.out


def test_a_time_that_is_over_before_anything_was_measured_is_no_success(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bench.run.Execution.peaks", lambda self: setattr(self, "end", 0.0) or {"failed": "by the test"}
    )
    found = command(*SWEEP, "--res", "64x48", "--output", tmp_path / "out", "--within", "10min")
    assert found.code == 5
    assert "1 case is left, and this call completed none" in found.out


def test_ctrl_c_in_a_sweep_within_a_time_is_an_interruption(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def turn(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module.Execution, "turn", turn)
    monkeypatch.setattr("bench.run.Execution.peaks", lambda self: {"failed": "left out by the test"})
    found = command(*SWEEP, "--res", "64x48", "--output", tmp_path / "out", "--within", "10min")
    assert found.code == 130


def test_a_time_is_refused_beside_what_does_not_end_in_time(command: Command, tmp_path: Path) -> None:
    found = command(*SWEEP, "--res", "64x48", "--output", tmp_path / "out", "--within", "9min", "--profile")
    assert found.code == 2
    assert "`--within` with --profile" in found.err

"""`bench history`: add, list, plot, baseline, and wrong use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from bench import store

Make = Callable[..., dict[str, Any]]
Command = Callable[..., Any]


@pytest.fixture
def runs_file(gate_run: Make, tmp_path: Path) -> Path:
    """Eight commits at 100 ms, eight at 110."""
    runs = [
        gate_run(f"r{k}", (100 if k < 8 else 110) + k % 3 / 10, commit=f"{k:x}{'0' * 39}", time=f"2026-03-{k + 1:02}")
        for k in range(16)
    ]
    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"schema": 1, "runs": runs}))
    return path


def test_from_files_to_a_plot_and_back_to_a_baseline(command: Command, runs_file: Path, tmp_path: Path) -> None:
    db = ("--db", tmp_path / "h.sqlite")
    assert "no runs" in command("history", "list", *db).out
    assert command("history", "add", runs_file, *db).out == "16 new runs, 0 known\n"
    assert command("history", "add", runs_file.parent, *db).out == "0 new runs, 16 known\n"
    assert command("history", "list", *db).out.splitlines()[-1] == f"2026-03-16  f{'0' * 39}  1 runs"
    plot = command("history", "plot", "latency", "--output", tmp_path / "l.svg", "--case", "CAN24 720p", *db)
    assert plot.code == 0
    assert "can24 720p onnxruntime fp32 image: +10." in plot.out
    assert "at run 9" in plot.out
    assert (tmp_path / "l.svg").read_text().startswith("<?xml")
    out = tmp_path / "base.json"
    assert command("history", "baseline", "--commit", "b", "--output", out, *db).code == 0
    assert [run["id"] for run in store.load(out)] == ["r11"]


def test_a_commit_of_ones_own_stays_and_is_found_whole(command: Command, runs_file: Path, tmp_path: Path) -> None:
    db, out = ("--db", tmp_path / "h.sqlite"), tmp_path / "base.json"
    runs = store.load(runs_file)
    for name, run in (("v1.1", runs[0]), ("v1.10", runs[1])):
        store.put(tmp_path / f"{name}.json", [run])
        command("history", "add", tmp_path / f"{name}.json", "--commit", name, *db)
        command("history", "add", tmp_path / f"{name}.json", *db)  # again, without: it keeps what it has
    assert [line.split()[1] for line in command("history", "list", *db).out.splitlines()] == ["v1.1", "v1.10"]
    assert command("history", "baseline", "--commit", "v1.1", "--output", out, *db).code == 0
    assert [(run["id"], run["commit"]) for run in store.load(out)] == [(runs[0]["id"], "v1.1")]
    command("history", "add", runs_file, "--commit", "unknown", *db).assert_refused("--commit unknown")


def test_runs_that_hold_no_commit_can_be_taken_out(command: Command, runs_file: Path, tmp_path: Path) -> None:
    runs = store.load(runs_file)[:2]
    runs[0]["commit"] = None
    store.put(tmp_path / "two.json", runs)
    db = ("--db", tmp_path / "h.sqlite")
    command("history", "add", tmp_path / "two.json", *db)
    assert "  unknown  1 runs" in command("history", "list", *db).out
    out = tmp_path / "base.json"
    assert command("history", "baseline", "--commit", "unknown", "--output", out, *db).out.endswith(" of unknown\n")
    assert [run["id"] for run in store.load(out)] == [runs[0]["id"]]


def test_the_default_database_lies_in_the_cache(command: Command, runs_file: Path, command_cache: Path) -> None:
    assert command("history", "add", runs_file).code == 0
    assert (command_cache / "history.sqlite").is_file()
    (command_cache / "history.sqlite").unlink()


def test_wrong_use(command: Command, runs_file: Path, tmp_path: Path) -> None:
    db = ("--db", tmp_path / "h.sqlite")
    command("history", "add", runs_file, *db)
    command("history", "add", tmp_path / "none.json", *db).assert_refused("none.json")
    command("history", "plot", "latancy", "--output", tmp_path / "x.svg", *db).assert_refused("Did you mean latency?")
    command("history", "plot", "latency", "--output", tmp_path / "x.png", *db).assert_refused("x.png", "SVG")
    command("history", "plot", "plan_size", "--output", tmp_path / "x.svg", *db).assert_refused("plan_size")
    baseline = ("history", "baseline", "--output", tmp_path / "b.json", *db)
    command(*baseline, "--commit", "zzz").assert_refused("zzz", "no run")
    command(*baseline, "--commit", "").assert_refused("--commit")
    command("history", "list", "--db", "mysql://x").assert_refused("mysql")

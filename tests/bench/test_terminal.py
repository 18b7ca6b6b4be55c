"""Consoles of the right width and colour, and output that nobody reads to its end."""

from __future__ import annotations

import subprocess
import sys

import pytest
from rich.console import Console

from bench.terminal import console_for, progress_on


def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=more or None)


def test_a_pipe_is_160_columns_wide_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console_for().width == 160
    monkeypatch.setenv("COLUMNS", "90")
    assert console_for().width == 90


def test_the_two_outputs_are_kept_apart(capsys: pytest.CaptureFixture[str]) -> None:
    console_for().print("said")
    console_for(stderr=True).print("told")
    assert capsys.readouterr() == ("said\n", "told\n")


def test_a_pipe_gets_no_terminal_codes_and_numbers_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    console_for().print("[bold]3.5 ms[/] 'x' /tmp/y")
    assert capsys.readouterr().out == "3.5 ms 'x' /tmp/y\n"


def test_a_reader_that_left_raises_what_main_waits_for() -> None:
    """rich itself would end the program with 1, which here means a bug."""
    code = (
        "import os, sys; from bench.terminal import console_for\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "try: console_for().print('x' * 100_000)\n"
        "except BrokenPipeError: sys.stderr.write('broken'); os._exit(7)\n"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (7, "broken")


def test_output_that_was_dropped_goes_nowhere_and_ends_without_a_word() -> None:
    code = (
        "import os, sys; from bench.terminal import drop_output\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "sys.stdout = open(1, 'w'); print('before', end=''); drop_output(); print('after'); sys.stdout.flush()\n"
    )
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_stages_are_lines_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    console = console_for(stderr=True)
    assert isinstance(console, Console)
    with progress_on(console) as reporter, reporter.stage("prepare can24", total=2) as show:
        show(1, "half")
    assert capsys.readouterr() == ("", "prepare can24\n")

"""The command's door: commands are found, wrong words named, signals and limits end in the right exit code.

What each command does is tested in tests/bench/commands.
"""

from __future__ import annotations

import pkgutil
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import bench.commands
from bench import cli, store

Command = Callable[..., Any]
Start = Callable[..., Any]
SMALL = ("--res", "64x48", "--budget", "1", "--processes", "1")
LONG = ("--res", "320x240", "--budget", "12", "--processes", "2")
RUN = ("run", "--model", "can24")


# The commands


def test_every_file_is_a_command_of_its_name_in_the_stated_order(command: Command) -> None:
    files = {module.name for module in pkgutil.iter_modules(bench.commands.__path__)}
    assert {"run", "apply", "export", "weights", "models", "engines"} <= files
    listed = re.findall(r"^    (\w+) +\S", command("--help").out.partition("commands:")[2], re.MULTILINE)
    assert set(listed) == files
    orders = [module.ORDER for module in cli._commands()]
    assert orders == sorted(set(orders)), "two commands claim one place"
    assert listed[0] == "run"


def test_every_command_describes_itself(command: Command) -> None:
    for module in cli._commands():
        name = module.__name__.rpartition(".")[2]
        outcome = command(name, "--help")
        assert outcome.code == 0
        assert outcome.out.startswith(f"usage: bench {name} ")
        assert outcome.err == ""


def test_every_exit_code_of_the_help_is_one_of_ours() -> None:
    from bench import exit_codes

    told = {int(code) for code in re.findall(r"\b(\d+) [a-z]", cli.EPILOG.partition("exit codes:")[2])}
    assert told == {1, *(code for name, code in vars(exit_codes).items() if name.isupper())}


# Wrong words

WORDS: list[tuple[list[str], list[str]]] = [
    ([], ["no command", "bench COMMAND --help"]),
    (["rnu"], ["rnu", "Did you mean run?"]),
    (["model"], ["model", "Did you mean models?"]),
    (["zzzzz"], ["zzzzz", "apply, ", "export, ", "weights, ", "bench --help"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) or "nothing" for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command(*words).assert_refused(*named)
    assert list(tmp_path.iterdir()) == []


def test_no_command_at_all_lists_them_on_standard_error(command: Command) -> None:
    outcome = command()
    assert (outcome.code, outcome.out) == (2, "")
    listed = re.findall(r"^    (\w+) +\S", outcome.err.partition("commands:")[2], re.MULTILINE)
    assert listed == [module.__name__.rpartition(".")[2] for module in cli._commands()]
    assert "exit codes" not in outcome.err, "that is the long help"


MISSPELT = [
    (["run", "--model", "can24", "--resolution", "64x48"], "--resolution", "--res"),
    (["run", "--modle", "can24", "--res", "64x48"], "--modle", "--model"),
    ([*RUN, *SMALL, "--budgett", "3"], "--budgett", "--budget"),
    ([*RUN, *SMALL, "--engines=null"], "--engines", "--engine"),
    ([*RUN, *SMALL, "--options", "depth=3"], "--options", "--option"),
    (["apply", "--model", "can24", "--inptu", "a.png", "--output", "b.png"], "--inptu", "--input"),
    (["apply", "--model", "can24", "--styel", "a.png"], "--styel", "--style"),
    (["engines", "--setings"], "--setings", "--settings"),
    (["models", "--option"], "--option", "--options"),
]


@pytest.mark.parametrize(("words", "wrong", "right"), MISSPELT, ids=[wrong for _, wrong, _ in MISSPELT])
def test_a_misspelt_option_is_named_and_the_right_one_suggested(
    words: list[str], wrong: str, right: str, command: Command
) -> None:
    command(*words).assert_refused(wrong, f"Did you mean {right}?")


def test_the_suggestion_comes_from_the_words_given_to_main_and_not_from_the_process(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "export"])
    command("rnu").assert_refused("Did you mean run?")


# Answers at once, without heavy libraries

LOOK_UPS = [
    (["--help"], "exit codes"),
    (["--version"], f"fullres {metadata.version('fullres')}"),
    (["run", "--help"], "--budget"),
    (["apply", "--help"], "--style"),
    (["models"], "can32"),
    (["models", "can32_multi"], "l0_smoothing"),
    (["models", "--options"], "--option depth="),
    (["engines"], "torch_eager"),
    (["engines", "--settings"], "onnxruntime.spin"),
]


@pytest.mark.parametrize(("words", "shown"), LOOK_UPS, ids=[" ".join(w) for w, _ in LOOK_UPS])
def test_look_ups_answer_at_once_and_without_torch(words: list[str], shown: str, answer: Callable[..., Any]) -> None:
    outcome = answer(words)
    assert (outcome.code, outcome.err) == (0, "")
    assert shown in outcome.out


QUICK = [
    ["rnu"],
    ["run", "--model", "can24"],
    ["run", "--model", "cam24", "--res", "64x48"],
    ["run", "--model", "can24", "--res", "1441p"],
    [*RUN, *SMALL, "--engine", "onnxruntim"],
    [*RUN, *SMALL, "--precision", "fp23"],
    [*RUN, *SMALL, "--option", "depth=3"],
    ["run", "--model", "can", *SMALL, "--option", "depth=99"],
    [*RUN, *SMALL, "--images", "absent.png"],
    [*RUN, *SMALL, "--weights", "absent.safetensors"],
    [*RUN, *SMALL, "--json", "."],
    ["apply", "--model", "can24", "--input", "absent.png", "--output", "b.png"],
    ["export", "--model", "can24", "--output", "x.txt"],
    ["models", "can42"],
    [*RUN, *SMALL, "--precision", "int9"],
    [*RUN, *SMALL, "--precision", "auto"],
    [*RUN, *SMALL, "--precision", "int8", "--floor", "42dB"],
    [*RUN, *SMALL, "--precision", "auto", "--floor", "abc"],
    [*RUN, *SMALL, "--precision", "int8", "--recovery", "foo"],
    [*RUN, *SMALL, "--precision", "int8", "--clipping", "foo"],
    [*RUN, *SMALL, "--precision", "int8", "--layers", "absent.json"],
    ["export", "--model", "can24", "--precision", "auto", "--output", "x.onnx"],
    ["export", "--model", "can24", "--precision", "int8+fp16", "--engine", "openvino", "--output", "x.onnx"],
    ["build", "--model", "can24", "--engine", "onnxruntime", "--precision", "fp8", "--output", "x.onnx"],
]


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_refusals_come_at_once_and_without_torch(words: list[str], answer: Callable[..., Any]) -> None:
    answer(words).assert_refused()


# As a process of its own: signals, limits, pipes


def test_a_killed_worker_is_a_failed_row_and_the_rest_goes_on(start: Start, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    live = start(*RUN, *LONG, "--engine", "onnxruntime,null", "--json", runs)
    live.wait_for("onnxruntime fp32 image · process 1")
    live.wait_for_worker("onnxruntime_pybind").kill()
    outcome = live.finish()
    assert outcome.code == 5, outcome
    killed, other = store.load(runs)
    assert (killed["case"]["engine"], killed["status"]) == ("onnxruntime", "failed")
    assert "SIGKILL" in killed["reason"]
    assert killed["latency_ms"] is None
    assert (other["case"]["engine"], other["status"]) == ("null", "ok")
    assert len(other["latency_ms"]["samples"]) == 2
    assert "SIGKILL" in outcome.out
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("engine", "number"),
    [("onnxruntime", signal.SIGINT), ("onnxruntime,null", signal.SIGINT), ("onnxruntime", signal.SIGTERM)],
)
def test_an_interrupt_keeps_what_was_measured_prints_the_table_and_leaves_no_worker(
    engine: str, number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    runs = tmp_path / "runs.json"
    live = start(*RUN, *LONG[:-1], "3", "--engine", engine, "--json", runs)
    live.wait_for("onnxruntime fp32 image · process 2")
    worker = live.wait_for_worker("onnxruntime_pybind")
    live.process.send_signal(number)
    outcome = live.finish(timeout_s=20)
    assert outcome.code == 130, outcome
    assert not worker.is_running()
    found = store.load(runs)
    assert found[0]["status"] == "ok"
    assert len(found[0]["latency_ms"]["samples"]) == 1
    assert any("interrupted" in reason for reason in found[0]["unstable"])
    assert "320x240" in outcome.out
    assert "interrupted" in outcome.out
    assert "Traceback" not in outcome.err


def test_ctrl_c_before_the_first_number_says_so_in_every_row(start: Start, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    live = start(*RUN, *LONG, "--engine", "onnxruntime,null", "--json", runs)
    live.wait_for("prepare can24")
    time.sleep(0.2)
    live.process.send_signal(signal.SIGINT)
    outcome = live.finish(timeout_s=20)
    assert outcome.code == 130, outcome
    assert [run["status"] for run in store.load(runs)] == ["skipped", "skipped"]
    assert all("interrupted" in run["reason"] for run in store.load(runs))
    assert "Traceback" not in outcome.err


def test_memory_that_runs_out_in_a_worker_is_a_failed_row_with_its_reason(start: Start, tmp_path: Path) -> None:
    """Only the workers of cases are limited, so that the reference is there and the engine is what fails."""
    runs = tmp_path / "runs.json"
    limit = "resource.setrlimit(resource.RLIMIT_AS, (600_000_000, resource.RLIM_INFINITY))"
    live = start(
        *RUN, "--res", "1600x1200", "--budget", "1", "--processes", "1", "--engine", "onnxruntime,null",
        "--json", runs, case=limit,
    )  # fmt: skip
    outcome = live.finish()
    assert outcome.code == 5, outcome
    failed, other = store.load(runs)
    assert (failed["status"], other["status"]) == ("failed", "ok")
    assert re.search(r"(?i)memory|alloc|\bSIG", failed["reason"]), failed["reason"]
    assert "failed" in outcome.out
    assert "Traceback" not in outcome.err + outcome.out


def test_memory_that_runs_out_before_the_first_case_is_a_failed_row_too(
    command: Command, cheap: Callable[[str], str], tmp_path: Path
) -> None:
    """The whole command is limited: already torch's reference does not fit."""
    runs = tmp_path / "runs.json"
    assert command("export", "--model", "can24", "--output", tmp_path / "exported-without-limit.onnx").code == 0
    words = [*RUN, "--res", "2400x1800", "--budget", "1", "--processes", "1", "--engine", "null", "--json", runs]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 1400000; exec "$@"', "bash", sys.executable, "-c", cheap("pass"),
         *map(str, words)],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 5, done
    assert [run["status"] for run in store.load(runs)] == ["failed"]
    assert re.search(r"(?i)memory|alloc", store.load(runs)[0]["reason"]), store.load(runs)[0]["reason"]
    assert "Traceback" not in done.stderr + done.stdout


def test_a_file_system_that_is_full_in_the_middle_gives_exit_5_and_keeps_the_old_file(
    start: Start, tmp_path: Path
) -> None:
    """A limit on file sizes, set once measuring begins, stands for the full disk: the system itself refuses."""
    runs = tmp_path / "runs.json"
    store.put(runs, [{"id": "old", "ballast": ["x" * 100] * 3000}])
    before = runs.read_bytes()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))"
    outcome = start(*RUN, *SMALL, "--engine", "null", "--json", runs, case=limit).finish()
    assert outcome.code == 5, outcome
    assert "cannot be written" in outcome.err
    assert "Traceback" not in outcome.err
    assert "64x48" in outcome.out, "what was measured is lost"
    assert runs.read_bytes() == before


def test_two_runs_at_once_share_a_runs_file(start: Start, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    both = [start(*RUN, *SMALL, "--engine", "null", "--threads", "1", "--json", runs) for _ in range(2)]
    for live in both:
        outcome = live.finish()
        assert outcome.code == 0, outcome
    assert [run["status"] for run in store.load(runs)] == ["ok", "ok"]


@pytest.mark.parametrize("words", [[*RUN, *SMALL, "--engine", "null"], ["models"]], ids=["run", "models"])
@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.usefixtures("command_cache")
def test_a_reader_that_leaves_early_gives_no_traceback(
    words: list[str], reader: str, cheap: Callable[[str], str], tmp_path: Path
) -> None:
    code = cheap("pass")
    done = subprocess.run(
        ["bash", "-c", f'"$@" | {reader}; exit ${{PIPESTATUS[0]}}', "bash", sys.executable, "-c", code, *words],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == 0, done

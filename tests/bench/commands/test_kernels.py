"""`bench kernels`: wrong use, what is said without a device, a real interpreter, tables and exit codes."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.commands import kernels
from bench.commands.kernels import shown
from bench.kernel_cases import KernelCase, cases
from bench.kernels import Prepared, judge, row_of
from bench.spawn import JobFailed
from engines.plugins.ptx import triton_missing

Command = Callable[..., Any]

WORDS: list[tuple[list[str], list[str]]] = [
    (["--kernel", "pixel_shufle"], ["--kernel pixel_shufle", "pixel_dcl", "Did you mean pixel_shuffle?"]),
    (["--precision", "fp8"], ["--precision fp8", "tf32"]),
    (
        ["--kernel", "pixel_dcl", "--precision", "int8"],
        ["--precision int8", "pixel_dcl has no such type", "tf32, fp16"],
    ),
    (["--device", "gpu"], ["--device gpu", "Did you mean cuda:0?"]),
    (["--device", "cpu", "--res", "4k"], ["--res", "nothing is timed by an interpreter"]),
    (["--device", "cpu", "--require"], ["--require", "nothing is timed by an interpreter"]),
    (["--device", "cpu", "--json", "nowhere/a.json"], ["--json nowhere/a.json", "folder does not exist"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(words: list[str], named: list[str], command: Command) -> None:
    command("kernels", *words).assert_refused(*named)


def test_an_unknown_size_is_refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_device(monkeypatch)
    command("kernels", "--res", "1081p").assert_refused("--res 1081p", "Did you mean 1080p?")


def test_without_a_device_it_says_what_can_be_done(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.installed.cuda_device_count", lambda: 0)
    for device in ("cuda", "cuda:0", "cuda:3"):
        command("kernels", "--device", device).assert_refused(
            "the driver shows 0 CUDA devices here", "`bench kernels --device cpu`"
        )


def test_without_triton_it_says_how_to_install_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.plugins.ptx.triton_missing", lambda: "Python package `triton` is not installed")
    command("kernels", "--device", "cpu").assert_refused("`triton` is not installed", "pip install '.[plugins]'")


# Without a GPU


def test_the_interpreter_finds_a_kernel_right(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := triton_missing():
        pytest.skip(reason)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None if name == "ptxas" else which(name, *rest))
    words = ("--kernel", "pixel_interleave,pixel_shuffle_picture", "--precision", "fp16")
    outcome = command("kernels", "--device", "cpu", *words, "--json", tmp_path / "a.json")
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[1] == ["pixel_shuffle_picture", "espcn_x3", "1x15x21", "fp16", "correct"]
    assert lines[2] == ["pixel_interleave", "pixel_dcn", "16x16x22", "fp16", "correct"]
    assert "no times, and nothing ran on a GPU" in outcome.out
    assert "no `ptxas` on the PATH" in outcome.out
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["schema"], found["device"], found["driver"]) == (1, "cpu", None)
    assert [row["status"] for row in found["rows"]] == ["ok", "ok"]
    assert {"machine", "versions", "commit", "argv", "time"} <= set(found)
    assert "pictures" not in found
    assert "kernels through the interpreter" in outcome.err


Answers = Callable[[Mapping[str, Any]], dict[str, Any]]


def answered(monkeypatch: pytest.MonkeyPatch, answer: Answers, rows: int = 10**6) -> list[Any]:
    """Workers say what `answer` returns, and their first rows on the way; the list holds the jobs and environments."""
    asked: list[Any] = []

    def run_job(job: Mapping[str, Any], environment: Any, on_event: Callable[[Any], None]) -> dict[str, Any]:
        asked.append((job, environment))
        found = answer(job)
        on_event({"event": "phase", "name": "something", "done": 0})
        for row in found.get("rows", ())[:rows]:
            on_event({"event": "row", "row": row})
        if rows < len(found.get("rows", ())):
            raise JobFailed("the worker died of SIGSEGV")
        return found

    monkeypatch.setattr("bench.spawn.run_job", run_job)
    monkeypatch.setattr("engines.plugins.ptx.triton_missing", lambda: None)
    return asked


def test_a_wrong_kernel_ends_with_3(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(job: Mapping[str, Any]) -> dict[str, Any]:
        made = [KernelCase(**case) for case in job["cases"]]
        return {"rows": [row_of(c, Prepared(fault="9 differ" if c.r == 3 else None), {}, 1, {}) for c in made]}

    monkeypatch.setattr("bench.kernel_code.assembler_missing", lambda: "no assembler")
    answered(monkeypatch, answer)
    outcome = command("kernels", "--device", "cpu", "--kernel", "pixel_shuffle", "--precision", "fp16")
    assert outcome.code == 3
    assert "pixel_shuffle espcn_x3 1x15x21 fp16: wrong, 9 differ" in outcome.out
    assert [line.split()[-1] for line in outcome.out.splitlines()[1:3]] == ["wrong", "correct"]


def test_what_the_assembler_says_stands_below(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(job: Mapping[str, Any]) -> dict[str, Any]:
        made = [KernelCase(**case) for case in job["cases"]]
        if job["job"] == "kernel_check":
            return {"rows": [row_of(case, Prepared(), {}, 1, {}) for case in made]}
        shared = {"r": 2, "threads": 128, "shared_bytes": 16384}
        return {"code": [
            {**shared, "kernel": c.kernel, "precision": c.precision, "planes": c.planes, "capability": capability,
             "registers": capability, "spilled_bytes": 8 * (capability == 86), "occupancy": capability / 100}
            for c in made for capability in (80, 86) if (c.planes, capability) != (128, 80)
        ]}  # fmt: skip

    monkeypatch.setattr("bench.kernel_code.assembler_missing", lambda: None)
    asked = answered(monkeypatch, answer)
    outcome = command("kernels", "--device", "cpu", "--kernel", "pixel_dcl", "--precision", "fp16")
    assert outcome.code == 0, outcome.err
    assert [environment for _, environment in asked] == [{"TRITON_INTERPRET": "1"}, {"TRITON_INTERPRET": "0"}]
    # Of layers whose code differs by a number only, the first.
    assert [case["planes"] for case in asked[1][0]["cases"]] == [16, 32]
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["kernel", "type", "registers", "KiB", "occupancy", "least", "on"] in lines
    assert ["pixel_dcl", "32", "fp16", "80", "to", "86", "16", "80", "%", "to", "86", "%", "sm_80"] in lines
    assert max(len(line) for line in outcome.out.splitlines() if line.startswith(("kernel", "pixel_dcl"))) <= 80
    assert "By the assembler, for sm_80, sm_86:" in outcome.out
    assert "Registers are spilled by: pixel_dcl fp16 sm_86, pixel_dcl fp16 sm_86" in outcome.out


# With one, as its worker tells


def with_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.installed.cuda_device_count", lambda: 1)


def figures(case: KernelCase, share: float, fast: float, compiled: bool = True) -> dict[str, Any]:
    """A row of a kernel of 1 ms ± 2 %: so much of the copy rate, so many times as fast as its operators."""
    own = [0.98, 1.0, 1.02] * 8
    other = {"native": fast, "planned": 1.25, "copy_alike": share / 0.96, **({"compiled": 1.5} if compiled else {})}
    samples = {"kernel": own, **{name: [ms * times for ms in own] for name, times in other.items()}}
    samples["copy"] = [ms * share * 10**6 / case.min_bytes for ms in own]
    return row_of(
        case, Prepared(left_out={} if compiled else {"compiled": "no compiler"}), samples, 10**6, {"fp16": 0.25}
    )


def on_a_device(
    monkeypatch: pytest.MonkeyPatch, share: float = 0.95, fast: float = 3.5, rows: int = 10**6
) -> list[Any]:
    def answer(job: Mapping[str, Any]) -> dict[str, Any]:
        made = [figures(KernelCase(**c), share, fast, job["compiled"]) for c in job["cases"]]
        rates = {"copy_gb_s": 4000.0, "matrix_tflop_s": {"fp16": 700.0}, "late": 2, "device_name": "NVIDIA Made Up"}
        return {"rows": made, "goals": judge(made), **rates}

    with_a_device(monkeypatch)
    return answered(monkeypatch, answer, rows)


FEW = ("--kernel", "pixel_shuffle,pixel_dcl", "--precision", "fp16", "--res", "1080p")


def test_rows_notes_and_verdicts(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = on_a_device(monkeypatch)
    outcome = command("kernels", *FEW, "--json", tmp_path / "a.json")
    assert outcome.code == 0, outcome.err
    ((job, environment),) = asked
    assert (job["job"], job["device"], job["compiled"], environment) == ("kernels", "cuda:0", True, None)
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == (
        [
            "kernel",
            "of",
            "output",
            "type",
            "ms",
            "±",
            "GB/s",
            "of",
            "copy",
            "alike",
            "in",
            "a",
            "plan",
            "native",
            "compiled",
            "TFLOP/s",
            "of",
            "products",
        ]
    )
    shape = "pixel_shuffle srgan_x4 64x1080x1920 fp16 1.0000 2.0 % 531 95 % 99 % 0.80x 3.50x 1.50x"
    assert lines[2] == shape.split()
    # 2 * 8 * 16² * 518400 operations in 1 ms
    assert lines[3][-3:] == ["2.1", "849", "%"]
    assert "NVIDIA Made Up: copy 4000 GB/s, fp16 products 700 TFLOP/s" in outcome.out
    assert "2 timings may hold time of the host" in outcome.out
    assert outcome.out.rstrip().splitlines()[-2:] == [goal["in_words"] for goal in judge(_rows(tmp_path / "a.json"))]
    assert "PixelShuffle at 90 % of the device's copy rate: met" in outcome.out
    found = json.loads((tmp_path / "a.json").read_text())
    assert [goal["verdict"] for goal in found["goals"]] == ["met", "met"]
    assert found["device_name"] == "NVIDIA Made Up"
    assert found["argv"][1:3] == ["kernels", "--kernel"]
    assert len(found["rows"][0]["times"]["kernel"]["samples"]) == 24


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["rows"])


@pytest.mark.parametrize(
    ("reached", "words", "code"),
    [
        ((0.95, 3.5), (), 0),
        ((0.5, 1.1), (), 0),
        ((0.95, 3.5), ("--require",), 0),
        ((0.5, 3.5), ("--require",), 3),
        ((0.95, 1.1), ("--require",), 3),
        ((0.95, 1.1), ("--require", "--kernel", "pixel_shuffle"), 0),
        ((0.95, 1.1), ("--require", "--kernel", "pixel_shuffle,pixel_interleave"), 0),
    ],
)
def test_a_missed_goal_fails_where_goals_are_required(
    reached: tuple[float, float], words: tuple[str, ...], code: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_device(monkeypatch, *reached)
    assert command("kernels", "--precision", "fp16", *words).code == code


def test_what_is_not_clear_ends_with_4_where_goals_are_required(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_run", lambda job, environment, found, show: found.update(
        rows=[{**figures(cases(["pixel_dcl"], [("a", 64, 64)], ["fp16"])[0], 1.0, 3.0),
               "native": {"value": 3.0, "ci95": [2.9, 3.1]}}]
    ))  # fmt: skip
    with_a_device(monkeypatch)
    monkeypatch.setattr("engines.plugins.ptx.triton_missing", lambda: None)
    assert command("kernels", "--kernel", "pixel_dcl", "--require").code == 4
    assert command("kernels", "--kernel", "pixel_dcl").code == 0


@pytest.mark.parametrize(
    "words",
    [("--kernel", "pixel_interleave"), ("--kernel", "pixel_dcl,pixel_interleave", "--precision", "int8")],
    ids=" ".join,
)
def test_goals_that_nobody_has_cannot_be_required(
    words: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = on_a_device(monkeypatch)
    outcome = command("kernels", *words, "--require")
    outcome.assert_refused("`--require`: no goal is set for", "pixel_shuffle (fp32, fp16, bf16, int8) or pixel_dcl")
    assert outcome.code == 2
    assert asked == []


@pytest.mark.parametrize(("fast", "code"), [(3.5, 4), (1.1, 3)])
def test_a_row_that_was_skipped_is_not_met(
    fast: float, code: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(job: Mapping[str, Any]) -> dict[str, Any]:
        first, *others = [KernelCase(**case) for case in job["cases"]]
        made = [row_of(first, Prepared(skipped="does not fit"), {}, 1, {}), *(figures(c, 1.0, fast) for c in others)]
        rates = {"copy_gb_s": 4000.0, "matrix_tflop_s": {}, "late": 0, "device_name": "x"}
        return {"rows": made, "goals": judge(made), **rates}

    with_a_device(monkeypatch)
    answered(monkeypatch, answer)
    words = ("--kernel", "pixel_dcl", "--precision", "fp16", "--res", "1080p")
    outcome = command("kernels", *words, "--require")
    assert outcome.code == code
    assert "1 could not be timed" in " ".join(outcome.out.split())
    assert command("kernels", *words).code == 0


def test_torch_compile_can_be_left_out(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = on_a_device(monkeypatch)
    outcome = command("kernels", *FEW, "--no-compile")
    assert not asked[0][0]["compiled"]
    assert outcome.out.splitlines()[1].split()[-2:] == ["3.50x", "–"]
    assert "left out: compiled: no compiler" in outcome.out


def test_a_worker_that_dies_leaves_what_was_measured(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_a_device(monkeypatch, rows=2)
    outcome = command("kernels", *FEW, "--json", tmp_path / "a.json")
    assert outcome.code == 5
    assert "ended after 2 rows: the worker died of SIGSEGV" in outcome.out
    found = json.loads((tmp_path / "a.json").read_text())
    assert len(found["rows"]) == 2
    assert [goal["verdict"] for goal in found["goals"]] == ["met", "not timed"]


def test_an_interrupt_leaves_what_was_measured(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = on_a_device(monkeypatch)

    def interrupted(job: Mapping[str, Any], environment: Any, on_event: Callable[[Any], None]) -> dict[str, Any]:
        on_event({"event": "row", "row": figures(KernelCase(**job["cases"][0]), 0.95, 3.5)})
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.spawn.run_job", interrupted)
    assert command("kernels", *FEW, "--json", tmp_path / "a.json").code == 130
    assert len(_rows(tmp_path / "a.json")) == 1
    assert asked == []


def test_where_nothing_could_be_timed_it_ends_with_5(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(job: Mapping[str, Any]) -> dict[str, Any]:
        made = [row_of(KernelCase(**c), Prepared(skipped="does not fit"), {}, 1, {}) for c in job["cases"]]
        return {"rows": made, "copy_gb_s": None, "matrix_tflop_s": {}, "late": 0, "device_name": "x"}

    with_a_device(monkeypatch)
    answered(monkeypatch, answer)
    outcome = command("kernels", *FEW)
    assert outcome.code == 5
    assert "pixel_shuffle espcn_x3 1x1080x1920 fp16: skipped, does not fit" in outcome.out


def test_a_row_without_intervals_and_copies_is_shown() -> None:
    case = cases(["pixel_interleave"], [("a", 64, 64)], ["fp16"])[0]
    samples = {name: [1.0] for name in ("kernel", "planned", "native", "copy")}
    console = Console(file=io.StringIO(), width=160)
    console.print(shown({"device": "cuda:0", "rows": [row_of(case, Prepared(), samples, 10**6, {})]}))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[1].split()[4:8] == ["1.0000", "–", "0", "26"]


@pytest.mark.gpu
def test_a_device_s_kernels_are_right_and_timed(cuda: str, command: Command, tmp_path: Path) -> None:
    """Whether goals are met is the command's to say, not the test's."""
    outcome = command("kernels", "--device", cuda, "--res", "720p", "--json", tmp_path / "a.json")
    assert outcome.code == 0, outcome.out + outcome.err
    rows = _rows(tmp_path / "a.json")
    assert {row["status"] for row in rows} <= {"ok", "skipped"}  # no products below capability 8.0
    for row in rows:
        if row["status"] == "ok":
            assert row["times"]["kernel"]["ms"] > 0
            assert {"native", "planned", "copy"} <= set(row["times"])

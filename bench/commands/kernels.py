"""`bench kernels`: what our own kernels are worth alone, outside of any network; without a GPU, are they right?"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import split_words
from bench.exit_codes import COULD_NOT_MEASURE, INCONCLUSIVE, OK, REGRESSION
from bench.terminal import console_for, progress_on
from reference_models.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.kernel_cases import KernelCase

ORDER = 56
SIZES = "1080p,4k"
INSTALL = "pip install '.[plugins]'"


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "kernels",
        help="our own kernels alone: right? how near to the device's copy rate? faster than what they replace?",
        description="Each kernel of engines/plugins, in each of its types, with the planes that our networks have: "
        "first against its reference (a wrong one is never timed, and the exit code is 3), then timed by the "
        "device's events from an emptied second-level cache, in turn with the operators that it replaces, with "
        "torch.compile of these and with a copy. Then the verdict on what each kernel is meant to reach. A minute. "
        "`--device cpu`: right or wrong only, by Triton's interpreter, and what the assembler makes of them.",
        epilog="examples:\n"
        "  bench kernels\n"
        "  bench kernels --kernel pixel_dcl --res 320p,1080p,4k --precision fp16 --json kernels.json\n"
        "  bench kernels --require            in a CI job: 3 where a goal is missed, 4 where that is not clear\n"
        "  bench kernels --device cpu         no GPU needed, and no times",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cuda:0", metavar="D", help="cuda:0 (default), another one, or cpu")
    parser.add_argument("--kernel", metavar="NAME[,...]", help="some of them only; an unknown name lists all")
    parser.add_argument(
        "--res", metavar="R[,...]", help=f"of the network's output: 320p to 4k or WIDTHxHEIGHT (default {SIZES})"
    )
    parser.add_argument("--precision", metavar="P[,...]", help="fp32, tf32, fp16, bf16, int8 (default: all it has)")
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out, which takes most of the time"
    )
    parser.add_argument("--require", action="store_true", help="exit code 3 where a goal is missed, 4 where not judged")
    parser.add_argument("--json", metavar="FILE", help="rows with all samples, goals, device, machine, versions")
    parser.set_defaults(command=_kernels)


def _kernels(arguments: argparse.Namespace) -> int:
    from bench.kernel_cases import CPU_SIZE, cases
    from bench.places import check_output_file

    kernels, precisions = _kernel_words(arguments)
    if arguments.require:
        _check_goals(kernels, precisions)
    device = _device(arguments.device)
    if device == "cpu":
        _refuse_times(arguments)
        sizes = [("small", *CPU_SIZE)]
    else:
        sizes = _sizes(arguments.res or SIZES)
    chosen = cases(kernels, sizes, precisions)
    if arguments.json:
        check_output_file(Path(arguments.json), "--json")
    _check_triton()
    found: dict[str, Any] = {"device": device, "rows": []}
    try:
        with progress_on(console_for(stderr=True)) as reporter:
            if device == "cpu":
                _checked(chosen, found, reporter)
            else:
                _timed(chosen, not arguments.no_compile, found, reporter)
    finally:  # an interrupt, too, keeps what was measured
        if arguments.json:
            _write(Path(arguments.json), found, arguments.argv)
    console = console_for()
    console.print(shown(found))
    return _exit_code(found, kernels, arguments.require)


def _kernel_words(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Names of kernels and of precisions, the last empty for all.

    Raises:
        UserError: an unknown one, or none that go together.
    """
    from bench.kernel_cases import TYPES

    kernels = split_words(arguments.kernel) or list(TYPES)
    for word in kernels:
        if word not in TYPES:
            raise unknown("--kernel", word, "kernel", TYPES, "Give one of these")
    precisions, known = split_words(arguments.precision), list(dict.fromkeys(p for t in TYPES.values() for p in t))
    for word in precisions:
        if word not in known:
            raise unknown("--precision", word, "precision of a kernel", known, "Give one of these")
    offered = [p for kernel in kernels for p in TYPES[kernel]]
    if precisions and not set(precisions) & set(offered):
        raise UserError(
            f"`--precision {','.join(precisions)}`: {', '.join(kernels)} has no such type",
            ", ".join(dict.fromkeys(offered)), "Give one of these, or another --kernel",
        )  # fmt: skip
    return kernels, precisions


def _check_goals(kernels: Sequence[str], precisions: Sequence[str]) -> None:
    """
    Raises:
        UserError: none of these kernels, in none of these types, has a goal that `--require` could ask for.
    """
    from bench.kernel_cases import TYPES
    from bench.kernels import GOALS

    with_goals = list(dict.fromkeys(goal.kernel for goal in GOALS))
    if not any(k in kernels and (not precisions or set(precisions) & set(TYPES[k])) for k in with_goals):
        raise UserError(
            f"`--require`: no goal is set for {', '.join(kernels)} in {', '.join(precisions) or 'any type'}",
            " or ".join(f"{kernel} ({', '.join(TYPES[kernel])})" for kernel in with_goals),
            "Add one of these to --kernel, or leave --require out",
        )


def _device(word: str) -> str:
    """
    Raises:
        UserError: not a device word, or no such device; the sentence says what can be done without one.
    """
    from bench.case import resolve_device
    from engines.installed import cuda_missing

    word = "cuda:0" if word == "cuda" else word
    reason = cuda_missing(word) if re.fullmatch(r"cuda:\d{1,3}", word) else None
    if reason:
        raise UserError(
            f"`--device {word}`: {reason}",
            "a CUDA device to time the kernels on",
            "`bench kernels --device cpu` says here, without times, whether they are right",
        )
    return resolve_device(word)


def _refuse_times(arguments: argparse.Namespace) -> None:
    """Options that ask for times, where there are none."""
    for option, value in (("--res", arguments.res), ("--require", arguments.require)):
        if value:
            raise UserError(
                f"`{option}`: nothing is timed by an interpreter", "a CUDA device with it", f"Leave {option} out"
            )


def _sizes(text: str) -> list[tuple[str, int, int]]:
    from bench.case import resolution_size

    return [(word.lower(), *resolution_size(word)) for word in dict.fromkeys(split_words(text))]


def _check_triton() -> None:
    from engines.plugins.ptx import triton_missing

    if reason := triton_missing():
        raise UserError(f"`bench kernels`: {reason}", "Triton, which compiles the kernels", f"Run: {INSTALL}")


def _timed(chosen: Sequence[KernelCase], compiled: bool, found: dict[str, Any], reporter: Any) -> None:
    """Adds what a device says; `failed` where its worker ended before its time."""
    from bench.kernels import judge

    job = {
        "job": "kernels", "cases": [case.to_dict() for case in chosen], "device": found["device"], "compiled": compiled,
    }  # fmt: skip
    with reporter.stage(f"kernels on {found['device']}", len(chosen)) as show:
        _run(job, None, found, show)
    found.setdefault("goals", judge(found["rows"]))


def _checked(chosen: Sequence[KernelCase], found: dict[str, Any], reporter: Any) -> None:
    """Adds what the interpreter and, where there is one, the assembler say."""
    from bench.kernel_code import assembler_missing
    from engines.plugins.ptx import CAPABILITIES

    words = [case.to_dict() for case in chosen]
    job = {"job": "kernel_check", "cases": words}
    with reporter.stage("kernels through the interpreter", len(chosen)) as show:
        _run(job, {"TRITON_INTERPRET": "1"}, found, show)
    found["code"], found["code_missing"] = [], assembler_missing()
    if found["code_missing"] or "failed" in found:
        return
    # Planes decide about code where products are made in blocks of them; a shuffle's code is the same but for r.
    distinct = {(c.kernel, c.precision, c.variant.constants.get("BLOCK_C")): c.to_dict() for c in reversed(chosen)}
    job = {"job": "kernel_code", "cases": list(reversed(distinct.values()))}
    with reporter.stage("kernels through the assembler", len(distinct) * len(CAPABILITIES)) as show:
        _run(job, {"TRITON_INTERPRET": "0"}, found, show)


def _run(
    job: Mapping[str, Any],
    environment: Mapping[str, str] | None,
    found: dict[str, Any],
    show: Callable[[float, str], None],
) -> None:
    """Adds the result of a worker to `found`; rows as they come."""
    from bench.spawn import JobFailed, run_job

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "row":
            found["rows"].append(event["row"])
        else:
            show(event["done"], event["name"])

    try:
        found.update(run_job(job, environment, on_event))
    except JobFailed as failure:
        if failure.user_error:
            raise failure.user_error from None
        found["failed"] = failure.reason


def _write(path: Path, found: Mapping[str, Any], argv: Sequence[str]) -> None:
    from bench import record

    shared = {k: v for k, v in record.facts(argv, []).items() if not k.startswith(("pictures", "calibration"))}
    gpus = shared["machine"]["gpus"]
    driver = gpus[0]["driver"] if gpus else None
    path.write_text(json.dumps({"schema": 1, **shared, "driver": driver, **found}, indent=1))


def _exit_code(found: Mapping[str, Any], kernels: Sequence[str], require: bool) -> int:
    states = {row["status"] for row in found["rows"]}
    if "wrong" in states:
        return REGRESSION
    if "failed" in found or "ok" not in states:
        return COULD_NOT_MEASURE
    verdicts = {goal["verdict"] for goal in found.get("goals", ()) if goal["kernel"] in kernels}
    if not require or verdicts <= {"met"}:
        return OK
    return REGRESSION if "missed" in verdicts else INCONCLUSIVE


# What is printed


def shown(found: Mapping[str, Any]) -> Any:
    """The rows, what the assembler says, notes and verdicts."""
    from rich.console import Group

    parts = [_timed_table(found["rows"]) if found["device"] != "cpu" else _checked_table(found["rows"])]
    if found.get("code"):
        parts += ["", _code_table(found["code"])]
    parts += ["", *_notes(found), *(goal["in_words"] for goal in found.get("goals", ()))]
    return Group(*parts)


def _table(columns: Sequence[str], left: int) -> Any:
    """The first `left` columns are words."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    return table


def _case_words(row: Mapping[str, Any]) -> list[str]:
    return [row["kernel"], row["network"], "x".join(map(str, row["output_shape"][1:])), row["precision"]]


def _timed_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    columns = (
        "kernel",
        "of",
        "output",
        "type",
        "ms",
        "±",
        "GB/s",
        "of copy",
        "alike",
        "in a plan",
        "native",
        "compiled",
    )
    table = _table((*columns, "TFLOP/s", "of products"), 4)
    for row in rows:
        if row["status"] != "ok":
            table.add_row(*_case_words(row), row["status"])
            continue
        own = row["times"]["kernel"]
        ends = own["ci95"]
        half = f"{(ends[1] - ends[0]) / 2 / own['ms']:.1%}".replace("%", " %") if ends else "–"
        figures = [
            f"{own['ms']:.4f}", half, f"{row['gb_s']:.0f}", *(_share(row[key]) for key in _SHARES),
            *(f"{row[key]['value']:.2f}x" if row[key] else "–" for key in ("planned", "native", "compiled")),
        ]  # fmt: skip
        if row["tflop_s"]:
            figures += [f"{row['tflop_s']:.1f}", _percent(row["matrix_share"])]
        table.add_row(*_case_words(row), *figures)
    return table


_SHARES = ("copy_share", "copy_alike_share")


def _share(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else _percent(found["value"])


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _checked_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    table = _table(("kernel", "of", "output", "type", "output is"), 5)
    for row in rows:
        table.add_row(*_case_words(row), "correct" if row["status"] == "ok" else "wrong")
    return table


def _code_table(code: Sequence[Mapping[str, Any]]) -> Any:
    """A line for each kernel: the least and the most over all capabilities, and where it fills a GPU least."""
    table = _table(("kernel", "type", "registers", "KiB", "occupancy", "least on"), 2)
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in code:
        planes = f" {entry['planes']}" if entry["kernel"] == "pixel_dcl" else ""
        lines.setdefault((entry["kernel"] + planes, entry["precision"]), []).append(entry)
    for words, entries in lines.items():
        shared, shares = ([entry[key] for entry in entries] for key in ("shared_bytes", "occupancy"))
        kib = [f"{size / 1024:.3g}" for size in (min(shared), max(shared))]
        least = [f"sm_{entry['capability']}" for entry in entries if entry["occupancy"] == min(shares) < 1]
        registers = [str(count(entry["registers"] for entry in entries)) for count in (min, max)]
        percents = [_percent(min(shares)), _percent(max(shares))]
        table.add_row(*words, *(_range(pair) for pair in (registers, kib, percents)), ", ".join(least))
    return table


def _range(ends: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(ends))


def _notes(found: Mapping[str, Any]) -> list[str]:
    rows = found["rows"]
    notes = [f"{row['title']}: {row['status']}, {row['reason']}" for row in rows if row["reason"]]
    if "failed" in found:
        notes.append(f"ended after {len(rows)} rows: {found['failed']}")
    if found["device"] == "cpu":
        notes.append("Correct or wrong by Triton's interpreter, on small maps: no times, and nothing ran on a GPU.")
        if found.get("code"):
            capabilities = [f"sm_{number}" for number in sorted({e["capability"] for e in found["code"]})]
            spilling = [
                f"{e['kernel']} {e['precision']} sm_{e['capability']}" for e in found["code"] if e["spilled_bytes"]
            ]
            notes += [
                f"By the assembler, for {', '.join(capabilities)}: registers of a thread, shared memory of a block, "
                "theoretical occupancy (`--json` has each); pixel_dcl with its planes.",
                f"Registers are spilled by: {', '.join(spilling)}" if spilling else "No kernel spills registers.",
            ]
        return [*notes, *([found["code_missing"]] if found.get("code_missing") else [])]
    if found.get("copy_gb_s"):
        products = "".join(f", {name} products {rate:.0f} TFLOP/s" for name, rate in found["matrix_tflop_s"].items())
        notes += [
            f"{found['device_name']}: copy {found['copy_gb_s']:.0f} GB/s{products}, in the same run by the same clock.",
            "ms: median of rounds in turn, device events, cache emptied before each; ±: half its 95 % interval. GB/s: "
            "what must be read and written once.",
            "of copy: of the rate of the large copy; alike: of that of a copy of as many bytes; in a plan: as fast, "
            "where it is compiled without a look at the sizes; native, compiled: times as fast as torch's operators, "
            "and as torch.compile of them.",
        ]
    left_out = {f"{name}: {why}" for row in rows for name, why in row["left_out"].items()}
    notes += [f"left out: {text}" for text in sorted(left_out)]
    if found.get("late"):
        notes.append(f"{found['late']} timings may hold time of the host: the device waited for it.")
    return notes

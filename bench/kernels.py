"""What our own kernels are worth alone: each beside the operators that it replaces and a copy, in turn in one process.

A kernel whose output is wrong is never timed. Times are a device's, handed in as `Lab.time_ms`; medians with the 95 %
interval of their order statistics; quotients round by round. Nothing here knows torch or CUDA (bench/kernel_lab.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from bench.kernel_cases import KernelCase, fault, made
from bench.stats import order_interval

WARM_UPS, LEAST_ROUNDS, MOST_ROUNDS = 3, 20, 50
ROW_MS = 500.0
"""Device time after which a row has enough rounds, LEAST_ROUNDS at the least."""
PRODUCTS = 10
"""Timings of the matrix product whose median is the rate."""
Step = Callable[[], object]
Row = dict[str, Any]
Emit = Callable[..., None]


@dataclass(frozen=True)
class Prepared:
    """A case on a device: its contenders, or the reason why there are none."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    """`kernel`, `planned` (as a plan embeds it), `copy`; `native`, `compiled` and `copy_alike` (of as many bytes) where
    there is one."""
    fault: str | None = None
    """What is wrong with the kernel's output."""
    skipped: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Contender → why it is none."""


class Lab(Protocol):
    """A device to time on."""

    @property
    def name(self) -> str: ...

    copy_bytes: int
    """Read and written by `copy`."""
    product_flop: int
    late: int
    """Timings so far that may hold time of the host."""

    def prepared(self, case: KernelCase) -> Prepared: ...

    def product(self, precision: str) -> Step: ...

    def time_ms(self, step: Step) -> float: ...


def measure_rows(cases: Sequence[KernelCase], lab: Lab, emit: Emit) -> dict[str, Any]:
    """Rows of all cases, rates of the device, verdicts. Each row also goes out as the event `row` when it is done.

    Returns:
        rows, goals, copy_gb_s (10^9 bytes read and written per second; None where nothing was timed), matrix_tflop_s
        (by precision), late (timings that may hold time of the host), device_name.
    """
    rates = {}
    for precision in dict.fromkeys(case.precision for case in cases if case.flop):
        emit("phase", name=f"matrix product {precision}", done=0)
        product = lab.product(precision)
        product()
        rates[precision] = lab.product_flop / median(lab.time_ms(product) for _ in range(PRODUCTS)) / 1e9
    rows: list[Row] = []
    for number, case in enumerate(cases):
        emit("phase", name=case.title, done=number)
        rows.append(_measured(case, lab, rates))
        emit("row", row=rows[-1])
    copies = [ms for row in rows if row["times"] for ms in row["times"]["copy"]["samples"]]
    return {
        "rows": rows,
        "goals": judge(rows),
        "copy_gb_s": lab.copy_bytes / median(copies) / 1e6 if copies else None,
        "matrix_tflop_s": rates,
        "late": lab.late,
        "device_name": lab.name,
    }


def _measured(case: KernelCase, lab: Lab, rates: Mapping[str, float]) -> Row:
    """One row. Nothing of the case outlives it: two of the largest might not fit beside each other."""
    ready = lab.prepared(case)
    timed = not ready.fault and not ready.skipped
    return row_of(case, ready, in_turn(ready.steps, lab.time_ms) if timed else {}, lab.copy_bytes, rates)


def in_turn(steps: Mapping[str, Step], time_ms: Callable[[Step], float]) -> dict[str, list[float]]:
    """ms of every contender, one after the other in each round, each of them first in its turn."""
    names = list(steps)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(WARM_UPS + MOST_ROUNDS):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            ms = time_ms(steps[name])
            if number >= WARM_UPS:
                samples[name].append(ms)
        if number + 1 >= WARM_UPS + LEAST_ROUNDS and sum(map(sum, samples.values())) >= ROW_MS:
            break
    return samples


def row_of(
    case: KernelCase,
    ready: Prepared,
    samples: Mapping[str, Sequence[float]],
    copy_bytes: int,
    rates: Mapping[str, float],
) -> Row:
    """What is stored of a case.

    Args:
        samples: ms by contender; empty where nothing was timed.
        rates: TFLOP/s of a matrix product, by precision.

    Returns:
        the case's own keys; title, output_shape, min_bytes, flop; status (ok, wrong, skipped) and reason; left_out;
        times ({contender: ms, ci95, samples}), gb_s, tflop_s, matrix_share, and the quotients, each value and ci95:
        copy_share and copy_alike_share (rate over that of the large copy, and of one of as many bytes), reach (rate of
        that one over that of the large one), planned (time of the kernel as compiled for its sizes over that as in a
        plan), native and compiled (times as fast). None where there is none.
    """
    row: Row = {
        **case.to_dict(), "title": case.title, "output_shape": list(case.output_shape), "min_bytes": case.min_bytes,
        "flop": case.flop, "status": "wrong" if ready.fault else "skipped" if ready.skipped else "ok",
        "reason": ready.fault or ready.skipped, "left_out": dict(ready.left_out), "times": None, "gb_s": None,
        "tflop_s": None, "matrix_share": None,
        **dict.fromkeys(("copy_share", "copy_alike_share", "reach", "planned", "native", "compiled")),
    }  # fmt: skip
    if not samples:
        return row
    own, share = samples["kernel"], case.min_bytes / copy_bytes
    ms = median(own)
    row["times"] = {
        name: {"ms": median(of), "ci95": order_interval(of), "samples": list(of)} for name, of in samples.items()
    }
    row["gb_s"] = case.min_bytes / ms / 1e6
    row["copy_share"] = quotient([ms * share for ms in samples["copy"]], own)
    if alike := samples.get("copy_alike"):
        row["copy_alike_share"] = quotient(alike, own)
        row["reach"] = quotient([ms * share for ms in samples["copy"]], alike)
    row["planned"] = quotient(own, samples["planned"])
    for name in ("native", "compiled"):
        if name in samples:
            row[name] = quotient(samples[name], own)
    if case.flop:
        row["tflop_s"] = case.flop / ms / 1e9
        row["matrix_share"] = row["tflop_s"] / rates[case.precision]
    return row


def quotient(other: Sequence[float], own: Sequence[float]) -> dict[str, Any]:
    """How many times the median of `own` that of `other` is, and the 95 % interval of the median of the rounds'
    quotients; where a disturbance lets the two tell different things, it holds both."""
    value = median(other) / median(own)
    found = order_interval([a / b for a, b in zip(other, own, strict=True)])
    return {"value": value, "ci95": found and [min(found[0], value), max(found[1], value)]}


# Verdicts


@dataclass(frozen=True)
class Goal:
    """What every row of a kernel is to reach."""

    text: str
    kernel: str
    figure: str
    """Key of the row's quotient."""
    least: float
    shown: str
    """Form of the figure."""


GOALS = (
    Goal("PixelShuffle at 90 % of the device's copy rate", "pixel_shuffle", "copy_share", 0.9, ".0%"),
    Goal("pixel deconvolution 3 times as fast as its operators", "pixel_dcl", "native", 3.0, ".2f"),
)
MET, MISSED, OPEN, UNTIMED = "met", "missed", "not judged", "not timed"


def judge(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A verdict for each goal: met where every row meets it, missed where one does not, not judged where an interval
    holds the goal, a row was skipped or lacks what it is compared with, or no row could reach it; not timed where there
    is no row.

    A row so small that a copy of as many bytes does not reach the goal either is out of its reach: it says something of
    the device and nothing of the kernel.
    """
    return [_judged(goal, [row for row in rows if row["kernel"] == goal.kernel]) for goal in GOALS]


def _judged(goal: Goal, rows: Sequence[Row]) -> dict[str, Any]:
    timed = [row for row in rows if row["status"] == "ok" and row[goal.figure]]
    untimed = sum(row["status"] != "wrong" for row in rows) - len(timed)
    beyond = [row for row in timed if goal.figure == "copy_share" and _beyond_reach(row, goal.least)]
    able = [row for row in timed if row not in beyond]
    by_verdict: dict[str, list[Row]] = {MISSED: [], OPEN: [], MET: []}
    for row in able:
        by_verdict[_verdict(row[goal.figure]["ci95"], goal.least)].append(row)
    verdict = next((word for word, found in by_verdict.items() if found), OPEN if beyond else UNTIMED)
    worst = min(by_verdict[verdict], key=lambda row: row[goal.figure]["value"]) if able else None
    if verdict == MET and untimed:
        verdict = OPEN
    notes = {
        f"{len(beyond)} too small to be judged: a copy of as many bytes does not reach it either": len(beyond),
        f"{untimed} could not be timed": untimed,
    }
    return {
        "goal": goal.text, "kernel": goal.kernel, "figure": goal.figure, "least": goal.least, "verdict": verdict,
        "rows": {word: len(found) for word, found in by_verdict.items()}, "out_of_reach": len(beyond),
        "untimed": untimed, "worst": worst and worst["title"],
        "in_words": _in_words(goal, verdict, worst, by_verdict, [n for n in notes if notes[n]]),
    }  # fmt: skip


def _beyond_reach(row: Row, least: float) -> bool:
    return bool(row["reach"] and row["reach"]["ci95"] and row["reach"]["ci95"][1] < least)


def _verdict(interval: Sequence[float] | None, least: float) -> str:
    if interval is None:
        return OPEN
    return MET if interval[0] >= least else MISSED if interval[1] < least else OPEN


def _in_words(
    goal: Goal, verdict: str, worst: Row | None, by_verdict: Mapping[str, Sequence[Row]], notes: Sequence[str]
) -> str:
    parts = [f"{goal.text}: {verdict}"]
    if worst:
        found = worst[goal.figure]
        ends = found["ci95"] or (found["value"], found["value"])
        figures = [format(x, goal.shown).replace("%", " %") for x in (found["value"], *ends)]
        wide = ", interval too wide" if by_verdict[OPEN] and verdict == OPEN else ""
        parts.append(f"least {figures[0]} ({figures[1]} to {figures[2]}{wide}), {worst['title']}")
        counts = [f"{word} in {len(found)}" for word, found in by_verdict.items() if found]
        parts.append(f"{', '.join(counts)} of {sum(map(len, by_verdict.values()))} rows")
    return "; ".join([*parts, *notes])


# Jobs of the worker


def time_kernels(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The worker's job on a CUDA device.

    Args:
        job: cases (as KernelCase.to_dict), device, compiled.
    """
    import torch

    from bench.kernel_lab import CudaLab

    cases = [KernelCase(**case) for case in job["cases"]]
    with torch.inference_mode():
        return measure_rows(cases, CudaLab(torch, job["device"], job["compiled"]), emit)


def check_kernels(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The worker's job without a device: every kernel against its reference through Triton's interpreter, which the
    environment has chosen (TRITON_INTERPRET=1).

    Args:
        job: cases.

    Returns:
        rows, as from `row_of`, without any time.
    """
    rows = []
    for number, case in enumerate(KernelCase(**case) for case in job["cases"]):
        emit("phase", name=case.title, done=number)
        wrong = fault(case, made(case, "cpu", seed=number), as_in_plan=False)
        rows.append(row_of(case, Prepared(fault=wrong), {}, 1, {}))
        emit("row", row=rows[-1])
    return {"rows": rows}

"""Pairs of processes until the answer is clear: the promises, looks included, over made-up and real clocks; endings."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.ab import LOOKS, TERMS, Comparison, compare_in_turn, measured_s
from bench.gate import Gate
from bench.own_time import own_units
from bench.rules import parse_rules

Make = Callable[..., dict[str, Any]]
RULES = parse_rules(["latency:5%"], [])


class Machine:
    """Two sides on one simulated machine, whose clock goes on with every process of either side."""

    def __init__(self, make: Make, clock: Callable[[], float], factor: float = 1.0) -> None:
        self.order: list[str] = []
        self._runs = {"a": make("a"), "b": make("b")}
        self._clock, self._factors = clock, {"a": 1.0, "b": factor}
        for run in self._runs.values():
            run["latency_ms"] = {"samples": [], "warmup": [], "p50": None}

    def turn(self, name: str) -> Callable[[], dict[str, Any]]:
        def measure() -> dict[str, Any]:
            self.order.append(name)
            latency = self._runs[name]["latency_ms"]
            latency["samples"] = [*latency["samples"], [10 * self._factors[name] * float(np.exp(self._clock()))]]
            latency["p50"] = float(np.median(latency["samples"]))
            return self._runs[name]

        return measure

    def compare(self, budget_s: float = 1e6, seed: int = 0) -> Gate:
        comparison = Comparison(("A", "B"), RULES, budget_s)
        return compare_in_turn(comparison, (self.turn("a"), self.turn("b")), random.Random(seed))


def loaded(rng: np.random.Generator) -> Callable[[], float]:
    """Another program takes a core half of the time: in half of the processes, to a share that varies."""
    return lambda: rng.normal(0, 0.004) + (rng.random() < 0.5) * rng.uniform(0, 0.04)


def drifting(rng: np.random.Generator) -> Callable[[], float]:
    level = 0.0

    def clock() -> float:
        nonlocal level
        level += rng.normal(0.002, 0.006)
        return level + rng.normal(0, 0.003)

    return clock


def wild() -> Callable[[], float]:
    rng = np.random.default_rng(1)
    return lambda: rng.normal(0, 0.05)


CLOCKS: dict[str, Callable[[np.random.Generator], Callable[[], float]]] = {
    "calm": lambda rng: lambda: rng.normal(0, 0.005),
    "noisy": lambda rng: lambda: rng.normal(0, 0.02),
    "bimodal": lambda rng: lambda: 0.125 * (rng.random() < 0.1) + rng.normal(0, 0.003),
    "heavy-tailed": lambda rng: lambda: 0.01 * abs(rng.standard_t(2)),
    "loaded": loaded,
    "drifting": drifting,
}


def verdicts(make: Make, clock: str, factor: float, decisions: int) -> list[str]:
    rng = np.random.default_rng(13)
    return [Machine(make, CLOCKS[clock](rng), factor).compare(seed=k).verdict for k in range(decisions)]


@pytest.mark.parametrize("clock", CLOCKS)
def test_of_200_comparisons_between_equals_at_most_2_call_a_regression(gate_run: Make, clock: str) -> None:
    assert verdicts(gate_run, clock, 1.0, 200).count("worse") <= 2


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_slowdown_of_8_percent_is_called_at_least_95_times_in_100(gate_run: Make, clock: str) -> None:
    assert verdicts(gate_run, clock, 1.08, 100).count("worse") >= 95


@pytest.mark.parametrize("clock", CLOCKS)
def test_one_of_3_percent_is_called_one_of_5_at_most_5_times_in_100(gate_run: Make, clock: str) -> None:
    assert verdicts(gate_run, clock, 1.03, 100).count("worse") <= 5


def test_the_interval_at_the_end_holds_the_truth_in_spite_of_all_looks(gate_run: Make) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for k in range(300):
        clock = ("bimodal", "heavy-tailed", "drifting")[k % 3]
        (outcome,) = Machine(gate_run, CLOCKS[clock](rng), 1.04).compare(seed=k).outcomes
        assert outcome.interval is not None
        held += outcome.interval[0] <= 0.04 <= outcome.interval[1]
    assert held / 300 >= 0.93


def test_a_clear_answer_ends_it_at_the_first_look(gate_run: Make) -> None:
    machine = Machine(gate_run, lambda: 0.0, 1.3)
    assert machine.compare().exit_code == 3
    assert (machine.order.count("a"), machine.order.count("b")) == (LOOKS[0], LOOKS[0])


def test_an_unclear_answer_goes_on_to_the_last_look(gate_run: Make) -> None:
    machine = Machine(gate_run, wild(), 1.05)
    assert machine.compare().exit_code == 4
    assert machine.order.count("a") == LOOKS[-1]


def test_the_budget_ends_it_after_a_whole_pair_but_never_before_the_first_look(gate_run: Make) -> None:
    def noisy() -> Machine:
        return Machine(gate_run, wild(), 1.05)

    machine = noisy()
    machine.compare(budget_s=0.16)  # a process takes some 10 ms
    assert 7 <= machine.order.count("a") == machine.order.count("b") <= 10
    machine = noisy()
    machine.compare(budget_s=0)
    assert machine.order.count("a") == LOOKS[0]


def test_sides_take_turns_in_random_order(gate_run: Make) -> None:
    machine = Machine(gate_run, wild(), 1.05)
    machine.compare()
    pairs = [tuple(machine.order[k : k + 2]) for k in range(0, len(machine.order), 2)]
    assert all(set(pair) == {"a", "b"} for pair in pairs)
    assert 5 <= pairs.count(("a", "b")) <= 25


@pytest.mark.parametrize("side", [0, 1])
def test_a_side_that_fails_ends_it_and_is_never_green(gate_run: Make, side: int) -> None:
    good, bad = gate_run("good"), gate_run("bad", status="failed", reason="killed")
    calls: list[str] = []

    def turn(run: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        return lambda: calls.append(run["id"]) or run  # type: ignore[func-returns-value]

    turns = (turn(bad), turn(good)) if side == 0 else (turn(good), turn(bad))
    gate = compare_in_turn(Comparison(("A", "B"), RULES, 100), turns, random.Random(1))
    assert gate.exit_code == 5
    assert gate.outcomes[0].why == "killed"
    assert len(calls) <= 2


def test_a_figure_asked_for_that_neither_side_has_is_not_green(gate_run: Make) -> None:
    rules = parse_rules(["latency:5%", "plan_size:5%"], [])
    machine = Machine(gate_run, lambda: 0.0)
    gate = compare_in_turn(Comparison(("A", "B"), rules, 100), (machine.turn("a"), machine.turn("b")), random.Random(1))
    assert gate.exit_code == 5


def test_all_looks_together_are_wrong_as_seldom_as_one(gate_run: Make) -> None:
    assert (1 - TERMS.confidence) * len(LOOKS) == pytest.approx(0.05)
    assert TERMS.interleaved


def test_measured_time_counts_warm_up_and_samples_of_all_processes() -> None:
    assert measured_s({"latency_ms": {"samples": [[1000, 500], [250]], "warmup": [[250]]}}) == 2
    assert measured_s({"latency_ms": None}) == 0


# Real clocks

POOL = 60
"""Processes of one case, one after the other; a comparison takes as many as it asks for, from a random one on."""
STEADY = 0.04
"""Standard deviation of the logarithms of medians, up to which 30 pairs are enough for 8 %."""


def _half_busy() -> None:
    """Loads a core half of the time, in spells of half a second."""
    while True:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        time.sleep(0.5)


@contextmanager
def load(on: bool) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_half_busy, daemon=True)
    if on:
        process.start()
    try:
        yield
    finally:
        if on:
            process.kill()
            process.join()


def measured_pool(engine: str, cache: Path, folder: Path) -> list[float]:
    """What `ab` judges, in ms, of POOL fresh processes of can24 at 64x48: own times, or medians where the system does
    not tell what a thread waits for a core."""
    from bench import record
    from bench.case import Request, expand
    from bench.progress import TerminalReporter
    from bench.run import Execution, Plan, Progress
    from bench.terminal import console_for
    from reference_models.pictures import default_picture

    cases, _ = expand(Request(["can24"], ["64x48"], [engine], device="cpu", threads=1))
    plan = Plan(cases, [], [("x", default_picture())], folder / "runs.json", None, None, [], 0.6 * POOL, POOL, [])
    progress = Progress(cases[0], record.new_run(cases[0], record.facts([], plan.picture_digests)))
    with TerminalReporter(console_for(stderr=True)) as reporter:
        execution = Execution(plan, reporter, folder)
        execution.open([progress])
        for _ in range(POOL):
            execution.turn(progress, {"failed": "left out"})
    assert progress.run["status"] == "ok", progress.run["reason"]
    own = own_units(progress.run)
    return own or [float(np.median(samples)) for samples in progress.run["latency_ms"]["samples"]]


@pytest.mark.slow
@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "loaded"])
@pytest.mark.parametrize("engine", ["null:delay_ms=5", "onnxruntime"])
def test_promises_over_real_processes(engine: str, loaded: bool, gate_run: Make, cache: Path, tmp_path: Path) -> None:
    """One pool of real processes, many comparisons: of equals, and with one side made 3 or 8 % slower."""
    with load(loaded):
        pool = measured_pool(engine, cache, tmp_path)
    medians = [float(np.log(ms)) for ms in pool]
    found = {}
    for factor, decisions in ((1.0, 200), (1.03, 100), (1.08, 100)):
        verdicts = []
        for seed in range(decisions):
            places = iter(np.roll(np.arange(POOL), -random.Random(seed).randrange(POOL)))
            machine = Machine(gate_run, lambda places=places: medians[next(places)], factor)  # type: ignore[misc]
            verdicts.append(machine.compare(seed=seed).verdict)
        found[factor] = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    print(engine, "loaded" if loaded else "idle", f"spread of medians {np.std(medians):.1%}", found)
    assert found[1.0].get("worse", 0) <= 2
    assert found[1.03].get("worse", 0) <= 5
    called = found[1.08].get("worse", 0)
    if called < 95 and np.std(medians) > STEADY:
        pytest.skip(
            f"medians of equal processes differ by {np.std(medians):.0%} here: too much load to call 8 %; {found}"
        )
    assert called >= 95

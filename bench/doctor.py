"""This machine now → what measuring itself costs, what disturbs, and whether numbers taken now would be called stable.

Nothing is installed or changed. The check of telemetry (bench/sampling.py) reads what a worker reads, on and off in
turn, and compares.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench import machine, stats
from bench.measure import Rule, measure
from bench.sampling import Cost, sampling_cost
from export.processor import exact_weight_bits

EFFECT = 0.005
"""Share of the median that sampling beside a measurement may cost."""
BLOCKS = 12
"""Series by which it is judged whether numbers taken now are stable."""
PROOF_S = 10.0
"""Wall time at most of the proof that sampling costs nothing; a second or two on an idle machine."""


@dataclass(frozen=True)
class Check:
    """One line of the examination."""

    name: str
    finding: str
    good: bool | None
    """None: a fact, neither good nor bad."""


def examine(step: Callable[[], object] | None = None, block_s: float = 0.15, proof_s: float = PROOF_S) -> list[Check]:
    """All checks; takes some 10 s.

    Args:
        step: what is timed for the checks of sampling and stability; default: a fraction of a ms of one thread.
        block_s: seconds of one series.
        proof_s: seconds of the check of sampling, at most.
    """
    step = step or _root()
    before, own = machine.sample_load(), time.process_time()
    rates = [_rate()]
    rule = Rule(budget_s=block_s, margin=0.0, min_time_s=block_s)
    blocks = [median(measure(lambda: (step(), None)[1], rule).samples) for _ in range(BLOCKS)]
    rates.append(_rate())
    load = machine.load_between(before, machine.sample_load(), time.process_time() - own)
    return [
        harness_cost(),
        sampling_effect(sampling_cost(step, proof_s)),
        *conditions(machine.describe(), load, os.getloadavg()[0]),
        *gpu_processes(_gpu_processes()),
        stability([[value] for value in blocks], load, rates),
    ]


def harness_cost() -> Check:
    """Time of an inference that computes nothing, between the two readings of the clock."""
    import engines
    from engines.engine import Options
    from export.network import Graph

    with engines.get("null").load(Graph("", "", "", "", {}, ""), Options()) as session:
        import numpy as np

        session.bind(np.zeros((1, session.graph.planes, 4, 4), np.float32))

        def empty() -> None:
            session.enqueue()
            session.synchronize()

        samples = measure(empty, Rule(budget_s=0.5)).samples
    return Check("the harness's own cost", f"{median(samples) * 1e3:.2f} µs in every sample; subtracted nowhere", None)


def sampling_effect(cost: Cost) -> Check:
    """What a worker's readings between inferences do to their median."""
    assert cost.around.interval is not None
    bounds = cost.around.interval
    known = cost.most < EFFECT
    certain = bounds[0] > 1 + EFFECT or bounds[1] < 1 - EFFECT
    answer = f"below {EFFECT:.1%}" if known else f"above {EFFECT:.1%}" if certain else "not known well enough here now"
    low, high = (f"{bound - 1:+.2%}" for bound in bounds)
    finding = (
        f"{answer}: {cost.around.value - 1:+.2%} ({low} to {high}) of an inference of {cost.step_ms:.2f} ms by the "
        f"counters read around each; what is read twice a second makes the next one {cost.reading_us:.1f} µs longer at "
        "most (processor time; nothing is read inside of what is timed)"
    )
    return Check("sampling's effect on the median", finding, True if known else False if certain else None)


def conditions(facts: dict[str, Any], load: dict[str, float | None], load_average: float) -> Iterator[Check]:
    """What the machine says of itself."""
    cores = machine.usable_cores()
    governor = facts["governor"]
    yield Check(
        "frequency governor", governor or "not shown by this system", _judge(governor, governor == "performance")
    )
    virtual = {True: "yes: other guests may take its cores", False: "no", None: "unknown"}[facts["virtualised"]]
    yield Check("virtual machine", virtual, None)
    bits = exact_weight_bits()
    words = "exact with weights of 8 bits" if bits == 8 else "exact with weights of 7 bits (no VNNI): int8 takes these"
    yield Check("int8 products of this processor", words, None)
    yield Check("processor quota", f"{facts['cpu_quota']:g} cores" if facts["cpu_quota"] else "none", None)
    steal, foreign = load["steal_share"], load["foreign_share"]
    yield Check("taken by the hypervisor", _share(steal), _judge(steal, (steal or 0) <= stats.STOLEN))
    yield Check("used by other programs", _share(foreign), _judge(foreign, (foreign or 0) <= stats.FOREIGN))
    yield Check("load average", f"{load_average:.2f} on {cores} usable cores", load_average < cores + 0.5)


def gpu_processes(found: Sequence[str] | None) -> Iterator[Check]:
    """Foreign processes on GPUs; nothing without one."""
    if found is not None:
        yield Check("processes on the GPU", ", ".join(found) or "none", not found)


def stability(blocks: Sequence[Sequence[float]], load: dict[str, float | None], rates: Sequence[float]) -> Check:
    """Whether a case measured now would be called stable, by the very rules of `bench run`."""
    change = min(rates) / max(rates) - 1
    seen = stats.Disturbance(load["steal_share"], load["foreign_share"], change)
    reasons = stats.instability(blocks, seen)
    return Check("numbers taken now", "unstable: " + "; ".join(reasons) if reasons else "stable", not reasons)


def _judge(known: object, good: bool) -> bool | None:
    return None if known is None else good


def _share(share: float | None) -> str:
    return "not shown by this system" if share is None else f"{share:.1%} of the processor time"


def _root() -> Callable[[], object]:
    """Square roots by one thread, about 1 ms: several threads would wait for whoever else is busy."""
    import numpy as np

    a, out = np.ones(1 << 19, np.float32), np.empty(1 << 19, np.float32)
    return lambda: np.sqrt(a, out=out)


def _product() -> Callable[[], object]:
    """A matrix product that takes a few ms."""
    import numpy as np

    a = np.ones((512, 512), np.float32)
    return lambda: a @ a


def _rate() -> float:
    """10^9 FLOP/s of a matrix product."""
    from bench.peaks import best_s

    return 2 * 512**3 / best_s(_product(), 25) / 1e9


def _gpu_processes() -> list[str] | None:
    """Name and process number of everything that computes on a GPU; None without one."""
    if not machine.describe()["gpus"]:
        return None
    query = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [" ".join(line.split(", ")) for line in done.stdout.splitlines() if line.strip()]

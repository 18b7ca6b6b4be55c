"""Is INT8 worth it for this network, size and engine? Where its time goes, layer by layer, and one line of verdict.

Times of layers come from the library's own profiler, which costs time itself; the verdict rests on whole inferences
without it, taken in turn in one process, so that what the machine does meanwhile happens to all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import engines
from bench.attribution import PLACES, QDQ, REFORMAT, Owners, owners_in, place_of, times_by_place
from bench.judge import Ratio
from bench.machine import Load, load_between, sample_load
from bench.metrics import compare
from bench.proof import NOT_TOLD, told_types
from bench.stats import order_interval
from engines.engine import Engine, LayerTime, Options
from export.network import Network
from export.recipe import QUANTISED, Recipe
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np

LEAST_GAIN = 1.1
"""Times as fast, below which it is not worth what it loses."""
LEAST_DB = 30.0
"""PSNR against FP32, below which the picture is visibly another."""
WARM_UP, LEAST_ROUNDS, MOST_ROUNDS = 2, 6, 200
"""Six is the least that carries a 95 % interval."""
SHORT_MS = 100.0
"""Inferences below this are run once untimed at every turn: the others' data fill the caches, their threads spin."""
RUNS, LEAST_RUNS, MOST_RUNS = 10, 3, 300
PROFILED_MS = (300.0, 3000.0)
"""How long a graph is profiled: RUNS of a small one are over in no time, and those of a large one take minutes."""
Emit = Callable[..., None]


@dataclass(frozen=True)
class Facts:
    """What a verdict rests on."""

    precision: str
    against: Mapping[str, Ratio]
    """Other precision of the same engine → how many times as fast as it this one is; fp32 is among them."""
    psnr_db: float | None
    """Against FP32 on the same engine; infinite where equal, None where the output is not finite."""
    overhead_share: float
    """Of the profiled time, in Q/DQ and reformat nodes."""
    in_float: Sequence[str] = ()
    """Layers that were to be quantised, and are computed in float."""


def verdict_of(facts: Facts) -> str:
    """One line that begins with `worth it`, `not worth it` or `not told`.

    Held against the fastest of the engine's other precisions (FP32, and BF16 where it has that), by the 95 % interval
    of the ratio of whole inferences: worth it where all of it lies at LEAST_GAIN or above, not worth it where all of it
    lies below, else not told. Not worth it, however fast, where the output is below LEAST_DB or not finite.
    """
    if facts.psnr_db is None:
        return "not worth it: its output is not finite"
    rival = min(facts.against, key=lambda name: facts.against[name].value)
    ratio, quality = facts.against[rival], f"{facts.psnr_db:.1f} dB against FP32"
    speed = f"{ratio.value:.2f} times as fast as {rival.upper()}"
    if rival != "fp32":
        speed += f" ({facts.against['fp32'].value:.2f} times FP32)"
    if facts.psnr_db < LEAST_DB:
        return f"not worth it: {quality}, below {LEAST_DB:g}, at {speed}"
    if ratio.interval is None:
        return f"not told: too few rounds for an interval ({speed})"
    low, high = ratio.interval
    if low >= LEAST_GAIN:
        return f"worth it: {speed}, {quality}"
    if high >= LEAST_GAIN:
        noise = f"{low:.2f} to {high:.2f} times as fast as {rival.upper()}, {LEAST_GAIN:g} would count"
        return f"not told: the ratio lies within the noise ({noise})"
    why = [f"Q/DQ and reformat nodes take {facts.overhead_share:.0%}".replace("%", " %")]
    if facts.in_float:
        why.append(f"{len(facts.in_float)} layers stayed in float: {', '.join(facts.in_float)}")
    return f"not worth it: {speed}; {'; '.join(why)}"


def in_turn(
    steps: Sequence[Callable[[], None]], budget_s: float, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """ms of every step, one figure a round, all steps once in every round.

    Args:
        budget_s: no round is begun after it, but LEAST_ROUNDS are taken.
        clock: seconds, monotonic.
    """

    def timed(step: Callable[[], None]) -> float:
        before = clock()
        step()
        return (clock() - before) * 1e3

    start = clock()
    short = [min(timed(step) for _ in range(WARM_UP)) < SHORT_MS for step in steps]
    found: list[list[float]] = [[] for _ in steps]
    while len(found[0]) < LEAST_ROUNDS or (clock() - start < budget_s and len(found[0]) < MOST_ROUNDS):
        for step, is_short, samples in zip(steps, short, found, strict=True):
            if is_short:
                step()
            samples.append(timed(step))
    return found


def times_as_fast(other: Sequence[float], own: Sequence[float]) -> Ratio:
    """How many times as fast as `other` a case is: the quotient of the medians, and the 95 % interval of the median of
    the rounds' quotients. Where a disturbed machine lets the two tell different things, the interval holds both."""
    value = median(other) / median(own)
    found = order_interval([a / b for a, b in zip(other, own, strict=True)])
    return Ratio(value, found and (min(found[0], value), max(found[1], value)))


def worth(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The worker's job.

    Args:
        job: engine, device, threads, settings, precision; networks: JSON of the FP32 one and of the quantised one;
            spec (JSON), picture (file, None: the default), calibration (path or None), size and output_size
            ((width, height) of the picture that goes in and comes out), budget_s.

    Returns:
        verdict (the line), whole ({precision: ms, ci95, samples}), times_as_fast ({other precision: value, ci95}),
        psnr_db against FP32 and identical, in_float (layers), rows, profiled_ms ({precision: ms}), nodes (those of Q/DQ
        and reformat, longest first), load (of the machine, during {whole, profiled}). A row has name, fp32_ms, ms,
        mac_share, alone_db and type; None where there is none.

    Raises:
        UserError: the engine does not tell times of layers.
    """
    engine, spec = engines.get(job["engine"]), ModelSpec.from_json(job["spec"])
    precision = str(job["precision"])
    fp32, low = (Network.from_json(text) for text in job["networks"])
    options = Options(job["device"], "fp32", job["threads"], job["settings"])
    sides = {name: (fp32, replace(options, precision=name)) for name in ("fp32", *_others(engine, job["device"]))}
    sides[precision] = low, replace(options, precision=precision)
    x = _input(job, spec)
    seen = [_load_seen()]
    whole, quality = _whole(engine, sides, x, job, emit)
    seen.append(_load_seen())
    profiled = {}
    for name in ("fp32", precision):
        emit("phase", name=f"times of layers, {name}")
        profiled[name] = _layer_times(engine, *sides[name], x, runs_for(median(whole[name])))
    seen.append(_load_seen())
    types = told_types(engine, low, sides[precision][1]) or {}
    rows, nodes = _rows((fp32, low), (profiled["fp32"], profiled[precision]), x.shape, types)
    for layer, psnr_db in _alone_db(fp32, spec, low, _calibration(job["calibration"]), emit).items():
        next(row for row in rows if row["name"] == layer)["alone_db"] = psnr_db
    assert low.lowering is not None
    asked = low.lowering["layers"]
    totals = {name: sum(node.ms for node in times) for name, times in profiled.items()}
    facts = Facts(
        precision,
        {name: times_as_fast(samples, whole[precision]) for name, samples in whole.items() if name != precision},
        quality,
        sum(node["ms"] for node in nodes) / totals[precision],
        [layer for layer, kind in types.items() if asked[layer] in QUANTISED and kind not in {asked[layer], NOT_TOLD}],
    )
    return {
        "verdict": verdict_of(facts),
        "whole": {
            name: {"ms": median(samples), "ci95": order_interval(samples), "samples": samples}
            for name, samples in whole.items()
        },
        "times_as_fast": {n: {"value": r.value, "ci95": r.interval} for n, r in facts.against.items()},
        "psnr_db": None if quality in {None, float("inf")} else quality,
        "identical": quality == float("inf"),
        "in_float": facts.in_float,
        "rows": rows,
        "profiled_ms": totals,
        "nodes": nodes,
        "load": {
            name: load_between(a, b, own_b - own_a)
            for name, ((a, own_a), (b, own_b)) in zip(("whole", "profiled"), pairwise(seen), strict=True)
        },
    }


def _load_seen() -> tuple[Load, float]:
    """The machine's counters, and this process's own processor time in s."""
    return sample_load(), sum(os.times()[:4])


def _others(engine: Engine, device: str) -> list[str]:
    """Precisions that the engine makes of the FP32 graph itself."""
    known = engine.precisions.get(device.partition(":")[0], ())
    own = [p for p in known if p != "fp32" and engine.recipe(device, p) is None]
    return [p for p in own if not engine.precision_missing(device, p)]


def _input(job: Mapping[str, Any], spec: ModelSpec) -> np.ndarray:
    from reference_models.colour import tensor_from_picture
    from reference_models.pictures import default_picture, fit_picture, read_picture

    picture = read_picture(job["picture"]) if job["picture"] else default_picture()
    return tensor_from_picture(fit_picture(picture, *job["size"]), spec)


def _whole(
    engine: Engine, sides: Mapping[str, tuple[Network, Options]], x: np.ndarray, job: Mapping[str, Any], emit: Emit
) -> tuple[dict[str, list[float]], float | None]:
    """ms of whole inferences by precision, in turn; and how far the quantised output is from FP32, in dB."""
    from reference_models.colour import unit_range

    sessions = {}
    with ExitStack() as stack:
        for name, (network, options) in sides.items():
            emit("phase", name=f"load {name}")
            sessions[name] = stack.enter_context(engine.load(network.main, options))
            sessions[name].bind(x)

        def step_of(session: Any) -> Callable[[], None]:
            def step() -> None:
                session.enqueue()
                session.synchronize()

            return step

        emit("phase", name="whole inferences in turn")
        samples = in_turn([step_of(session) for session in sessions.values()], job["budget_s"])
        width, height = job["output_size"]
        spec = ModelSpec.from_json(job["spec"])
        read = [sessions[name].read()[:, :, :height, :width] for name in (job["precision"], "fp32")]
        seen = compare(*(unit_range(y, spec) for y in read))
    psnr_db = float("inf") if seen["identical"] else seen["psnr_db"]
    return dict(zip(sides, samples, strict=True)), psnr_db


def runs_for(ms: float) -> int:
    """How many inferences of so many ms are profiled: RUNS, more of them below 0.3 s in all, fewer beyond 3 s."""
    least, most = (limit / ms for limit in PROFILED_MS)
    return int(min(max(LEAST_RUNS, min(max(RUNS, least), most)), MOST_RUNS))


def _layer_times(engine: Engine, network: Network, options: Options, x: np.ndarray, runs: int) -> list[LayerTime]:
    times = engine.layer_times(network.main, options, x, runs)
    if times is None:
        raise UserError(
            f"engine `{engine.name}`: it does not tell what its layers take", "one that does", "Choose another engine"
        )
    return times


def _rows(
    networks: tuple[Network, Network],
    times: tuple[Sequence[LayerTime], Sequence[LayerTime]],
    shape: tuple[int, ...],
    types: Mapping[str, str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of every layer and of PLACES, and the quantised graph's Q/DQ and reformat nodes, longest first."""
    import onnx

    from export.qdq import named_nodes
    from export.quantiser import original_graph
    from export.work import layer_macs

    fp32, low = networks
    assert low.lowering is not None
    nodes = low.lowering["nodes"]
    original = original_graph(fp32, low.precision)
    outs = {node.name: node.output[0] for node in original.graph.node}
    macs = layer_macs(original, shape)
    given = [named_nodes(onnx.load(network.main.onnx_path)) for network in networks]
    # Folding keeps names of tensors, not those of nodes that had none.
    owners = (
        owners_in(given[0], {outs[node]: layer for layer, node in nodes.items()}),
        owners_in(given[1], {node: layer for layer, node in nodes.items()}),
    )
    before, after = (times_by_place(t, o) for t, o in zip(times, owners, strict=True))
    rows = [
        {
            "name": name,
            "fp32_ms": before.get(name),
            "ms": after.get(name),
            "mac_share": macs[nodes[name]] / max(sum(macs.values()), 1) if name in nodes else None,
            "alone_db": None,
            "type": types.get(name),
        }
        for name in (*nodes, *PLACES)
    ]
    return rows, _eaters(times[1], owners[1])


def _eaters(times: Sequence[LayerTime], owners: Owners) -> list[dict[str, Any]]:
    found = [{**vars(time), "place": place_of(time, owners)} for time in times]
    return sorted((node for node in found if node["place"] in {QDQ, REFORMAT}), key=lambda node: -node["ms"])


def _alone_db(
    fp32: Network, spec: ModelSpec, low: Network, pictures: Sequence[np.ndarray], emit: Emit
) -> dict[str, float]:
    """Layer → PSNR in dB against FP32 where it alone is quantised, of the worst calibration picture."""
    from export.calibration import calibration_inputs, further_inputs
    from export.quantiser import Quantiser, original_graph

    assert low.lowering is not None
    recipe = Recipe.from_dict(low.lowering["recipe"])
    # Layers that are kept have an answer too.
    precision = "int8" if recipe.precision == "auto" else recipe.precision
    recipe = replace(recipe, precision=precision, kept=(), floor_db=None)
    inputs = calibration_inputs(pictures, spec)
    further = further_inputs(pictures, spec, fp32.statistics)
    quantiser = Quantiser(original_graph(fp32, precision), spec, recipe, inputs, further)

    def report(what: str, share: float | None) -> None:
        emit("phase", name=f"loss by layer: {what}", share=share)

    best = max(quantiser.attempts(report), key=lambda attempt: attempt.psnr_db)
    found = {}
    for number, layer in enumerate(quantiser.layers):
        report(layer.name, number / len(quantiser.layers))
        others = [other.name for other in quantiser.layers if other is not layer]
        found[layer.name] = quantiser.attempt(best.base, others).psnr_db
    return found


def _calibration(path: str | None) -> list[np.ndarray]:
    from reference_models.pictures import calibration_pictures, list_pictures, read_picture

    if path is None:
        return [picture for _, picture in calibration_pictures()]
    return [read_picture(p) for p in list_pictures(path)]

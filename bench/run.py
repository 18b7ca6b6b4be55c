"""Cases → runs: prepares networks and references, measures every case in fresh processes, stores after each of them."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import engines
from bench import forecast, record, stats, store
from bench.case import Case
from bench.inputs import input_key, source_path, write_inputs
from bench.picture_names import picture_files
from bench.preparing import limit_environment, lowerings, tile_job
from bench.profile import refusal
from bench.record import Run
from bench.spawn import JobFailed, phases, run_job, samples, thread_environment
from bench.within import LEFT, run_within
from export.cache import picture_sha256
from export.network import Network
from reference_models.errors import UserError

MARGIN = 0.03
"""Processes are added until half the interval of the median is below this share of it, or the budget ends."""
LIMIT_MIN, LIMIT_MAX = 3, 10


class Reporter(Protocol):
    """Where progress is shown; the command line passes one, tests pass a silent one."""

    def stage(self, title: str, total: float | None = None) -> AbstractContextManager[Callable[[float, str], None]]:
        """Opens a line of progress; the function it gives takes how much is done and what is being done."""


@dataclass(frozen=True)
class Plan:
    """What `bench run` does, checked and complete."""

    cases: Sequence[Case]
    left_out: Sequence[tuple[Case, str]]
    pictures: Sequence[tuple[str, Any]]
    """Name and (H, W, 3) uint8 RGB picture; the first one is timed, all are judged."""
    store_path: Path
    picture_folder: Path | None
    calibration: str | None
    calibration_sha256: Sequence[str]
    """Of every calibration picture; empty where they are those that ship."""
    budget_s: float
    """Of one case, over all its processes: warm-up and samples."""
    processes: int | None
    """None: 3 to 10, until the interval is narrow or the budget ends."""
    argv: Sequence[str]
    originals: Mapping[str, str] = field(default_factory=dict)
    """Model → task that its pictures are judged by."""
    profile: bool = False
    """Whether the times of layers are taken too, each case once, after all were measured."""
    end: float | None = None
    """When all has to be done, by time.monotonic(); what is not done by then is left. None: whenever it is."""

    @property
    def picture_digests(self) -> list[tuple[str, str]]:
        return [(name, picture_sha256(picture)) for name, picture in self.pictures]


@dataclass
class Progress:
    """One case under way."""

    case: Case
    run: Run
    results: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Wall time of each process, all told."""
    done: bool = False


def execute(plan: Plan, reporter: Reporter) -> list[Run]:
    """Measures every case; each run is in the store as soon as it has a number, and updated with every process.

    KeyboardInterrupt ends the measuring, not the function: what has been measured is returned, the rest is `skipped`.

    A store that cannot be written does not end the measuring either; it is tried again after every process.

    Raises:
        UserError: weights that a network refuses.
        NotStored: the store could not be written at the end; the runs are in the error.
    """
    shared = record.facts(plan.argv, plan.picture_digests, plan.calibration_sha256)
    shared |= {"originals": dict(plan.originals)}
    under_way = [Progress(case, record.new_run(case, shared)) for case in plan.cases]
    left = [record.new_run(case, shared) | {"status": "skipped", "reason": reason} for case, reason in plan.left_out]
    with tempfile.TemporaryDirectory(prefix="fullres-") as scratch:
        try:
            Execution(plan, reporter, Path(scratch), end=plan.end).run(under_way)
        except KeyboardInterrupt:
            for progress in under_way:
                if not progress.done:
                    _interrupted(progress, plan)
    runs = [progress.run for progress in under_way] + left
    try:
        store.put(plan.store_path, [run for run in runs if run["reason"] != LEFT or run["latency_ms"]])
    except UserError as error:  # a full disk, or a file that somebody has damaged meanwhile
        raise NotStored(error, runs) from error
    return runs


class NotStored(Exception):  # noqa: N818  carries a result
    """Everything was measured, and the runs file could not be written."""

    def __init__(self, error: UserError, runs: list[Run]) -> None:
        super().__init__(str(error))
        self.error, self.runs = error, runs


@dataclass
class Execution:
    """Cases of one plan under measurement: `open` once, then `turn` for every further process of a case."""

    plan: Plan
    reporter: Reporter
    scratch: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of every worker, besides its engine's: where another checkout's packages lie."""
    end: float | None = None
    """When workers are ended, with a TimeOver; as Plan.end."""
    _inputs: dict[str, list[str]] = field(default_factory=dict)
    _prepared: dict[str, dict[str, Any]] = field(default_factory=dict)
    _tilings: dict[str, dict[str, Any]] = field(default_factory=dict)
    _unjudged: set[str] = field(default_factory=set)
    """Inputs that an operator failed on."""

    @property
    def _limit(self) -> dict[str, Any]:
        return {} if self.end is None else {"end": self.end}

    def run(self, under_way: list[Progress]) -> None:
        if self.end is not None:
            run_within(self, under_way, self.plan.processes or LIMIT_MIN)
            return
        self.open(under_way)
        start = time.perf_counter()
        before = self.peaks()
        peaks_s = time.perf_counter() - start
        for _ in range(self.plan.processes or LIMIT_MAX):
            for number, progress in enumerate(under_way, 1):
                if not progress.done:
                    self.turn(progress, before, _place(number, under_way, self.plan, peaks_s))
            if all(progress.done for progress in under_way):
                break
        self.close(under_way, before)

    def close(self, under_way: Sequence[Progress], before: Mapping[str, Any]) -> None:
        """The machine's peaks once more, and the times of layers where they are asked for."""
        close(under_way, before, self.peaks())
        for progress in under_way if self.plan.profile and self.end is None else ():
            self.profile(progress)

    def open(self, under_way: Sequence[Progress]) -> None:
        """Writes the inputs and prepares every network."""
        cases, plan = [progress.case for progress in under_way], self.plan
        self._inputs = write_inputs(cases, plan.pictures, plan.originals, self.scratch, self._inputs)
        self._originals(under_way)
        self._prepared = self._prepare(under_way, self._inputs)

    def turn(self, progress: Progress, peaks: Mapping[str, Any], place: str = "") -> None:
        """Measures one more process of a case, brings its run up to date and stores it.

        Args:
            place: words that stand first in its line of progress.
        """
        start = time.perf_counter()
        self._process(progress, self._prepared[progress.case.model], self._inputs, place)
        progress.seconds.append(time.perf_counter() - start)
        _finish(progress, self.plan, peaks)
        with contextlib.suppress(UserError):  # execute() tries again, and says it
            store.put(self.plan.store_path, [progress.run])

    def profile(self, progress: Progress) -> None:
        """Adds `layers` to the run of a measured case, or `layers_failed` with the reason, and stores it."""
        case, run = progress.case, progress.run
        if run["status"] != "ok":
            return
        run["layers"], run["layers_failed"] = None, refusal(case)
        if not run["layers_failed"]:
            network, inputs = self._prepared[case.model]["networks"][case.network_key], self._inputs[input_key(case)]
            job = {"job": "profile", "case": case.to_dict(), "network": network, "inputs": inputs}
            job["ms"] = run["latency_ms"]["p50"]
            own = engines.get(case.engine).environment(case.settings)
            environment = {**thread_environment(case.threads), **own, **self.environment}
            try:
                with self.reporter.stage(f"layers of {case.title}"):
                    run |= run_job(job, environment)
            except JobFailed as failure:
                run["layers_failed"] = failure.reason
        with contextlib.suppress(UserError):  # execute() tries again, and says it
            store.put(self.plan.store_path, [run])

    def _originals(self, under_way: Sequence[Progress]) -> None:
        """Writes what operators make of the inputs, and times them on the first picture of every size."""
        from bench.operator_run import operator_job

        for case in {input_key(p.case): p.case for p in under_way}.values():
            task = self.plan.originals.get(case.model)
            runs = [p.run for p in under_way if input_key(p.case) == input_key(case)]
            if task is None:
                continue
            job = operator_job(task, case, self._inputs[input_key(case)], self.plan.budget_s / LIMIT_MIN)
            series = None
            if job:
                try:
                    with self.reporter.stage(f"original {task}") as show:
                        series = run_job(job, thread_environment(case.threads), phases(show), **self._limit)["series"]
                except JobFailed as failure:  # what was asked for is the network's time: it is measured without
                    for run in runs:
                        run["original_failed"] = failure.reason
                    self._unjudged.add(input_key(case))
                    continue
            for run in runs:
                run["original"] = record.original(task, case, series)

    def _prepare(self, under_way: Sequence[Progress], inputs: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
        """Per model its networks and references. Weights that are refused end the run: nothing is measured yet."""
        prepared = {}
        for model in dict.fromkeys(p.case.model for p in under_way):
            cases = [p.case for p in under_way if p.case.model == model]
            job = {
                "job": "prepare",
                "spec": cases[0].spec.to_json(),
                "weights": cases[0].weights,
                "statistics": list(dict.fromkeys(c.statistics for c in cases)),
                "calibration": self.plan.calibration,
                "threads": cases[0].threads,
                "device": cases[0].device,
                "inputs": {path: path for key in {input_key(c) for c in cases} for path in inputs[key]},
                "lowerings": lowerings(cases),
            }
            environment = engines.get("torch_eager").environment(engines.get("torch_eager").complete_settings({}))
            try:
                with self.reporter.stage(f"prepare {model}") as show:
                    prepared[model] = run_job(job, {**environment, **self.environment}, phases(show), **self._limit)
            except JobFailed as failure:
                if failure.user_error:
                    raise failure.user_error from None
                for progress in under_way:
                    if progress.case.model == model:
                        _fail(progress, f"could not be exported: {failure.reason}", failure.log)
                prepared[model] = {}
        return prepared

    def _tiling(self, case: Case, network: str) -> dict[str, Any]:
        """How the network is to be tiled, found once.

        Raises:
            JobFailed: it cannot be, exactly.
        """
        job = tile_job(case, network)
        key = json.dumps(job)
        if key not in self._tilings:
            with self.reporter.stage(f"tiles {case.model}"):
                self._tilings[key] = run_job(job, self.environment, **self._limit)
        return self._tilings[key]

    def peaks(self) -> dict[str, Any]:
        cases = self.plan.cases
        job = {
            "job": "peaks",
            "device": cases[0].device,
            "threads": cases[0].threads,
            "bf16": any(c.precision == "bf16" for c in cases),
        }
        with self.reporter.stage("machine's peaks"):
            try:
                return run_job(job, thread_environment(cases[0].threads))
            except JobFailed as failure:
                return {"failed": failure.reason}

    def _process(self, progress: Progress, prepared: dict[str, Any], inputs: dict[str, list[str]], place: str) -> None:
        case, number = progress.case, len(progress.results)
        paths = inputs[input_key(case)]
        published = str(case.spec.statistics[0] if case.spec.statistics else None)
        folder = self.plan.picture_folder
        slice_s = self.plan.budget_s / (self.plan.processes or LIMIT_MIN)
        job: dict[str, Any] = {
            "job": "case",
            "case": case.to_dict(),
            "network": prepared["networks"].get(case.network_key),
            "inputs": paths,
            "sources": [str(source_path(Path(path))) for path in paths],
            "output_shape": case.output_shape,
            "rule": {"budget_s": slice_s},
            "judge": number == 0,
            "original": None if input_key(case) in self._unjudged else self.plan.originals.get(case.model),
            "references": [prepared["references"][published][p] for p in paths],
            "parities": [prepared["references"][str(case.statistics)][p] for p in paths],
            "pictures": {kind: str(folder / name) for kind, name in picture_files(case).items()} if folder else {},
        }
        if job["network"] is None:
            return _fail(progress, prepared["refused"][case.network_key]["reason"], "")
        if case.tile != "off":
            try:
                job["tiling"] = self._tiling(case, job["network"])
            except JobFailed as failure:
                return _fail(progress, failure.reason, failure.log)
        if folder:
            progress.run["picture_files"] = picture_files(case)
        if progress.run["work"] is None:
            try:
                record.describe_network(progress.run, case, Network.from_json(job["network"]))
            except ValueError as error:
                return _fail(progress, f"its work could not be counted: {error}", "")
        own = {**engines.get(case.engine).environment(case.settings), **limit_environment(case.memory_mib)}
        environment = {**thread_environment(case.threads), **own, **self.environment}
        progress.rates.append(_machine_rate())
        start = time.perf_counter()
        try:
            title = " · ".join(filter(None, (place, case.title, f"process {number + 1}")))
            with self.reporter.stage(title, total=slice_s) as show:
                progress.results.append(run_job(job, environment, samples(show, start), **self._limit))
        except JobFailed as failure:
            return _fail(progress, failure.reason, failure.log)
        progress.rates.append(_machine_rate())
        return None


def close(under_way: Sequence[Progress], before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Places every case under the roof that the machine's peaks, measured before and after, make."""
    for progress in under_way:
        record.place_under_roof(progress.run, record.better_peaks(before, after))


def _place(number: int, under_way: Sequence[Progress], plan: Plan, peaks_s: float) -> str:
    """`case 3 of 12, 4 to 9 min left`: the forecast once every case has run once; nothing of either for a lone case
    that has not."""
    place = f"case {number} of {len(under_way)}" if len(under_way) > 1 else ""
    if not all(progress.results or progress.done for progress in under_way):
        return place
    paces = [_pace(progress, plan) for progress in under_way if not progress.done]
    return ", ".join(filter(None, (place, forecast.in_words(*forecast.seconds_left(paces, peaks_s)))))


def _pace(progress: Progress, plan: Plan) -> forecast.Pace:
    done = len(progress.results)
    if plan.processes:
        left = (plan.processes - done,) * 2
    else:
        spent_s = _spent_s(progress.results)
        left = forecast.processes_left(done, spent_s, plan.budget_s, (LIMIT_MIN, LIMIT_MAX))
    return forecast.Pace(tuple(progress.seconds), *left)


def _spent_s(results: Sequence[Mapping[str, Any]]) -> float:
    """What these processes used of the budget: warm-up and samples."""
    return float(sum(sum(r["series"]["samples"]) + sum(r["series"]["warmup"]) for r in results) / 1e3)


def _finish(progress: Progress, plan: Plan, peaks: Mapping[str, Any]) -> None:
    """Brings the run up to date with all processes so far, and decides whether another is needed."""
    if progress.done:
        return
    run, results = progress.run, progress.results
    record.update(run, progress.case, results, progress.rates, peaks)
    share = stats.half_width_share(run["latency_ms"]["ci95"], run["latency_ms"]["p50"])
    enough = len(results) >= LIMIT_MIN and (share < MARGIN or _spent_s(results) >= plan.budget_s)
    progress.done = len(results) >= plan.processes if plan.processes else enough or len(results) >= LIMIT_MAX


def _machine_rate() -> float:
    """10^9 FLOP/s of a 1024³ product in this process, best of 25 (a third of a second): is the machine the same one?

    Best of many: a thread that wakes up on a busy core halves the first few.
    """
    import numpy as np

    from bench.peaks import best_s

    a = np.ones((1024, 1024), np.float32)
    return 2 * 1024**3 / best_s(lambda: a @ a, 25) / 1e9


def _fail(progress: Progress, reason: str, log: str) -> None:
    """Marks a case as failed; what earlier processes measured stays in the run, but is not a result."""
    progress.run |= {"status": "failed", "reason": reason, "log": log}
    progress.done = True


def _interrupted(progress: Progress, plan: Plan) -> None:
    progress.run["interrupted"] = True
    if progress.results:
        _finish(progress, plan, (progress.run["work"] or {}).get("peaks", {}))  # the last process may be unaccounted
        progress.run["unstable"].append(f"interrupted after {len(progress.results)} processes")
    else:
        progress.run |= {"status": "skipped", "reason": "interrupted before it was measured"}
    progress.done = True

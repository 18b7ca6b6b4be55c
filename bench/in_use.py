"""A case that is ready → its samples in its way of use: back to back, paced, several in flight, picture to picture.

bench/measure.py has the loop and the clock; what is here decides when the next inference begins, and in which thread.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.device import parts_of
from bench.measure import Clock, Parts, Rule, Series, measure
from bench.stats import half_width_share, order_interval
from bench.ways import Way

POLL_S = 0.05
SETTLED = 2
"""Inferences that each of several threads has behind it when its samples begin to count."""


# Paced


@dataclass
class Pacer:
    """Called between inferences: counts what came too late, and sleeps until the next picture is due.

    A picture is due every 1/fps s. It has missed when it is done after the next one was due; those that come while one
    is under way are dropped, as a player does, and have missed too.
    """

    fps: float
    clock: Clock = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    due: int = 0
    """Pictures that came while samples were taken."""
    late: int = 0
    dropped: int = 0
    _start: float | None = None
    _frame: int = 0
    _samples: int = 0

    def __call__(self, series: Series) -> None:
        now = self.clock()
        if self._start is None:
            self._start = now
        done = (now - self._start) * self.fps - self._frame  # periods since this picture was due
        following = max(self._frame + 1, math.ceil((now - self._start) * self.fps - 1e-9))
        if len(series.samples) > self._samples:
            self.late += done > 1
            self.dropped += following - self._frame - 1
            self.due += following - self._frame
        self._samples, self._frame = len(series.samples), following
        self.sleep(max(0.0, self._start + following / self.fps - now))

    @property
    def told(self) -> dict[str, Any]:
        return {"due": self.due, "late": self.late, "dropped": self.dropped}


# Several in flight


@dataclass
class _Lane:
    """One thread's inferences: when each was done (s) and what it took (ms)."""

    done: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    error: BaseException | None = None


def measure_in_flight(
    steps: Sequence[Callable[[], None]],
    rule: Rule,
    clock: Clock = time.perf_counter,
    progress: Callable[[Series], None] = lambda _: None,
) -> tuple[Series, float]:
    """Latencies with one inference of every step under way, and how many inferences per second they make together.

    All threads run freely from the beginning to the end: what is done before each of them has SETTLED and a share of
    the budget is used is warm-up. The samples are those of all threads, in the order in which they were done.

    Raises:
        whatever a step raises.
    """
    series = Series(first=_timed(steps[0], clock))
    lanes, stop = [_Lane() for _ in steps], threading.Event()
    threads = [
        threading.Thread(target=_run, args=(step, lane, stop, clock), daemon=True)
        for step, lane in zip(steps, lanes, strict=True)
    ]
    start = clock()
    with _running(threads, stop):
        while not _settled(lanes, rule, clock() - start):
            _wait(lanes)
        begun = clock()
        series.steady = True
        while True:
            _wait(lanes)
            series.samples = _since(lanes, begun)
            progress(series)
            now = clock()
            enough = now - start >= rule.budget_s or _narrow(series, rule, now - begun)
            if enough and len(series.samples) >= rule.min_samples:
                break
    series.warmup = [ms for lane in lanes for done, ms in zip(lane.done, lane.ms, strict=False) if done < begun]
    series.samples = _since(lanes, begun, until=now)
    return series, len(series.samples) / (now - begun)


def _timed(step: Callable[[], None], clock: Clock) -> float:
    before = clock()
    step()
    return (clock() - before) * 1e3


def _run(step: Callable[[], None], lane: _Lane, stop: threading.Event, clock: Clock) -> None:
    try:
        while not stop.is_set():
            ms = _timed(step, clock)
            lane.ms.append(ms)
            lane.done.append(clock())
    except BaseException as error:  # raised again by who waits for this thread
        lane.error = error


class _running:  # noqa: N801  used as a function, as contextlib's own are
    """Threads that run while one is inside, and have ended when one is out."""

    def __init__(self, threads: Sequence[threading.Thread], stop: threading.Event) -> None:
        self._threads, self._stop = threads, stop

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _wait(lanes: Sequence[_Lane]) -> None:
    time.sleep(POLL_S)
    for lane in lanes:
        if lane.error:
            raise lane.error


def _settled(lanes: Sequence[_Lane], rule: Rule, spent_s: float) -> bool:
    waited = spent_s >= min(rule.min_time_s, rule.budget_s * rule.warm_up_share)
    return waited and all(len(lane.done) >= SETTLED for lane in lanes)


def _since(lanes: Sequence[_Lane], begun: float, until: float = math.inf) -> list[float]:
    found = [pair for lane in lanes for pair in zip(list(lane.done), lane.ms, strict=False)]
    return [ms for done, ms in sorted(found) if begun <= done <= until]


def _narrow(series: Series, rule: Rule, sampling_s: float) -> bool:
    """Whether the median is known well enough; whole seconds of throughput are wanted besides."""
    if len(series.samples) >= rule.max_samples:
        return True
    if sampling_s < max(1.0, rule.min_time_s):
        return False
    middle = median(series.samples)
    return half_width_share(order_interval(series.samples), middle) < rule.margin


# All of them


@dataclass(frozen=True)
class Between:
    """What is called between inferences, outside of what is timed; each takes the series so far."""

    before: Callable[[Series], None] = lambda _: None
    """Last of all before an inference."""
    after: Callable[[Series], None] = lambda _: None
    """First of all after one."""
    others: Sequence[Callable[[Series], None]] = ()

    def __call__(self, series: Series) -> None:
        self.after(series)
        for call in self.others:
            call(series)
        self.before(series)


@dataclass(frozen=True)
class Use:
    """A case that is ready to be measured in some way."""

    way: Way
    session: Any
    """An engines.Session, bound."""
    another: Callable[[], Any]
    """Loads and binds one more session of the same case."""
    job: Mapping[str, Any]
    """That of the worker: `sources`, paths of the pictures at the size that goes in; `output_shape`; the spec."""

    def step(self, session: Any = None) -> Callable[[], None]:
        """One inference, as the way of use has it."""
        session = session or self.session

        def network_only() -> None:
            session.enqueue()
            session.synchronize()

        if not self.way.pictures:
            return network_only
        from reference_models.colour import picture_from_tensor, tensor_from_picture
        from reference_models.spec import ModelSpec

        picture, spec = self.picture(), ModelSpec.from_json(self.job["case"]["spec"])
        height, width = self.job["output_shape"][2:]

        def inside() -> None:
            session.bind(picture)
            network_only()
            session.read()

        if session.graph.takes_pictures:
            return inside

        def whole() -> None:
            session.bind(tensor_from_picture(picture, spec))
            network_only()
            picture_from_tensor(session.read(), spec, picture, (height, width))

        return whole

    def parts(self) -> Callable[[], None] | Parts:
        """One inference in the parts that are figures of their own, where it is the network's alone."""
        if not self.way.pictures:
            return parts_of(self.session)
        return Parts(self.step(), lambda: None, self.session.prepare)

    def picture(self) -> Any:
        """(H, W, 3) uint8 RGB."""
        import numpy as np

        return np.load(self.job["sources"][0])


def measure_use(use: Use, rule: Rule, between: Between) -> tuple[Series, dict[str, Any]]:
    """Samples of a case in its way of use, and what else this way tells: one entry for `summary`."""
    way, told = use.way, dict[str, Any]()
    if way.in_flight > 1:
        series, told["throughput_fps"] = _several(use, rule, between)
    elif way.pace_fps:
        pacer = Pacer(way.pace_fps)
        # The whole budget: what is asked is how many of all pictures come too late, not what the median is.
        series = measure(
            use.parts(), replace(rule, margin=0.0), progress=replace(between, others=(*between.others, pacer))
        )
        told |= pacer.told
    else:
        series = measure(use.parts(), rule, progress=between)
    if way.pictures and use.job["judge"]:
        with tempfile.TemporaryDirectory() as folder:
            told["ends_ms"] = ends_ms(use.picture(), folder)
    return series, told


def _several(use: Use, rule: Rule, between: Between) -> tuple[Series, float]:
    """Sessions beyond the first are loaded and run once before anything is timed."""
    with contextlib.ExitStack() as stack:
        sessions = [use.session]
        for _ in range(use.way.in_flight - 1):
            sessions.append(stack.enter_context(use.another()))
        steps = [use.step(session) for session in sessions]
        for other in steps[1:]:
            other()
        return measure_in_flight(steps, rule, progress=replace(between, before=_nothing, after=_nothing))


def _nothing(series: Series) -> None:
    pass


def ends_ms(picture: Any, folder: str, repeats: int = 5) -> dict[str, float]:
    """What reading and writing this picture as PNG and as JPEG takes, ms, the median of several; no part of a latency.

    Args:
        picture: (H, W, 3) uint8 RGB.
        folder: where the files may lie for as long as it takes.
    """
    from reference_models.pictures import read_picture, write_picture

    found: dict[str, float] = {}
    for ending in ("png", "jpg"):
        path = Path(folder) / f"ends.{ending}"
        found[f"encode_{ending}"] = median(list(_times(lambda path=path: write_picture(path, picture), repeats)))  # type: ignore[misc]
        found[f"decode_{ending}"] = median(list(_times(lambda path=path: read_picture(path), repeats)))  # type: ignore[misc]
    return found


def _times(call: Callable[[], object], repeats: int) -> Iterator[float]:
    for _ in range(repeats):
        yield _timed(lambda: (call(), None)[1], time.perf_counter)

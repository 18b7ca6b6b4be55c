"""The worker's job of `bench apply`: pictures through one session, decoding and encoding beside the inference."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.pipeline import Stages, Width, one_by_one, overlapped
from bench.stopping import stop_request
from engines.engine import Session
from engines.picture_ends import Prepared, finished, prepared
from export.network import INPUT, OUTPUT
from reference_models.errors import UserError
from reference_models.pictures import Picture, read_picture, write_picture
from reference_models.spec import ModelSpec

PICTURES = Width(loaders=2, savers=2, in_flight=6)
"""PNG takes longer than most networks on a GPU: two threads at each end, one picture in each, and one that waits."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says where nothing more can be written, whatever the file's name."""

Emit = Callable[..., None]


def job_apply(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """
    Args:
        job: spec and network (JSON), engine, device, precision, threads, settings; tiling and memory_mib, None or as
            bench/tile_plan.py takes them; `pictures`: [[source, target], ...] or `video` as bench/video/job.py
            describes it; `overlap`: False for one picture after the other.

    Returns:
        For pictures: `failed`: [[source, why], ...]; `stopped`: why not all were tried, None where all were.
    """
    with stop_request() as asked, ThreadPoolExecutor(1) as computing, session_in(computing, job) as network:
        if "video" in job:
            from bench.video.job import apply_to_video

            return apply_to_video(job["video"], network, asked.is_set, emit)
        return _apply_to_pictures(job, network, asked.is_set, emit)


def open_session(job: Mapping[str, Any]) -> Session:
    """The session through which everything goes."""
    import engines
    from bench.tile_plan import limit_this_process, tiling_of
    from engines.engine import Options
    from engines.thumbnail import load_network
    from export.network import Network

    options = Options(job["device"], job["precision"], job["threads"], job["settings"])
    limit_this_process(job.get("memory_mib"))
    return load_network(engines.get(job["engine"]), Network.from_json(job["network"]), options, tiling_of(job))


@dataclass(frozen=True)
class NetworkInUse:
    """A session and the one thread that it belongs to."""

    spec: ModelSpec
    session: Session
    computing: ThreadPoolExecutor
    alone: bool = False
    """One picture at a time: tiles were chosen to fill the memory beside it."""

    def prepared(self, picture: Picture) -> Prepared:
        """A picture as the network takes it."""
        return prepared(picture, self.spec)

    def run(self, given: Prepared) -> tuple[Prepared, np.ndarray]:
        """One inference, in the thread `computing`: raw output beside what it came from."""
        return given, self.session.run({INPUT: given.tensor})[OUTPUT]

    def picture(self, given: Prepared, y: np.ndarray) -> Picture:
        """uint8 (H, W, 3) RGB of an output."""
        return finished(y, given, self.spec)


@contextmanager
def session_in(computing: ThreadPoolExecutor, job: Mapping[str, Any]) -> Iterator[NetworkInUse]:
    """The job's session, opened and closed in the thread that uses it: a CUDA context belongs to a thread."""
    session = computing.submit(open_session, job).result()
    try:
        yield NetworkInUse(ModelSpec.from_json(job["spec"]), session, computing, bool(job.get("tiling")))
    finally:
        computing.submit(session.close).result()


def _apply_to_pictures(
    job: Mapping[str, Any], network: NetworkInUse, asked: Callable[[], bool], emit: Emit
) -> dict[str, Any]:
    def load(pair: list[str]) -> tuple[str, Prepared]:
        return pair[1], network.prepared(read_picture(pair[0]))

    def compute(loaded: tuple[str, Prepared]) -> tuple[str, tuple[Prepared, np.ndarray]]:
        return loaded[0], network.run(loaded[1])

    def save(computed: tuple[str, tuple[Prepared, np.ndarray]]) -> None:
        write_picture(computed[0], network.picture(*computed[1]))

    stages = Stages(load, compute, save)
    pairs = itertools.takewhile(lambda _: not asked(), job["pictures"])
    if job.get("overlap", True) and not network.alone:
        outcomes = overlapped(pairs, stages, network.computing, PICTURES)
    else:
        outcomes = one_by_one(pairs, stages, network.computing)
    failed: list[list[str]] = []
    with closing(outcomes):
        for outcome in outcomes:
            source = outcome.item[0]
            emit("picture", name=Path(source).name, source=source, failed=outcome.error is not None)
            if outcome.error:
                failed.append([source, _reason(outcome.error)])
            if is_full(outcome.error):
                return {"failed": failed, "stopped": f"the disk is full: {outcome.item[1]}"}
    return {"failed": failed, "stopped": "interrupted" if asked() else None}


def is_full(error: BaseException | None) -> bool:
    """Whether it says that nothing more can be written: what comes next would fail too."""
    cause = error.__cause__ if isinstance(error, UserError) else error
    return isinstance(cause, OSError) and cause.errno in FULL


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"

"""`bench apply` on pictures, as the command sees it: what is left to do, progress, and what has become of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.manifest import Manifest, settings_key, source_state
from bench.preparing import told
from bench.spawn import Interrupted, JobFailed, run_job
from reference_models.errors import UserError
from reference_models.pictures import is_abandoned

GRACE_S = 600.0
"""For the pictures, or the frames and the end of the file, that were begun when Ctrl-C came; most need a second, and a
second Ctrl-C ends them at once."""
STOPPING = "ending what was begun; Ctrl-C again: at once"


@dataclass
class Applied:
    """What a folder has come to."""

    asked: int
    kept: int = 0
    """Pictures that were there already, made by the same network and settings from the same input."""
    done: int = 0
    failed: list[list[str]] = field(default_factory=list)
    """[source, reason] each."""
    stopped: str | None = None
    """Why not all were tried."""
    seconds: float = 0.0

    @property
    def rate(self) -> str:
        """Pictures per second, once there is something to be said."""
        return f"{self.done / self.seconds:.3g} pictures/s" if self.done > 1 and self.seconds else ""


@dataclass(frozen=True)
class Work:
    """One network that is ready to be applied."""

    job: Mapping[str, Any]
    """What the worker's job `apply` needs, besides pictures or a video."""
    environment: Mapping[str, str]
    """Of the worker."""
    reporter: Any
    """A bench.run.Reporter."""


def apply_to_pictures(work: Work, pairs: Sequence[tuple[str, str]], place: Manifest | None) -> Applied:
    """
    Args:
        place: what the output folder holds; None: every picture is made.

    Raises:
        UserError: the worker failed, with exit code 5, or the folder's list cannot be written.
    """
    states = {source: source_state(source) for source, _ in pairs}
    left = [pair for pair in pairs if place is None or not place.holds(*pair)]
    applied = Applied(len(pairs), kept=len(pairs) - len(left))
    if not left:
        return applied
    targets = dict(left)
    with no_leftovers(Path(left[0][1]).parent), work.reporter.stage("apply", total=len(left)) as show:
        follow = _Follower(applied, place, states, targets, show)
        try:
            result = run_job({**work.job, "job": "apply", "pictures": left}, work.environment, follow, GRACE_S)
        except Interrupted as end:
            result = {**(end.result or {}), "stopped": "interrupted"}
        except JobFailed as failure:
            raise told(failure) from None
    applied.failed, applied.stopped = result.get("failed", applied.failed), result["stopped"]
    return applied


@dataclass
class _Follower:
    """Takes the worker's events: writes down what is done, shows how it goes."""

    applied: Applied
    place: Manifest | None
    states: Mapping[str, list[int]]
    targets: Mapping[str, str]
    show: Callable[[float, str], None]
    start: float = field(default_factory=time.monotonic)

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "stopping":
            self.show(self.applied.done + len(self.applied.failed), STOPPING)
        if event["event"] != "picture":
            return
        self.applied.seconds = time.monotonic() - self.start
        if event["failed"]:
            self.applied.failed.append([event["source"], "failed"])
        else:
            self.applied.done += 1
            if self.place:
                source = event["source"]
                _listed(self.place, source, self.targets[source], self.states[source])
        tried = self.applied.done + len(self.applied.failed)
        self.show(tried, progress_words(event["name"], self.applied.seconds, tried, len(self.targets)))


def _listed(place: Manifest, source: str, target: str, state: list[int]) -> None:
    """A list that cannot be written costs the next run some time, and this one nothing: the picture is there."""
    try:
        place.add(source, target, state)
    except OSError:
        return


def progress_words(name: str, seconds: float, done: int, total: int, unit: str = "pictures") -> str:
    """`sea.png, 3.4 pictures/s, 0:01:25 left`."""
    if not done or not seconds:
        return name
    rate = done / seconds
    words = [name, f"{rate:.3g} {unit}/s"]
    if total > done:
        left = round((total - done) / rate)
        words.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    return ", ".join(filter(None, words))


def manifest_for(folder: Path, job: Mapping[str, Any], again: bool) -> Manifest:
    """What a folder holds of this network and these settings; nothing where all is to be made again.

    Raises:
        UserError: its list cannot be written.
    """
    import engines

    key = settings_key(job, engines.get(job["engine"]).version())
    place = Manifest(folder, key)
    if again:
        place.forget()
    try:
        place.begin()
    except OSError as error:
        raise UserError(
            f"`--output {folder}`: {error.strerror}", "a folder that can be written", "Choose another"
        ) from None
    return place


@contextmanager
def no_leftovers(folder: Path) -> Iterator[None]:
    """Removes the half-written files of a worker that was killed: those that were not there before, and whose process
    is gone. Another command may write into the same folder."""
    before = set(folder.glob(".*.tmp"))
    try:
        yield
    finally:
        for path in set(folder.glob(".*.tmp")) - before:
            if is_abandoned(path):
                path.unlink(missing_ok=True)

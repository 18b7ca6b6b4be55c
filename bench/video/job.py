"""The worker's part of `bench apply` on a video: frames through the session, decoding and encoding beside it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.applying import NetworkInUse, is_full
from bench.pipeline import Stages, Width, overlapped
from bench.video.reading import Batch, Found, ends_early, open_video, read_batches
from bench.video.writing import VideoWriter
from engines.picture_ends import Prepared
from reference_models.pictures import scratch_beside

FRAMES = Width(loaders=1, savers=1, in_flight=4)
"""One thread each: a decoder and an encoder take frames in their order. They have threads of their own inside."""
REPORT_S = 0.2
Step = tuple[Batch, Prepared | None, np.ndarray | None]


def apply_to_video(
    video: dict[str, Any], network: NetworkInUse, asked: Callable[[], bool], emit: Callable[..., None]
) -> dict[str, Any]:
    """
    Args:
        video: see `checked_video` in bench/video/choices.py.

    Returns:
        found (see Found), written (frames), `cut`: the source ends early; `stopped`: why not all was done, None where
        it was; `path` of what is there, None where nothing could be kept; size (width, height), seconds.
    """
    target = Path(video["target"])
    scratch = scratch_beside(target)
    way = _Way(video, network, scratch)
    start = time.monotonic()
    try:
        stopped = _run(way, asked, emit)
        stopped = way.closed() or stopped
        cut = not stopped and ends_early(way.found, video["facts"])
        if stopped:  # what was handed to the encoder may not all have got into the file
            way.written = _playable_frames(scratch)
        path = _kept(scratch, target, stopped, way.written)
    finally:
        scratch.unlink(missing_ok=True)
    return {
        "found": asdict(way.found), "written": way.written, "cut": cut, "stopped": stopped, "path": path,
        "size": way.size, "seconds": time.monotonic() - start,
    }  # fmt: skip


@dataclass
class _Way:
    """The three stages of a frame."""

    video: dict[str, Any]
    network: NetworkInUse
    scratch: Path
    found: Found = field(default_factory=Found)
    written: int = 0
    size: tuple[int, int] | None = None
    """Width and height of what the network makes."""
    _writer: VideoWriter | None = None
    _batches: Iterator[Batch] | None = None

    def load(self, _: int) -> Step:
        if self._batches is None:
            self._batches = read_batches(
                Path(self.video["source"]), self.video["facts"], self.video["audio"], self.found
            )
        batch = next(self._batches, None) or Batch(None, 0, [])
        if batch.picture is None:
            return batch, None, None
        return batch, self.network.prepared(batch.picture), None

    def compute(self, step: Step) -> Step:
        batch, given, _ = step
        return step if given is None else (batch, *self.network.run(given))

    def save(self, step: Step) -> bool:
        """Whether that was the last."""
        batch, given, y = step
        if given is None or y is None:
            if self._writer:
                self._writer.write(batch)
            return True
        picture = self.network.picture(given, y)
        if self._writer is None:
            self._writer = VideoWriter(self.scratch, self.video, picture)
            self.size = picture.shape[1], picture.shape[0]
        self._writer.write(Batch(picture, batch.pts, batch.audio))
        self.written += 1
        return False

    def closed(self) -> str | None:
        """Ends the file; why that could not be done, None where it was."""
        import av

        try:
            if self._writer:
                self._writer.close()
        except (av.FFmpegError, OSError) as error:
            return _why(error, self.video["target"])
        return None


def _run(way: _Way, asked: Callable[[], bool], emit: Callable[..., None]) -> str | None:
    """Frames until the last; why it was not reached, None where it was."""
    last = 0.0
    stages = Stages(way.load, way.compute, way.save)
    outcomes = overlapped(
        itertools.count(), stages, way.network.computing, Width(in_flight=1) if way.network.alone else FRAMES
    )
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.error:
                return _why(outcome.error, way.video["target"])
            if outcome.value:
                return None
            if time.monotonic() - last > REPORT_S:
                last = time.monotonic()
                emit("frame", done=way.written)
            if asked():
                return "interrupted"
    raise AssertionError("itertools.count has no end")


def _why(error: BaseException, target: str) -> str:
    if is_full(error):
        return f"the disk is full: {target}"
    text = str(error) if str(error) else "no message"
    return f"{type(error).__name__}: {text}"


def _kept(scratch: Path, target: Path, stopped: str | None, frames: int) -> str | None:
    """Where the file lies in the end: at its place where it is whole, beside it where it is not but plays."""
    if not scratch.exists() or not frames:
        return None
    place = target.with_name(f"{target.stem}.partial{target.suffix}") if stopped else target
    os.replace(scratch, place)
    return str(place)


def _playable_frames(path: Path) -> int:
    """Frames of a file that was not ended as it should be; 0 where nothing can play it."""
    from av import FFmpegError

    from reference_models.errors import UserError

    frames = 0
    with suppress(UserError, FFmpegError), open_video(path) as container:
        for packet in container.demux(container.streams.video[0]):
            frames += packet.size > 0
    return frames

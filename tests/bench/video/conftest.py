"""What tests of videos share: a file's packets and frames, and the job that the command would make of two paths."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reference_models


@pytest.fixture(scope="session")
def packets() -> Callable[[Path, str], list[tuple[float, bytes]]]:
    """`packets(path, kind)`: time stamp in s and bytes of every packet of the first stream of a kind."""
    import av

    def read(path: Path, kind: str) -> list[tuple[float, bytes]]:
        with av.open(str(path)) as container:
            stream: Any = next(s for s in container.streams if s.type == kind)
            return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]

    return read


@pytest.fixture(scope="session")
def video_job() -> Callable[..., dict[str, Any]]:
    """`video_job(source, target, codec=…, crf=…, audio=…)`: the part `video` of a job, as the command makes it."""
    from bench.video.choices import checked_video

    def make(source: Path, target: Path, **more: Any) -> dict[str, Any]:
        words = {"codec": None, "crf": None, "audio": "copy", "again": False, **more}
        return checked_video(source, target, argparse.Namespace(**words), reference_models.get("srgan_x4"))

    return make


@pytest.fixture(scope="session")
def spoil() -> Callable[[Path, int, int], None]:
    """`spoil(path, number, …)`: overwrites the middle of the video's packets of these numbers, in the file."""
    import av

    def change(path: Path, *numbers: int) -> None:
        with av.open(str(path)) as container:
            found = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]
        content = bytearray(path.read_bytes())
        for number in numbers:
            place, size = found[number]
            content[place + 5 : place + size] = bytes(i * 37 % 251 for i in range(size - 5))
        path.write_bytes(bytes(content))

    return change

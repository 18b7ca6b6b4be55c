"""A video through a network: frames are the network's, memory does not grow, the sound is untouched."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

av = pytest.importorskip("av")

LONG = 200
"""Frames of 1920x1080: minutes on an idle machine, most of them in the networks and the encoder."""


def packets(path: Path, kind: str) -> list[tuple[Any, ...]]:
    """(time stamp in s, bytes) of every packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "scale"), [("espcn_x2", 2), ("can24", 1)])
def test_a_long_clip_goes_through_with_constant_memory_and_its_sound(
    model: str, scale: int, clip: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    source, target = clip(tmp_path / "in.mp4", frames=LONG, width=1920, height=1080), tmp_path / "out.mp4"
    live = start("apply", "--model", model, "--input", source, "--output", target)
    live.wait_for("apply\n", 600)
    used: list[int] = []
    while live.process.poll() is None:
        for worker in psutil.Process(live.process.pid).children():
            try:
                used.append(worker.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.5)
    outcome = live.finish()
    assert outcome.code == 0, outcome.err
    third = len(used) // 3
    early, late = max(used[:third]), max(used[2 * third :])
    print(f"{model}: {outcome.out.strip()}; MiB in the first third {early >> 20}, in the last {late >> 20}")
    assert late < early * 1.1
    frames = packets(target, "video")
    assert len(frames) == LONG
    assert sorted(t for t, _ in frames) == pytest.approx(sorted(t for t, _ in packets(source, "video")))
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(target)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (1920 * scale, 1080 * scale)

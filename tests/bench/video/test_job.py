"""A video through a network: frames are the network's, memory does not grow, the sound is untouched."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import reference_models
from bench.applying import NetworkInUse
from bench.video.job import apply_to_video

av = pytest.importorskip("av")

LONG = 200
"""Frames of 1920x1080: minutes on an idle machine, most of them in the networks and the encoder."""


class Halving:
    """A session that repeats every pixel four times per side and halves its value."""

    def __init__(self) -> None:
        self.frames = 0
        self.on_run: Callable[[int], None] = lambda _: None

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.frames += 1
        self.on_run(self.frames)
        return {"y": inputs["x"].repeat(4, 2).repeat(4, 3) - 1}  # the network's range is -1 to 1

    def close(self) -> None:
        pass


@pytest.fixture
def network() -> Iterator[NetworkInUse]:
    with ThreadPoolExecutor(1) as computing:
        yield NetworkInUse(reference_models.get("srgan_x4"), Halving(), computing)  # type: ignore[arg-type]


@dataclass
class Made:
    result: dict[str, Any]
    source: Path
    target: Path
    events: list[dict[str, Any]]


@pytest.fixture
def make(clip: Callable[..., Path], tmp_path: Path, video_job: Any, network: NetworkInUse) -> Callable[..., Made]:
    """`make(frames=…, ending=…, before=…)`: a clip through the network; `before(path)` may spoil it first."""

    def call(
        ending: str = ".mp4", before: Callable[[Path], None] | None = None, asked: Callable[[], bool] = lambda: False,
        **wanted: Any,
    ) -> Made:  # fmt: skip
        source, target, events = clip(tmp_path / f"in{ending}", **wanted), tmp_path / f"out{ending}", []
        if before:
            before(source)
        video = video_job(source, target)
        result = apply_to_video(video, network, asked, lambda event, **more: events.append(more))
        assert not list(tmp_path.glob(".*.tmp"))
        return Made(result, source, target, events)

    return call


def test_every_frame_is_the_network_s_and_the_sound_is_untouched(make: Callable[..., Made], packets: Any) -> None:
    made = make(frames=10)
    assert (made.result["written"], made.result["size"], made.result["cut"], made.result["stopped"]) == (
        10,
        (256, 192),
        False,
        None,
    )
    assert made.result["path"] == str(made.target)
    assert packets(made.target, "audio") == packets(made.source, "audio")
    with av.open(str(made.source)) as a, av.open(str(made.target)) as b:
        for given, frame in zip(a.decode(video=0), b.decode(video=0), strict=True):
            wanted = given.to_ndarray(format="rgb24").repeat(4, 0).repeat(4, 1) / 2
            assert np.abs(frame.to_ndarray(format="rgb24") - wanted).mean() < 4
    assert made.events[0] == {"done": 1}


def test_odd_sides_are_padded_by_one(make: Callable[..., Made], network: NetworkInUse) -> None:
    network.session.run = lambda inputs: {"y": inputs["x"].repeat(4, 2).repeat(4, 3)[:, :, :-1, :-1]}  # type: ignore[method-assign]
    object.__setattr__(network, "picture", lambda given, y: np.zeros((191, 255, 3), np.uint8))
    made = make(frames=3)
    assert tuple(made.result["size"]) == (255, 191)
    with av.open(str(made.target)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (256, 192)


def test_a_broken_frame_leaves_the_others_at_their_times(make: Callable[..., Made], packets: Any, spoil: Any) -> None:
    wanted = {"codec": "mjpeg", "pixel_format": "yuvj420p", "frames": 8, "audio": None}
    made = make(".mkv", lambda path: spoil(path, 3), **wanted)
    found = made.result["found"]
    assert found["broken"] + found["damaged"] >= 1
    assert made.result["stopped"] is None
    times = [round(t * 25) for t, _ in packets(made.target, "video")]
    assert len(times) == made.result["written"] == 8 - found["broken"]
    assert set(range(8)) - set(times) <= {3}


def test_a_file_cut_short_gives_what_is_there_and_says_so(make: Callable[..., Made], packets: Any) -> None:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    made = make(".mkv", cut, frames=75)
    assert made.result["cut"]
    assert made.result["path"] == str(made.target)
    assert len(packets(made.target, "video")) == made.result["written"] > 5


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_request_to_stop_leaves_a_file_that_plays(ending: str, make: Callable[..., Made], packets: Any) -> None:
    turns = iter(range(1000))
    made = make(ending, asked=lambda: next(turns) >= 4, frames=60)
    assert made.result["stopped"] == "interrupted"
    assert not made.target.exists()
    partial = Path(made.result["path"])
    assert partial.name == f"out.partial{ending}"
    assert len(packets(partial, "video")) == made.result["written"]
    assert 5 <= made.result["written"] < 12
    assert packets(partial, "audio")


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_full_disk_leaves_a_file_that_plays_or_none(
    ending: str, make: Callable[..., Made], network: NetworkInUse, packets: Any
) -> None:
    """The limit on a file's size stands in for the disk."""
    random = np.random.default_rng(0)
    noise = lambda given, y: random.integers(0, 256, (96, 128, 3), np.uint8)  # noqa: E731
    object.__setattr__(network, "picture", noise)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit: Callable[[int], None] = lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))  # noqa: E731
    network.session.on_run = limit  # type: ignore[attr-defined]
    try:
        made = make(ending, frames=60, rate=5)  # Matroska is written in parts of 5 s
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk is full" in made.result["stopped"]
    assert not made.target.exists()
    path = made.result["path"]
    assert (path is None) == (ending == ".mp4"), "an MP4 file needs its end, a Matroska file plays without"
    frames = len(packets(Path(path), "video")) if path else 0
    assert frames == made.result["written"] < 60


def test_a_network_that_fails_ends_it_with_the_reason(make: Callable[..., Made], network: NetworkInUse) -> None:
    def fails(number: int) -> None:
        if number == 4:
            raise MemoryError("no room for this frame")

    network.session.on_run = fails  # type: ignore[attr-defined]
    made = make(frames=30)
    assert made.result["stopped"] == "MemoryError: no room for this frame"
    assert made.result["path"].endswith("out.partial.mp4")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "scale"), [("espcn_x2", 2), ("can24", 1)])
def test_a_long_clip_goes_through_with_constant_memory_and_its_sound(
    model: str, scale: int, *, clip: Callable[..., Path], start: Callable[..., Any], tmp_path: Path, packets: Any
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

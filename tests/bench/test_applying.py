"""The worker's job: every picture is tried, a full disk ends it, a request to stop leaves whole files only.

Networks are replaced by one that only adds: what is tested is what happens around it.
"""

from __future__ import annotations

import errno
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference_models
from bench import applying
from bench.applying import is_full, job_apply
from reference_models.errors import UserError
from reference_models.pictures import read_picture, write_picture

SPEC = reference_models.get("srgan_x4")


class Doubling:
    """A session that repeats every pixel four times per side, and halves its value."""

    threads: set[int]

    def __init__(self) -> None:
        self.threads = {threading.get_ident()}
        self.closed = False
        self.on_run: Any = lambda: None

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.threads.add(threading.get_ident())
        self.on_run()
        return {"y": inputs["x"].repeat(4, 2).repeat(4, 3) - 1}  # the network's range is -1 to 1

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed = True


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Doubling]]:
    """The sessions that jobs open."""
    opened: list[Doubling] = []

    def open_session(_: Any) -> Doubling:
        opened.append(Doubling())
        return opened[-1]

    monkeypatch.setattr(applying, "open_session", open_session)
    yield opened
    assert all(one.closed and len(one.threads) == 1 for one in opened)


def pictures(folder: Path, count: int, noisy: bool = False) -> list[list[str]]:
    found = []
    for number in range(count):
        source = folder / f"{number:02}.png"
        random = np.random.default_rng(number)
        write_picture(source, random.integers(0, 256, (8, 12, 3), np.uint8))
        found.append([str(source), str(folder / f"out-{number:02}.png")])
    return found


def run(pairs: list[list[str]], **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    job = {"spec": SPEC.to_json(), "pictures": pairs, **more}
    return job_apply(job, lambda event, **fields: events.append({"event": event, **fields})), events


@pytest.mark.parametrize("overlap", [True, False])
def test_every_picture_is_made_in_order_and_a_bad_one_is_named(
    overlap: bool, session: list[Doubling], tmp_path: Path
) -> None:
    pairs = pictures(tmp_path, 9)
    Path(pairs[4][0]).write_bytes(b"no picture")
    result, events = run(pairs, overlap=overlap)
    assert result["stopped"] is None
    assert [source for source, _ in result["failed"]] == [pairs[4][0]]
    assert "not a picture" in result["failed"][0][1]
    assert [(e["source"], e["failed"]) for e in events] == [(pair[0], i == 4) for i, pair in enumerate(pairs)]
    for number, (source, target) in enumerate(pairs):
        if number != 4:
            x = read_picture(source).astype(np.float32) / 255
            wanted = np.floor(x.repeat(4, 0).repeat(4, 1) / 2 * 255 + 0.5)
            assert np.abs(read_picture(target) - wanted).max() <= 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_network_that_fails_on_one_picture_does_the_others(session: list[Doubling], tmp_path: Path) -> None:
    pairs = pictures(tmp_path, 4)
    turns = iter(range(4))

    def fails_at_the_second() -> None:
        if next(turns) == 1:
            raise MemoryError("no room")

    result_events = None
    real = applying.open_session

    def opened(job: Any) -> Doubling:
        found = real(job)
        found.on_run = fails_at_the_second  # type: ignore[attr-defined]
        return found  # type: ignore[return-value]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(applying, "open_session", opened)
        result_events = run(pairs)
    assert result_events[0]["failed"] == [[pairs[1][0], "MemoryError: no room"]]
    assert Path(pairs[3][1]).is_file()


def test_a_full_disk_ends_it_and_leaves_whole_files(session: list[Doubling], tmp_path: Path) -> None:
    """Files may have 8000 bytes: the third picture, noise of 48x32 pixels, has more."""
    pairs = pictures(tmp_path, 6)
    flat = np.full((8, 12, 3), 9, np.uint8)
    for source, _ in pairs[:2]:
        write_picture(source, flat)
    large = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    write_picture(pairs[2][0], large)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        result, _ = run(pairs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result["stopped"] == f"the disk is full: {pairs[2][1]}"
    assert [source for source, _ in result["failed"]] == [pairs[2][0]]
    assert read_picture(pairs[1][1]).shape == (32, 48, 3)
    assert not Path(pairs[2][1]).exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_request_to_stop_leaves_whole_files_and_says_so(session: list[Doubling], tmp_path: Path) -> None:
    pairs = pictures(tmp_path, 40)

    def stops_after_two(event: str, **fields: Any) -> None:
        if fields["source"] == pairs[1][0]:
            signal.raise_signal(signal.SIGTERM)

    result = job_apply({"spec": SPEC.to_json(), "pictures": pairs}, stops_after_two)
    assert result == {"failed": [], "stopped": "interrupted"}
    made = sorted(path.name for path in tmp_path.glob("out-*.png"))
    assert 2 <= len(made) < 12
    for name in made:
        assert read_picture(tmp_path / name).shape == (32, 48, 3)
    assert not list(tmp_path.glob(".*.tmp"))


def test_only_what_the_system_says_of_space_is_a_full_disk() -> None:
    def told(cause: OSError) -> UserError:
        error = UserError("a", "b", "c")
        error.__cause__ = cause
        return error

    assert is_full(told(OSError(errno.ENOSPC, "")))
    assert is_full(OSError(errno.EFBIG, ""))
    assert not is_full(told(OSError(errno.EACCES, "")))
    assert not is_full(ValueError())
    assert not is_full(None)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "least"), [("waits", 1.3), ("computes", 1.05)])
def test_overlapping_pays(network: str, least: float, session: list[Doubling], tmp_path: Path) -> None:
    """Both ways in turn, three times: `waits` is on a device, 60 ms; `computes` on this machine's cores."""
    pairs = pictures(tmp_path, 24)
    random = np.random.default_rng(0)
    for source, _ in pairs:
        write_picture(source, random.integers(0, 256, (180, 320, 3), np.uint8))
    matrix = random.normal(0, 1, (700, 700))

    def computes() -> None:
        matrix @ matrix @ matrix

    real, work = applying.open_session, {"waits": lambda: time.sleep(0.06), "computes": computes}[network]

    def opened(job: Any) -> Any:
        found = real(job)
        found.on_run = work  # type: ignore[attr-defined]
        return found

    seconds: dict[bool, list[float]] = {True: [], False: []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(applying, "open_session", opened)
        for turn in range(6):
            start = time.perf_counter()
            run(pairs, overlap=turn % 2 == 0)
            seconds[turn % 2 == 0].append(time.perf_counter() - start)
    ratio = float(np.median(seconds[False]) / np.median(seconds[True]))
    print(f"{network}: one after the other takes {ratio:.2f} times as long")
    assert ratio > least

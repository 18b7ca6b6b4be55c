"""What the command does around the worker that makes the pictures."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import apply_pictures
from bench.apply_pictures import Work, apply_to_pictures, no_leftovers, progress_words
from bench.manifest import Manifest
from bench.spawn import Interrupted
from reference_models.pictures import scratch_beside


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.png", 0.0, 0, 10), "a.png"),
        (("a.png", 10.0, 5, 10), "a.png, 0.5 pictures/s, 0:00:10 left"),
        (("a.png", 10.0, 10, 10), "a.png, 1 pictures/s"),
        (("", 1.0, 1, 3726, "frames"), "1 frames/s, 1:02:05 left"),
    ],
)
def test_progress_says_the_rate_and_what_is_left(arguments: Any, words: str) -> None:
    assert progress_words(*arguments) == words


def test_what_a_killed_worker_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    kept = [tmp_path / ".new.tmp", scratch_beside(tmp_path / "another command's.mp4"), tmp_path / "picture.png"]
    before = tmp_path / f".{gone.pid}-{'0' * 16}.tmp"
    before.touch()
    with no_leftovers(tmp_path):
        (tmp_path / f".{gone.pid}-{'1' * 16}.tmp").touch()
        for path in kept:
            path.touch()
    assert set(tmp_path.iterdir()) == {before, *kept}


class Silent:
    """A reporter that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, str]] = []

    @contextmanager
    def stage(self, *_: Any, **__: Any) -> Any:
        yield lambda done, doing: self.shown.append((done, doing))


def pairs_in(folder: Path, count: int) -> list[tuple[str, str]]:
    (folder / "out").mkdir()
    found = []
    for number in range(count):
        source = folder / f"{number}.png"
        source.write_bytes(b"x")
        found.append((str(source), str(folder / "out" / f"{number}.png")))
    return found


def worker(fails: int | None = None, stops: bool = False) -> Any:
    """In place of run_job: makes its files, tells of them, and is interrupted after two where it `stops`."""

    def run_job(job: Any, _: Any, on_event: Any, __: float) -> dict[str, Any]:
        failed = []
        for number, (source, target) in enumerate(job["pictures"]):
            if stops and number == 2:
                raise Interrupted({"failed": [], "stopped": "interrupted"})
            bad = number == fails
            if bad:
                failed.append([source, "why"])
            else:
                Path(target).write_bytes(b"made")
            on_event({"event": "picture", "name": Path(source).name, "source": source, "failed": bad})
        return {"failed": failed, "stopped": None}

    return run_job


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, reporter = pairs_in(tmp_path, 5), Silent()
    monkeypatch.setattr(apply_pictures, "run_job", worker(stops=True))
    first = apply_to_pictures(Work({}, {}, reporter), pairs, Manifest(tmp_path / "out", "k"))
    assert (first.done, first.kept, first.stopped) == (2, 0, "interrupted")
    monkeypatch.setattr(apply_pictures, "run_job", worker(fails=1))
    second = apply_to_pictures(Work({}, {}, reporter), pairs, Manifest(tmp_path / "out", "k"))
    assert (second.done, second.kept, second.stopped) == (2, 2, None)
    assert second.failed == [[pairs[3][0], "why"]]
    third = apply_to_pictures(Work({}, {}, reporter), pairs, Manifest(tmp_path / "out", "another network"))
    assert (third.done, third.kept) == (4, 0)
    assert reporter.shown[-1][0] == 5


def test_where_all_is_there_no_worker_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_in(tmp_path, 2)
    monkeypatch.setattr(apply_pictures, "run_job", worker())
    apply_to_pictures(Work({}, {}, Silent()), pairs, Manifest(tmp_path / "out", "k"))
    monkeypatch.setattr(apply_pictures, "run_job", None)
    assert apply_to_pictures(Work({}, {}, Silent()), pairs, Manifest(tmp_path / "out", "k")).kept == 2

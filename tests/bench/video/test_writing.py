"""A file that is read back as it was meant: pictures, times, tags and untouched sound, in every container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.video.reading import Found, read_batches
from bench.video.writing import VideoWriter

av = pytest.importorskip("av")


def copy(video: dict[str, Any]) -> list[np.ndarray]:
    """Every frame written as it was read; returns the frames."""
    target, found = Path(video["target"]), Found()
    batches = list(read_batches(Path(video["source"]), video["facts"], video["audio"], found))
    writer = VideoWriter(target, video, batches[0].picture)  # type: ignore[arg-type]
    for batch in batches:
        writer.write(batch)
    writer.close()
    return [batch.picture for batch in batches if batch.picture is not None]


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        (".mp4", None),
        (".mkv", None),
        (".mov", None),
        (".avi", None),
        (".webm", None),
        (".mp4", "hevc"),
        (".mkv", "av1"),
    ],
)
def test_frames_times_and_sound_come_through(
    ending: str, codec: str | None, *, clip: Callable[..., Path], tmp_path: Path, packets: Any, video_job: Any
) -> None:
    sound = "libopus" if ending == ".webm" else "aac"
    source = clip(tmp_path / ("a.mkv" if ending == ".webm" else "a.mp4"), frames=8, audio=sound, matrix=1)
    video = video_job(source, tmp_path / f"b{ending}", codec=codec)
    pictures = copy(video)
    again = list(read_batches(tmp_path / f"b{ending}", video["facts"], False, Found()))[:-1]
    assert len(again) == len(pictures) == 8
    for batch, picture in zip(again, pictures, strict=True):
        assert batch.picture is not None
        assert np.abs(batch.picture.astype(int) - picture).mean() < 4
    found = {path: [packets(path, kind) for kind in ("video", "audio")] for path in (source, tmp_path / f"b{ending}")}
    (frames, sounds), (new_frames, new_sounds) = found.values()
    assert [data for _, data in new_sounds] == [data for _, data in sounds]
    # Sound begins 21 ms before 0, which only MP4 and MOV can say; elsewhere all streams are moved by that together.
    moved = new_sounds[0][0] - sounds[0][0]
    assert moved == pytest.approx(0 if ending in {".mp4", ".mov"} else 0.021, abs=0.0215)
    near = 0.0011 if ending != ".avi" else 0.03  # a constant rate: the next place
    for new, old in ((new_sounds, sounds), (new_frames, frames)):
        assert sorted(t - moved for t, _ in new) == pytest.approx(sorted(t for t, _ in old), abs=near)


@pytest.mark.parametrize(("matrix", "full"), [(1, False), (6, False), (6, True), (9, False), (2, False)])
def test_matrix_and_range_are_written_as_they_were_read(
    matrix: int, full: bool, clip: Callable[..., Path], tmp_path: Path, video_job: Any
) -> None:
    copy(video_job(clip(tmp_path / "a.mp4", frames=2, matrix=matrix, full=full, audio=None), tmp_path / "b.mp4"))
    with av.open(str(tmp_path / "b.mp4")) as container:
        frame = next(container.decode(video=0))
    stated = 6 if matrix == 2 else matrix  # what players assume of a small video is stated, for it may grow
    assert (int(frame.colorspace), int(frame.color_range)) == (stated, 2 if full else 1)


def test_ffv1_loses_nothing(clip: Callable[..., Path], tmp_path: Path, video_job: Any) -> None:
    pictures = copy(video_job(clip(tmp_path / "a.mp4", frames=3, audio=None), tmp_path / "b.mkv", codec="ffv1"))
    with av.open(str(tmp_path / "b.mkv")) as container:
        for picture, frame in zip(pictures, container.decode(video=0), strict=True):
            np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), picture)


def test_irregular_times_are_kept(clip: Callable[..., Path], tmp_path: Path, packets: Any, video_job: Any) -> None:
    times = (0, 40, 60, 200, 210, 500)
    copy(video_job(clip(tmp_path / "a.mkv", times=times, audio=None), tmp_path / "b.mp4"))
    assert sorted(round(t * 1000) for t, _ in packets(tmp_path / "b.mp4", "video")) == list(times)

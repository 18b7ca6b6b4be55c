"""What a video says of itself, every frame at its time, and how much of a damaged one there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.video.reading import Batch, Found, ends_early, read_batches, video_facts
from reference_models.errors import UserError

av = pytest.importorskip("av")


def read(path: Path, with_audio: bool = True) -> tuple[list[Batch], Found, dict[str, Any]]:
    facts, found = video_facts(path), Found()
    return list(read_batches(path, facts, with_audio, found)), found, facts


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov", ".avi"])
def test_all_frames_come_at_their_times_with_all_audio(
    ending: str, clip: Callable[..., Path], tmp_path: Path, packets: Any
) -> None:
    batches, found, facts = read(clip(tmp_path / f"a{ending}", frames=12))
    assert (facts["width"], facts["height"], facts["turns"], facts["bits"]) == (64, 48, 0, 8)
    assert facts["audio"] == ["aac"]
    pictures = [batch for batch in batches if batch.picture is not None]
    assert [batch.picture is None for batch in batches] == [False] * 12 + [True]
    assert all(b.picture is not None and b.picture.shape == (48, 64, 3) for b in pictures)
    if ending != ".avi":  # which has no times
        unit = eval(facts["time_base"])
        assert [b.pts * unit for b in pictures] == pytest.approx([i * 0.04 for i in range(12)], abs=0.001)
    assert [bytes(p) for b in batches for p in b.audio] == [
        data for _, data in packets(tmp_path / f"a{ending}", "audio")
    ]
    assert (found.frames, found.broken, found.damaged, ends_early(found, facts)) == (12, 0, 0, False)
    assert not any(batch.audio for batch in read(tmp_path / f"a{ending}", with_audio=False)[0])


def test_frames_are_those_that_were_encoded(clip: Callable[..., Path], tmp_path: Path) -> None:
    for matrix, full in ((1, False), (6, True)):
        batches, _, facts = read(clip(tmp_path / f"{matrix}.mp4", frames=3, matrix=matrix, full=full))
        assert (facts["colours"]["matrix"], facts["colours"]["full"]) == (matrix, full)
        red = np.linspace(20, 230, 64).round()[None, :].repeat(48, 0)
        assert batches[0].picture is not None
        assert np.abs(batches[0].picture[..., 0] - red).mean() < 4


def test_irregular_times_are_kept(clip: Callable[..., Path], tmp_path: Path) -> None:
    times = (0, 40, 60, 200, 210, 500)
    batches, _, facts = read(clip(tmp_path / "a.mkv", times=times))
    assert [round(b.pts * eval(facts["time_base"]) * 1000) for b in batches[:-1]] == list(times)


@pytest.mark.parametrize("turned", [90, 180, -90])
def test_rotated_frames_come_out_upright(turned: int, clip: Callable[..., Path], tmp_path: Path) -> None:
    batches, _, facts = read(clip(tmp_path / "a.mp4", frames=1, turned=turned))
    plain = read(clip(tmp_path / "b.mp4", frames=1))[0][0].picture
    assert plain is not None
    with av.open(str(tmp_path / "a.mp4")) as container:
        told = next(container.decode(video=0)).rotation  # counter-clockwise
    assert told in {turned, -turned, 180, -180}
    np.testing.assert_array_equal(batches[0].picture, np.rot90(plain, round(told / 90)))
    assert (facts["width"], facts["height"]) == ((48, 64) if abs(turned) == 90 else (64, 48))


def test_a_broken_frame_is_counted_and_the_others_are_there(
    clip: Callable[..., Path], tmp_path: Path, spoil: Any
) -> None:
    path = clip(tmp_path / "a.avi", frames=10, codec="mjpeg", pixel_format="yuvj420p", audio=None)
    spoil(path, 4)
    batches, found, facts = read(path)
    assert 9 <= found.frames <= 10
    assert found.broken + found.damaged >= 1
    assert len(batches) == found.frames + 1
    assert not ends_early(found, facts)


@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
def test_a_file_cut_short_gives_what_is_there_and_is_told(
    ending: str, clip: Callable[..., Path], tmp_path: Path
) -> None:
    options = (("movflags", "faststart"),) if ending == ".mp4" else ()
    path = clip(tmp_path / f"a{ending}", frames=75, options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    _, found, facts = read(path)
    assert 5 < found.frames < 70
    assert ends_early(found, facts)


def test_what_cannot_be_opened_is_refused_with_the_reason(clip: Callable[..., Path], tmp_path: Path) -> None:
    cut = clip(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:3000])
    text = tmp_path / "text.mkv"
    text.write_text("no video\n" * 100)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n")
    sound = tmp_path / "sound.mkv"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for path, word in (
        (cut, "cut short"),
        (text, "cannot be opened"),
        (playlist, "cannot be opened"),
        (sound, "no video"),
    ):
        with pytest.raises(UserError, match=word):
            video_facts(path)

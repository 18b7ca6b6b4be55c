"""Words about videos are judged before anything is made."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reference_models
from bench.video.choices import CODECS, MUXERS, checked_video, chosen_codec, is_video, refuse_video_options
from reference_models.errors import UserError

av = pytest.importorskip("av")


def words(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"codec": None, "crf": None, "audio": "copy", "again": False, **more})


def test_every_codec_is_in_this_pyav_and_every_container_has_a_default() -> None:
    for codec in CODECS.values():
        av.codec.Codec(codec.encoder, "w")
    assert {ending: chosen_codec(None, Path("a" + ending)) for ending in MUXERS} == {
        ".mp4": "h264", ".mkv": "h264", ".mov": "h264", ".webm": "vp9", ".avi": "h264",
    }  # fmt: skip


def test_videos_are_known_by_their_ending(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    assert is_video(Path("A.MP4"))
    assert not is_video(Path("a.png"))
    assert not is_video(tmp_path / "folder.mp4")


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("b.webm", {"codec": "h264"}, "vp9"),
    ("b.mp4", {"codec": "h265"}, "Did you mean"),
    ("b.mp4", {"codec": "ffv1"}, ".mkv"),
    ("b.mp4", {"crf": 99}, "0 (best) to 51"),
    ("b.mkv", {"codec": "ffv1", "crf": 3}, "loses nothing"),
    ("b.mp4", {"audio": "off!"}, "copy, off"),
    ("b.mp4", {"again": True}, "--again"),
    ("b.webm", {}, "do not hold audio of aac"),
    ("b.png", {}, "a file ending in"),
    ("absent/b.mp4", {}, "folder does not exist"),
    ("a.mp4", {}, "is the input"),
]


@pytest.mark.parametrize(("target", "given", "told"), WRONG, ids=[f"{t} {g}" for t, g, _ in WRONG])
def test_wrong_words_are_refused(
    target: str, given: dict[str, Any], told: str, clip: Callable[..., Path], tmp_path: Path
) -> None:
    source = clip(tmp_path / "a.mp4", frames=2)
    with pytest.raises(UserError) as error:
        checked_video(source, tmp_path / target, words(**given), reference_models.get("can24"))
    assert told in str(error.value)


def test_without_pyav_the_command_that_installs_it_is_told(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "a.mp4", frames=2)
    monkeypatch.setattr("engines.installed.package_missing", lambda *_: "Python package `av` is not installed")
    with pytest.raises(UserError, match=r"pip install 'fullres\[video\]'"):
        checked_video(source, tmp_path / "b.mp4", words(), reference_models.get("can24"))


def test_a_network_that_takes_no_picture_is_refused(clip: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing of a picture"):
        checked_video(clip(tmp_path / "a.mp4"), tmp_path / "b.mp4", words(), reference_models.get("pixel_vae"))


def test_options_of_videos_are_refused_for_pictures() -> None:
    refuse_video_options(words())
    for given in ({"codec": "h264"}, {"crf": 3}, {"audio": "off"}):
        with pytest.raises(UserError, match="the input is no video"):
            refuse_video_options(words(**given))

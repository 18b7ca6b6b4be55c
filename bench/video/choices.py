"""The words of `bench apply` on a video, checked before the first slow step. PyAV is imported inside functions only."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reference_models.errors import UserError, unknown
from reference_models.spec import ModelSpec

MUXERS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov", ".webm": "webm", ".avi": "avi"}
"""Ending → FFmpeg's name of the container."""
INSTALL = "pip install 'fullres[video]' (or: pip install av)"


@dataclass(frozen=True)
class Codec:
    """One way to compress frames."""

    encoder: str
    crf: int | None
    """Default of `--crf`; None: it loses nothing and has none."""
    most: int
    """Largest value of `--crf`."""
    endings: tuple[str, ...]
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)


CODECS = {
    "h264": Codec("libx264", 18, 51, (".mp4", ".mov", ".mkv", ".avi")),
    "hevc": Codec("libx265", 20, 51, (".mp4", ".mov", ".mkv"), options={"x265-params": "log-level=error"}),
    "av1": Codec("libsvtav1", 24, 63, (".mp4", ".mkv", ".webm"), options={"preset": "8"}),
    "vp9": Codec("libvpx-vp9", 24, 63, (".webm", ".mkv", ".mp4"), options={"b": "0", "row-mt": "1", "cpu-used": "4"}),
    # RGB inside, so that what the network made is what is read back.
    "ffv1": Codec("ffv1", None, 0, (".mkv", ".avi"), "bgr0"),
}


def is_video(path: Path) -> bool:
    """By its ending; a folder is none, whatever it is called."""
    return path.suffix.lower() in MUXERS and not path.is_dir()


def refuse_video_options(arguments: argparse.Namespace) -> None:
    """
    Raises:
        UserError: an option that only a video has.
    """
    for option, default in (("codec", None), ("crf", None), ("audio", "copy")):
        if getattr(arguments, option) != default:
            raise UserError(
                f"`--{option} {getattr(arguments, option)}`: the input is no video",
                f"--input FILE ending in {', '.join(MUXERS)}",
                "Leave it out",
            )


def checked_video(source: Path, target: Path, arguments: argparse.Namespace, spec: ModelSpec) -> dict[str, Any]:
    """The part `video` of the worker's job: source, target, codec, crf, audio (bool) and facts of the source.

    Raises:
        UserError: wrong use, PyAV is not installed, or the source cannot be decoded.
    """
    from bench.places import check_output_file
    from engines.installed import package_missing

    _check_endings(source, target)
    codec = chosen_codec(arguments.codec, target)
    crf = _checked_crf(arguments.crf, codec)
    if arguments.audio not in {"copy", "off"}:
        raise unknown("--audio", arguments.audio, "way", ("copy", "off"), "Give one of these")
    if arguments.again:
        raise UserError("`--again` with a video: it is always made anew", "a folder of pictures", "Leave it out")
    check_output_file(target, "--output")
    if os.path.realpath(source) == os.path.realpath(target):
        raise UserError(f"`--output {target}`: is the input", "another file", "Choose another name")
    if reason := package_missing("av", ("av",)):
        raise UserError(f"`--input {source}`: {reason}, which reads videos", "PyAV", INSTALL)
    from bench.video.reading import video_facts

    facts = video_facts(source)
    _check_network(facts, spec)
    if arguments.audio == "copy":
        _check_audio(facts["audio"], target)
    return {
        "source": str(source), "target": str(target), "codec": codec, "crf": crf,
        "audio": arguments.audio == "copy", "facts": facts,
    }  # fmt: skip


def chosen_codec(word: str | None, target: Path) -> str:
    """
    Raises:
        UserError: unknown, or not one that files of this ending hold.
    """
    ending = target.suffix.lower()
    known = [name for name, codec in CODECS.items() if ending in codec.endings]
    if word is None:
        return known[0] if ending != ".webm" else "vp9"
    if word not in CODECS:
        raise unknown("--codec", word, "codec", CODECS, "Give one of these")
    if word not in known:
        raise UserError(
            f"`--codec {word}`: {ending} files do not hold it",
            f"{', '.join(known)}, or an output ending in {', '.join(CODECS[word].endings)}",
            "Change one of the two",
        )
    return word


def _checked_crf(crf: int | None, codec: str) -> int | None:
    chosen = CODECS[codec]
    if crf is None:
        return chosen.crf
    if chosen.crf is None:
        raise UserError(f"`--crf {crf}`: {codec} loses nothing and has no such number", "no --crf", "Leave it out")
    if not 0 <= crf <= chosen.most:
        raise UserError(
            f"`--crf {crf}`: not one of {codec}", f"0 (best) to {chosen.most}", f"Its default is {chosen.crf}"
        )
    return crf


def _check_endings(source: Path, target: Path) -> None:
    known = ", ".join(MUXERS)
    if not is_video(source):
        raise UserError(f"`--output {target}`: a video of {source}", f"--input ending in {known}", "Name a picture")
    if not source.is_file():
        raise UserError(f"`--input {source}`: there is no such file", "a video", "Check the path")
    if not is_video(target):
        raise UserError(f"`--output {target}`: the input is a video", f"a file ending in {known}", "Change the ending")


def _check_network(facts: dict[str, Any], spec: ModelSpec) -> None:
    if spec.input == "noise":
        raise UserError(
            f"`--input`: model `{spec.name}` takes nothing of a picture but its size", "a picture", "Give a picture"
        )
    if spec.onnx:
        from export.own_onnx import check_size

        check_size(spec, *spec.tensor_size(facts["width"], facts["height"]))


def _check_audio(streams: list[str], target: Path) -> None:
    import io

    import av

    with av.open(io.BytesIO(), "w", format=MUXERS[target.suffix.lower()]) as container:
        supported = container.supported_codecs
    for name in streams:
        if name not in supported:
            raise UserError(
                f"`--output {target}`: {target.suffix} files do not hold audio of {name}",
                "an output that holds it, such as .mkv",
                "Change the ending, or leave the sound out with --audio off",
            )

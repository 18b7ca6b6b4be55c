"""A video file → pictures with their times, and its audio as it is. Constant memory: nothing is read ahead.

Only ordinary files in the containers that `bench apply` writes are opened, and nothing that they refer to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from bench.video.colours import Colours, Converter, colours_of
from reference_models.errors import UserError
from reference_models.pictures import Picture

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""FFmpeg's names; a playlist that calls itself .mp4 is not among them."""
SLACK_S = 0.25
"""By so much the streams of a whole file may end before the time that its header states, besides two frames."""


@dataclass(frozen=True)
class Batch:
    """One picture with the audio packets before it in the file; without a picture, what is left at the end."""

    picture: Picture | None
    pts: int
    """Time of the picture, in units of the video's time base."""
    audio: list[Any]


@dataclass
class Found:
    """What reading came upon; complete when the last batch was read."""

    frames: int = 0
    broken: int = 0
    """Packets that could not be decoded, and frames of another size: the picture before them is shown longer."""
    damaged: int = 0
    """Frames that the decoder patched up, and said so."""
    end_s: float = 0.0
    """End of the last packet, of whatever stream."""
    first_error: str = ""


def open_video(path: Path) -> Any:
    """
    Raises:
        UserError: it cannot be opened.
    """
    import av

    try:
        return av.open(str(path.absolute()), options={"protocol_whitelist": "file", "format_whitelist": _CONTAINERS})
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"`--input {path}`: cannot be opened ({reason}); a video cut short may lack the index at its end",
            "an MP4, MOV, Matroska, WebM or AVI file that is whole",
            "Copy it again, or repair it first: ffmpeg -i FILE -c copy repaired.mkv",
        ) from None


def video_facts(path: Path) -> dict[str, Any]:
    """What a video says of itself, as JSON: `width`, `height` (upright), `turns` (quarters to the left that make it
    so), `rate`, `time_base`, `aspect` (fractions), `frames` and `duration_s` (None: not stated), `colours`,
    `pixel_format`, `interlaced`, `audio` (codecs) and `left_out` (kinds of streams that are not copied).

    Raises:
        UserError: it cannot be opened, has no video, or no frame of it can be decoded.
    """
    with open_video(path) as container:
        if not container.streams.video:
            raise UserError(f"`--input {path}`: has no video in it", "a video", "Give another file")
        stream = container.streams.video[0]
        frame = _first_frame(container, stream)
        if frame is None:
            raise UserError(f"`--input {path}`: none of its frames can be decoded", "a video", "Give another file")
        turns = round(frame.rotation / 90) % 4
        sides = (frame.width, frame.height) if turns % 2 == 0 else (frame.height, frame.width)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        duration_s = float(container.duration / 1e6) if container.duration else None
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        left_out = [s.type for s in container.streams if s.type not in {"audio", "video"}]
        left_out += ["second video"] * (len(container.streams.video) - 1)
        return {
            "width": sides[0], "height": sides[1], "turns": turns,
            "rate": str(rate), "time_base": str(stream.time_base), "aspect": str(1 / aspect if turns % 2 else aspect),
            "frames": stream.frames or (round(duration_s * rate) if duration_s else None), "duration_s": duration_s,
            "colours": asdict(colours_of(frame)), "pixel_format": frame.format.name,
            "bits": max(c.bits for c in frame.format.components), "interlaced": frame.interlaced_frame,
            "audio": [s.codec_context.name for s in container.streams.audio], "left_out": left_out,
        }  # fmt: skip


def _first_frame(container: Any, stream: Any) -> Any:
    import av

    packets = container.demux(stream)
    while True:
        try:
            for frame in next(packets).decode():
                return frame
        except StopIteration:
            return None
        except av.FFmpegError:
            continue


@dataclass
class _Clock:
    """Times of frames, strictly increasing: those that say nothing follow at the stated rate."""

    step: int
    last: int | None = field(default=None)

    def at(self, pts: int | None) -> int:
        least = 0 if self.last is None else self.last + 1
        if pts is None:
            pts = 0 if self.last is None else self.last + self.step
        self.last = pts if self.last is None else max(pts, least)
        return self.last


def read_batches(path: Path, facts: dict[str, Any], with_audio: bool, found: Found) -> Iterator[Batch]:
    """All pictures of a video in the order of their times, and last a batch without one."""
    colours = Colours(**facts["colours"])
    converter, clock = Converter(colours), _Clock(_step(facts))
    audio: list[Any] = []
    with open_video(path) as container:
        video = container.streams.video[0]
        for packet in _packets(container, found):
            if packet.stream.type == "audio" and with_audio and packet.dts is not None:
                audio.append(packet)
            if packet.stream is not video:
                continue
            for frame in _decoded(packet, found):
                picture = _picture(frame, converter, facts, found)
                if picture is None:
                    continue
                found.frames += 1
                yield Batch(picture, clock.at(frame.pts), audio)
                audio = []
    yield Batch(None, 0, audio)


def _step(facts: dict[str, Any]) -> int:
    return max(1, round(1 / (Fraction(facts["rate"]) * Fraction(facts["time_base"]))))


def _packets(container: Any, found: Found) -> Iterator[Any]:
    """Until the end of the file, or what cannot be read on."""
    import av

    packets = container.demux()
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            _note(found, error)
            return
        if packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            found.end_s = max(found.end_s, end)
        yield packet


def _decoded(packet: Any, found: Found) -> list[Any]:
    import av

    try:
        return list(packet.decode())
    except av.FFmpegError as error:
        found.broken += 1
        _note(found, error)
        return []


def _picture(frame: Any, converter: Converter, facts: dict[str, Any], found: Found) -> Picture | None:
    picture = converter.picture(frame, facts["turns"])
    if picture.shape[:2] != (facts["height"], facts["width"]):
        found.broken += 1
        found.first_error = found.first_error or f"a frame of {picture.shape[1]}x{picture.shape[0]}"
        return None
    found.damaged += bool(frame.is_corrupt)
    return picture


def _note(found: Found, error: Exception) -> None:
    found.first_error = found.first_error or getattr(error, "strerror", None) or str(error)


def ends_early(found: Found, facts: dict[str, Any]) -> bool:
    """Whether a file that was read to its end holds less than its header states."""
    if facts["duration_s"] is None:
        return False
    return found.end_s < facts["duration_s"] - SLACK_S - float(2 / Fraction(facts["rate"]))

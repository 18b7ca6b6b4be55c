"""Pictures with their times, and audio packets as they were → a video file. For one thread."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from bench.video.choices import CODECS, MUXERS
from bench.video.colours import RGB, Colours, Converter, even_sides
from bench.video.reading import Batch, open_video
from reference_models.pictures import Picture


class VideoWriter:
    """A file that is written until `close`, which makes it playable."""

    def __init__(self, path: Path, video: dict[str, Any], picture: Picture) -> None:
        """
        Args:
            path: where it is written, whatever the ending.
            video: the job's part of that name, see bench/video/choices.py.
            picture: of the size that all have.
        """
        import av

        facts, codec = video["facts"], CODECS[video["codec"]]
        ending = Path(video["target"]).suffix.lower()
        self._format = codec.pixel_format
        self._converter = Converter(Colours(**facts["colours"]))
        self._unit = Fraction(facts["time_base"])
        self._constant = 1 / Fraction(facts["rate"]) if ending == ".avi" else None
        """AVI has no times, only a rate: its frames are numbered."""
        self._last = -1
        # Sound may begin 21 ms before 0. Moved by that, no frame of an AVI file would lie on its place any more.
        options = {"avoid_negative_ts": "disabled"} if self._constant else {}
        self._container = av.open(str(path), "w", format=MUXERS[ending], options=options)
        self._stream = self._new_stream(codec, video, picture)
        self._audio = self._copied_audio(video) if video["audio"] else {}

    def _new_stream(self, codec: Any, video: dict[str, Any], picture: Picture) -> Any:
        facts = video["facts"]
        options = dict(codec.options)
        if video["crf"] is not None:
            options["crf"] = str(video["crf"])
        stream = self._container.add_stream(codec.encoder, rate=Fraction(facts["rate"]), options=options)
        shown = even_sides(picture) if "420" in self._format else picture
        stream.height, stream.width = shown.shape[:2]
        stream.pix_fmt = self._format
        context, colours = stream.codec_context, self._converter.colours
        context.time_base = stream.time_base = self._constant or self._unit
        if self._constant:
            context.max_b_frames = 0  # frames stored out of order would be shown late, by as many as are stored ahead
        context.sample_aspect_ratio = Fraction(facts["aspect"])
        is_rgb = not self._format.startswith("yuv")
        context.colorspace = RGB if is_rgb else colours.matrix
        context.color_range = 2 if is_rgb or colours.full else 1
        context.color_primaries, context.color_trc = colours.primaries, colours.transfer
        return stream

    def _copied_audio(self, video: dict[str, Any]) -> dict[int, Any]:
        """Index of every audio stream in the source → its stream here."""
        with open_video(Path(video["source"])) as source:
            found = {}
            for stream in source.streams.audio:
                found[stream.index] = self._container.add_stream_from_template(stream)
                found[stream.index].metadata.update(stream.metadata)
            self._container.metadata.update(source.metadata)
        return found

    def write(self, batch: Batch) -> None:
        """
        Raises:
            av.FFmpegError, OSError: the file cannot be written on.
        """
        for packet in batch.audio:
            packet.stream = self._audio[packet.stream_index]
            self._container.mux(packet)
        if batch.picture is None:
            return
        frame = self._converter.frame(batch.picture, self._format)
        frame.time_base = self._constant or self._unit
        frame.pts = self._time(batch.pts)
        self._container.mux(self._stream.encode(frame))

    def _time(self, pts: int) -> int:
        if self._constant is None:
            return pts
        self._last = max(self._last + 1, round(pts * self._unit / self._constant))
        return self._last

    def close(self) -> None:
        """
        Raises:
            av.FFmpegError, OSError: the end cannot be written.
        """
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

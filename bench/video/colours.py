"""Video frames ↔ pictures: colour matrix and range as the video states them, or as players assume them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reference_models.errors import UserError
from reference_models.pictures import Picture

RGB, BT709, UNSPECIFIED, BT601_625, BT601_525 = 0, 1, 2, 5, 6
"""Matrix coefficients. Source: ITU-T H.273, table 4."""
_SCALER = {BT709: 1, 4: 4, BT601_625: 5, BT601_525: 5, 7: 7, 9: 9}
"""The same → the number that libswscale has for it; those that are missing it cannot convert."""
_FULL = 2
"""FFmpeg's number for values 0 to 255; 1: 16 to 235."""
HD_ROWS, HD_COLUMNS = 577, 1280
"""From here on players assume BT.709 where nothing is said. Source: mp_get_sane_params of mpv, and VLC."""


@dataclass(frozen=True)
class Colours:
    """How the numbers of a video are to be read, and how those of its output are written."""

    matrix: int
    """H.273 number; never unspecified."""
    full: bool
    """Whether luma reaches from 0 to 255; else 16 to 235."""
    primaries: int
    transfer: int
    """H.273 numbers, handed on as they are: networks see the stored numbers, as with pictures."""
    assumed: bool
    """Whether the video does not state its matrix."""

    @property
    def words(self) -> str:
        name = {BT709: "BT.709", BT601_525: "BT.601", BT601_625: "BT.601", 9: "BT.2020"}.get(self.matrix, "its matrix")
        return f"{name}{' (assumed: the video does not say)' if self.assumed else ''}, {self.range_words} range"

    @property
    def range_words(self) -> str:
        return "full" if self.full else "limited"


def colours_of(frame: Any) -> Colours:
    """
    Raises:
        UserError: a matrix that cannot be converted.
    """
    kind, stated = frame.format, int(frame.colorspace)
    is_rgb = kind.is_rgb or stated == RGB
    assumed = is_rgb or stated in {UNSPECIFIED, 3}
    if assumed:
        is_hd = frame.height >= HD_ROWS or frame.width >= HD_COLUMNS
        stated = BT709 if is_hd else BT601_525
    if stated not in _SCALER:
        raise UserError(
            f"`--input`: its colour matrix is number {stated} of ITU-T H.273, which is not converted",
            "BT.601, BT.709, SMPTE 240M or BT.2020 (non-constant luminance)",
            "Convert the video first",
        )
    full = int(frame.color_range) == _FULL or kind.name.startswith("yuvj")
    tags = int(frame.color_primaries), int(frame.color_trc)
    return Colours(stated, full and not is_rgb, *tags, assumed and not is_rgb)


class Converter:
    """Frames ↔ pictures of one video. For one thread."""

    def __init__(self, colours: Colours) -> None:
        from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

        self.colours = colours
        self._reformatter = VideoReformatter()
        self._range = ColorRange.JPEG if colours.full else ColorRange.MPEG
        self._rgb = ColorRange.JPEG
        # Without the last two, chroma is doubled by repetition and colours are off by up to 2 of 255.
        self._how = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

    def picture(self, frame: Any, turns: int) -> Picture:
        """uint8 (H, W, 3) RGB of a frame, turned by so many quarters to the left."""
        matrix = _SCALER[self.colours.matrix]
        planar = self._reformatter.reformat(
            frame, format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, interpolation=self._how,
            src_color_range=self._rgb if frame.format.is_rgb else self._range, dst_color_range=self._rgb, threads=1,
        )  # fmt: skip
        return np.ascontiguousarray(np.rot90(planar.to_ndarray(), turns))

    def frame(self, picture: Picture, pixel_format: str) -> Any:
        """A frame of this pixel format; where chroma has half as many columns and rows, odd sides grow by one pixel
        that repeats the border."""
        import av

        if "420" in pixel_format:
            picture = even_sides(picture)
        given = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        matrix, is_rgb = _SCALER[self.colours.matrix], not pixel_format.startswith("yuv")
        return self._reformatter.reformat(
            given, format=pixel_format, src_colorspace=matrix, dst_colorspace=matrix, interpolation=self._how,
            src_color_range=self._rgb, dst_color_range=self._rgb if is_rgb else self._range, threads=1,
        )  # fmt: skip


def even_sides(picture: Picture) -> Picture:
    """The picture with its last row or column repeated where its sides are odd; itself where they are even."""
    odd = [(0, side % 2) for side in picture.shape[:2]]
    return picture if odd == [(0, 0), (0, 0)] else np.pad(picture, (*odd, (0, 0)), mode="edge")

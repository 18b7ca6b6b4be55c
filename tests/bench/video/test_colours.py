"""Colours are read and written with the matrix and range that the video states: checked against the formulas."""

from __future__ import annotations

import numpy as np
import pytest

from bench.video.colours import Colours, Converter, colours_of, even_sides
from reference_models.errors import UserError

av = pytest.importorskip("av")

LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Matrix → weights of red and blue. Source: ITU-T H.273, table 4."""
COLOURS = [(200, 40, 30), (20, 180, 220), (128, 128, 128), (250, 250, 5)]


def values(rgb: tuple[int, int, int], matrix: int, full: bool) -> list[int]:
    """Y, Cb, Cr of 8 bits. Source: ITU-T H.273, equations 38 to 49."""
    red, blue = LUMA[matrix]
    r, g, b = (value / 255 for value in rgb)
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    if full:
        return [round(255 * y), *(round(128 + 255 * c) for c in chroma)]
    return [round(16 + 219 * y), *(round(128 + 224 * c) for c in chroma)]


def frame_of(planes: list[int], matrix: int, full: bool, size: tuple[int, int] = (32, 16)) -> object:
    frame = av.VideoFrame(*size, "yuv420p")
    for plane, value in zip(frame.planes, planes, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", LUMA)
def test_a_colour_comes_in_and_goes_out_by_the_formulas(matrix: int, full: bool) -> None:
    for rgb in COLOURS:
        wanted = values(rgb, matrix, full)
        frame = frame_of(wanted, matrix, full)
        colours = colours_of(frame)
        assert (colours.matrix, colours.full, colours.assumed) == (matrix, full, False)
        converter = Converter(colours)
        picture = converter.picture(frame, 0)
        assert picture.shape == (16, 32, 3)
        assert np.abs(picture.astype(int) - rgb).max() <= 2, (rgb, picture[8, 8])
        back = converter.frame(np.full((16, 32, 3), rgb, np.uint8), "yuv420p")
        got = [bytes(plane)[0] for plane in back.planes]
        assert np.abs(np.subtract(got, wanted)).max() <= 1, (rgb, got, wanted)


def test_the_matrices_are_told_apart() -> None:
    """Else the test above would pass with any."""
    assert np.abs(np.subtract(values(COLOURS[0], 1, False), values(COLOURS[0], 6, False))).max() > 5


@pytest.mark.parametrize(("size", "matrix"), [((640, 480), 6), ((720, 576), 6), ((1280, 720), 1), ((640, 1024), 1)])
def test_where_nothing_is_said_the_size_decides_and_it_is_told(size: tuple[int, int], matrix: int) -> None:
    colours = colours_of(frame_of([99, 99, 99], 2, False, size))
    assert (colours.matrix, colours.assumed) == (matrix, True)
    assert "assumed" in colours.words


def test_a_matrix_that_is_not_converted_is_refused() -> None:
    with pytest.raises(UserError, match=r"number 14 of ITU-T H\.273"):
        colours_of(frame_of([99, 99, 99], 14, False))


def test_turns_go_to_the_left() -> None:
    colours = Colours(6, False, 2, 2, False)
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:8, 16:] = 255  # top right
    frame = Converter(colours).frame(picture, "yuv420p")
    turned = Converter(colours).picture(frame, 1)
    assert turned.shape == (32, 16, 3)
    assert turned[4, 4].min() > 200  # top left
    assert turned[28, 4].max() < 50


def test_odd_sides_grow_by_the_border() -> None:
    picture = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    grown = even_sides(picture)
    assert grown.shape == (6, 4, 3)
    np.testing.assert_array_equal(grown[:5, :3], picture)
    np.testing.assert_array_equal(grown[5, :3], picture[4])
    np.testing.assert_array_equal(grown[:5, 3], picture[:, 2])
    assert even_sides(grown) is grown
    frame = Converter(Colours(6, False, 2, 2, False)).frame(picture, "yuv420p")
    assert (frame.width, frame.height) == (4, 6)

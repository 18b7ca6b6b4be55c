"""Words for tiles, and what is said where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from engines.tile_choice import Room, Tiling, check_tile_word, tile_words, why_no_tiles, window_from_word
from export.network import Graph
from export.receptive_field import Reach, Side
from reference_models.errors import UserError

GRAPH = Graph("net.onnx", "0" * 64, "", "", {}, "onnx")
ROOM = Room(200.0, "free memory", 100.0, 24.0, 256.0, 0.1)
TILING = Tiling("auto", GRAPH, Reach(*[Side(20, 20, 1, Fraction(1))] * 2), ROOM)


def test_words() -> None:
    assert [check_tile_word(word) for word in ("auto", "off", "512", "1622X2160")] == [
        "auto",
        "off",
        "512",
        "1622x2160",
    ]
    assert window_from_word("512") == (512, 512)
    assert window_from_word("1622x2160") == (2160, 1622)
    assert tile_words(["off", "64", "off"], None) == ["off", "64"]


@pytest.mark.parametrize("word", ["0", "-1", "on", "12x", "1.5", "999999"])
def test_what_is_no_tile_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="WIDTHxHEIGHT"):
        check_tile_word(word)


def test_memory_for_whole_pictures_alone_is_refused() -> None:
    with pytest.raises(UserError, match="--tile auto"):
        tile_words(["off"], 512.0)


def test_image_statistics_say_what_to_choose_instead() -> None:
    assert why_no_tiles("off", "image") is None
    assert why_no_tiles("512", "frozen") is None
    assert "`--statistics frozen` or `thumbnail`" in str(why_no_tiles("512", "image"))


def test_it_comes_back_from_plain_data() -> None:
    assert Tiling.from_dict(TILING.to_dict()) == TILING
    bare = replace(TILING, room=None, branch=GRAPH)
    assert Tiling.from_dict(bare.to_dict()) == bare


def test_the_largest_that_fits_with_the_error_of_the_prediction() -> None:
    tiles = TILING.tiles((1000, 1000))
    assert ROOM.peak_mib(tiles.size, tiles.window) * 1.1 <= 200
    assert replace(TILING, room=replace(ROOM, limit_mib=1e9)).tiles((1000, 1000)).count == 1


def test_where_nothing_fits_the_need_and_the_limit_are_said() -> None:
    with pytest.raises(UserError, match=r"predicted at 1\d\d MiB.*of 101 MiB \(free memory\)"):
        replace(TILING, room=replace(ROOM, limit_mib=101.0)).tiles((1000, 1000))

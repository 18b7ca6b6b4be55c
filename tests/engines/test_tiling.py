"""Where tiles lie: they cover the picture once, keep nothing that is not right, and are all of one size."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest

from engines.tiling import cuts, fastest_tiles, least_window, tiles_of, windows
from export.receptive_field import Reach, Side
from reference_models.errors import UserError

CAN = Side(256, 256, 1, Fraction(1))
FOUR_K = (2160, 3840)


def sides() -> list[Side]:
    draw = random.Random(0)
    return [
        Side(draw.randint(0, 40), draw.randint(0, 40), draw.choice((1, 2, 8, 16)), Fraction(draw.choice((1, 2, 4))))
        for _ in range(200)
    ]


@pytest.mark.parametrize("side", sides())
def test_windows_cover_a_side_once_and_keep_only_what_is_right(side: Side) -> None:
    draw = random.Random(repr(side))
    length = least_window(side, 10**6) + draw.randint(1, 300)
    window = draw.randrange(least_window(side, length), length + 1)
    window = min(window + (length - window) % side.align, length)
    found = cuts(side, length, window)
    assert found[0].first == 0
    assert found[-1].last == side.scale * length
    assert found[-1].start + window == length
    for old, new in itertools.pairwise(found):
        assert old.last == new.first
        assert old.start < new.start
    for cut in found:
        assert cut.start % side.align == 0
        assert cut.first == 0 or cut.first >= cut.start * side.scale + side.before
        assert cut.last == side.scale * length or cut.last <= (cut.start + window) * side.scale - side.after
        assert cut.first < cut.last


def test_a_tile_that_is_all_halo_is_refused_with_the_least_that_is_not() -> None:
    reach = Reach(CAN, CAN)
    with pytest.raises(UserError, match="at least 513") as error:
        tiles_of(reach, FOUR_K, (512, 512))
    assert error.value.todo == "Give --tile auto, or 1024 and more"
    with pytest.raises(UserError, match="at least 513") as error:  # --tile N is both sides, whichever was too small
        tiles_of(reach, (480, 854), (320, 854))
    assert error.value.todo == "Give --tile auto, or 854 and more"
    assert tiles_of(reach, FOUR_K, (513, 513)).window == (513, 513)


def test_the_fastest_tiles_of_can32_at_4k_are_strips() -> None:
    """Three columns over the full height cost 1.27 of the picture; squares of that size would cost more."""
    best = fastest_tiles(Reach(CAN, CAN), FOUR_K, lambda window: window[0] * window[1] < 3_600_000)
    assert best is not None
    assert (len(best.rows), len(best.columns), best.window[0]) == (1, 3, 2160)
    assert best.work_share == pytest.approx(1.267, abs=0.001)
    others = [tiles_of(Reach(CAN, CAN), FOUR_K, w) for w in windows(Reach(CAN, CAN), FOUR_K)]
    fitting = [t for t in others if t.window[0] * t.window[1] < 3_600_000]
    assert best.work_share == min(t.work_share for t in fitting)


def test_nothing_fits_and_everything_fits() -> None:
    assert fastest_tiles(Reach(CAN, CAN), FOUR_K, lambda _: False) is None
    whole = fastest_tiles(Reach(CAN, CAN), FOUR_K, lambda _: True)
    assert whole is not None
    assert whole.count == 1
    assert whole.seams() == ([], [])

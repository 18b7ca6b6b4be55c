"""Rules over spans: single nodes; whole graphs are in test_receptive_field.py, against the runtime in tests/engines."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from export.span_rules import Fixed, Local, Node, Value, concat, elementwise, gather, reshape, sliced, split, transpose
from export.spans import NotTileableError, Span

H, W = Span(0, Fraction(1), 40, 2, 38), Span(1, Fraction(1), 60, 3, 55)
PICTURE = Local((1, 8, H, W))


def node(
    inputs: list[Value | None], out: tuple[int, ...] = (), constants: dict[int, Any] | None = None, **attributes: Any
) -> Node:
    return Node("Op", attributes, inputs, (constants or {}).get, out)


def test_operands_broadcast_and_what_is_right_in_both_stays() -> None:
    later = Local((1, 8, Span(0, Fraction(1), 40, 5, 40), W))
    assert elementwise(node([PICTURE, later])) == (1, 8, Span(0, Fraction(1), 40, 5, 38), W)
    assert elementwise(node([Fixed((8, 1, 1)), PICTURE])) == PICTURE.dims


def test_a_constant_as_large_as_the_picture_and_one_of_its_size_are_refused() -> None:
    with pytest.raises(NotTileableError, match="40 fixed positions"):
        elementwise(node([PICTURE, Fixed((1, 1, 40, 60))]))
    with pytest.raises(NotTileableError, match="size of the picture"):
        elementwise(node([PICTURE, Fixed((), sized=True)]))


def test_axes_move_and_channels_are_cut_and_joined() -> None:
    assert transpose(node([PICTURE], perm=[0, 2, 3, 1])) == (1, H, W, 8)
    assert concat(node([PICTURE, PICTURE], axis=1)) == (1, 16, H, W)
    assert split(node([PICTURE], (1, 4, 40, 60), axis=1)) == (1, 4, H, W)
    assert gather(node([PICTURE, Fixed((3,))], axis=1)) == (1, 3, H, W)
    with pytest.raises(NotTileableError, match="along a side"):
        concat(node([PICTURE, PICTURE], axis=2))
    with pytest.raises(NotTileableError, match="picks positions"):
        gather(node([PICTURE, Fixed((3,))], axis=3))


def test_a_slice_keeps_a_side_or_is_refused() -> None:
    far = np.array([1 << 62])
    inputs: list[Value | None] = [PICTURE, Fixed((1,)), Fixed((1,)), Fixed((1,))]

    def cut(start: int, end: Any) -> Any:
        return sliced(node(inputs, (), {1: np.array([start]), 2: end, 3: np.array([2])}))

    assert cut(1, far) == (1, 8, Span(0, Fraction(1), 39, 1, 37), W)
    with pytest.raises(NotTileableError, match="from the end"):
        cut(-5, far)
    with pytest.raises(NotTileableError, match="fixed part"):
        cut(0, np.array([16]))


def test_reshapes_split_channels_merge_blocks_and_nothing_else() -> None:
    assert reshape(node([PICTURE], (1, 2, 4, 40, 60))) == (1, 2, 4, H, W)
    blocks = Local((1, 2, H, 2, W, 2))
    assert reshape(node([blocks], (1, 2, 80, 120))) == (
        1, 2, Span(0, Fraction(2), 80, 4, 76), Span(1, Fraction(2), 120, 6, 110),
    )  # fmt: skip
    assert reshape(node([PICTURE], (1, 8, 20, 2, 60)))[2:] == (Span(0, Fraction(1, 2), 20, 1, 19), 2, W)
    with pytest.raises(NotTileableError, match="mixes channels"):
        reshape(node([PICTURE], (1, 320, 60)))

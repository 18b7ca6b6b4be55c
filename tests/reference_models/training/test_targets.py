"""Targets of operators: computed once, told apart by content, bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference_models import operators
from reference_models.training.targets import Targets

PICTURES = [np.full((8, 9, 3), level, np.uint8) for level in (10, 20, 30)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An operator that inverts, and the levels that it was asked about."""
    asked: list[int] = []

    def invert(picture: np.ndarray, threads: int | None = None) -> np.ndarray:
        asked.append(int(picture[0, 0, 0]))
        return 255 - picture

    monkeypatch.setattr(operators, "get", lambda name: invert)
    return asked


def test_a_target_is_computed_once(tmp_path: Path, calls: list[int]) -> None:
    for targets in (Targets(tmp_path / "t"), Targets(tmp_path / "t")):
        for picture in PICTURES:
            np.testing.assert_array_equal(targets.target("invert", picture), 255 - picture)
    assert calls == [10, 20, 30]


def test_operators_do_not_share_targets(tmp_path: Path, calls: list[int]) -> None:
    Targets(tmp_path).target("invert", PICTURES[0])
    Targets(tmp_path).target("other", PICTURES[0])
    assert calls == [10, 10]


def test_a_damaged_target_is_computed_again(tmp_path: Path, calls: list[int]) -> None:
    Targets(tmp_path).target("invert", PICTURES[0])
    next(tmp_path.glob("*.png")).write_bytes(b"cut off")
    np.testing.assert_array_equal(Targets(tmp_path).target("invert", PICTURES[0]), 255 - PICTURES[0])
    assert calls == [10, 10]


def test_the_folder_is_bounded(tmp_path: Path, calls: list[int]) -> None:
    one = Targets(tmp_path)
    one.target("invert", PICTURES[0])
    size = next(tmp_path.glob("*.png")).stat().st_size
    bounded = Targets(tmp_path, max_bytes=2 * size + size // 2)
    for picture in PICTURES:
        bounded.target("invert", picture)
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_without_a_folder_nothing_is_kept(tmp_path: Path, calls: list[int]) -> None:
    for _ in range(2):
        Targets().target("invert", PICTURES[0])
    assert calls == [10, 10]

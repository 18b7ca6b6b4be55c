"""The seam metric: errors that were put there are found where they were put."""

from __future__ import annotations

import numpy as np
import pytest

from bench.seam import SEAM_PX, seam


def pictures(error: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    expected = np.random.default_rng(0).random((1, 3, 60, 80), np.float32)
    return expected + np.float32(error), expected


def test_an_error_at_seams_alone_shows_as_such() -> None:
    made, expected = pictures()
    made[:, :, 30 - SEAM_PX : 30 + SEAM_PX] = expected[:, :, 30 - SEAM_PX : 30 + SEAM_PX] + 1e-2
    found = seam(made, expected, [30], [])
    assert found is not None
    assert found["db"] == pytest.approx(20, abs=0.1)
    assert found["seam_db"] == pytest.approx(40, abs=0.1)


def test_an_even_error_gives_no_difference_and_none_at_all_gives_none() -> None:
    made, expected = pictures()
    even = seam(made, expected, [30], [20, 50])
    assert even is not None
    assert even["db"] == pytest.approx(0, abs=0.1)
    assert seam(expected, expected, [30], []) == {"seam_db": None, "elsewhere_db": None, "db": 0.0, "width_px": 4}
    assert seam(made, expected, [], []) is None


def test_an_error_on_one_of_both_has_no_ratio() -> None:
    made, expected = pictures(0.0)
    made[:, :, :, 40] += 0.5
    found = seam(made, expected, [], [40])
    assert found is not None
    assert found["db"] is None
    assert found["elsewhere_db"] is None

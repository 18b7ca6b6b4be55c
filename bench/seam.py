"""How much worse a tiled picture is along the borders of its tiles than elsewhere: whether one would see the tiles."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import numpy as np

SEAM_PX = 2
"""Pixels on either side of a border that count as the seam."""


def seam(made: np.ndarray, expected: np.ndarray, rows: Sequence[int], columns: Sequence[int]) -> dict[str, Any] | None:
    """Error along the borders against error elsewhere, both as PSNR of data range 1.

    Args:
        made, expected: (1, C, H, W) float32.
        rows, columns: at which another tile begins.

    Returns:
        seam_db, elsewhere_db (None: no error at all), db: by how much the seams are worse, 0 where neither has an
        error, None where only one has; width_px of the seams. None: no seams.
    """
    height, width = made.shape[2:]
    on = np.zeros((height, width), bool)
    for row in rows:
        on[max(row - SEAM_PX, 0) : row + SEAM_PX] = True
    for column in columns:
        on[:, max(column - SEAM_PX, 0) : column + SEAM_PX] = True
    if not on.any() or on.all():
        return None
    squares = np.zeros((height, width))
    for plane in range(made.shape[1]):
        difference = made[0, plane].astype(np.float64) - expected[0, plane]
        squares += difference * difference
    at_seams, elsewhere = _db(squares[on].mean() / made.shape[1]), _db(squares[~on].mean() / made.shape[1])
    worse = None if (at_seams is None) != (elsewhere is None) else 0.0
    if at_seams is not None and elsewhere is not None:
        worse = elsewhere - at_seams
    return {"seam_db": at_seams, "elsewhere_db": elsewhere, "db": worse, "width_px": 2 * SEAM_PX}


def _db(mean_square: float) -> float | None:
    return -10 * log10(mean_square) if mean_square else None

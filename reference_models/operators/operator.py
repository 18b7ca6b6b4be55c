"""Operator: an image operator that a network was trained to replace, as data and one call on a picture."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_models.errors import UserError
from reference_models.pictures import Picture, check_picture


@dataclass(frozen=True)
class Operator:
    """One operator: uint8 (H, W, 3) RGB in, the same out."""

    name: str
    """The file's name, and the word on the command line."""
    title: str
    source: str
    """Paper, section and URL that define it."""
    parameters: Mapping[str, int | float | str]
    """All that may be varied, with the values used."""
    compute: Callable[..., NDArray[Any]]
    """Called with the picture and `parameters` as keywords. Returns (H, W, 3): uint8, or floating point on the scale of
    0 (black) to 1 (white) that may leave it a little."""
    needs: str | None = None
    """Import name of a package that only this operator needs; None: it runs with what the project depends on."""
    extra: str = field(default="", repr=False)
    """The project's extra that brings it."""

    def __call__(self, picture: Picture, threads: int | None = None) -> Picture:
        """The operator's own output on a picture, uint8 (H, W, 3) RGB of the same size.

        Values are clipped to [0, 1] and become floor(255 y + 0.5), as MATLAB's imwrite writes them.

        Args:
            threads: for Fourier transforms, 1 or more; None: as many as this process has cores.

        Raises:
            ValueError: not a picture, or fewer than one thread.
            UserError: its package is not installed.
        """
        import scipy.fft

        check_picture(picture)
        self.check_installed()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with scipy.fft.set_workers(cores if threads is None else threads):
            made = self.compute(picture, **self.parameters)
        return made if made.dtype == np.uint8 else picture_from_unit(made)

    def check_installed(self) -> None:
        """
        Raises:
            UserError: the package that it needs is missing.
        """
        if self.needs and importlib.util.find_spec(self.needs) is None:
            raise UserError(
                f"operator `{self.name}`: Python package `{self.needs}` is not installed",
                "this package",
                f"pip install 'fullres[{self.extra}]'",
            )


def unit_from_picture(picture: Picture) -> NDArray[np.float32]:
    """The picture on the scale of 0 to 1, (H, W, 3) float32."""
    return np.divide(picture, 255, dtype=np.float32)


def picture_from_unit(values: NDArray[np.floating[Any]]) -> Picture:
    """Values (H, W, 3) on the scale of 0 to 1, clipped and rounded to uint8.

    Raises:
        ValueError: NaN, which would become some grey value unseen.
    """
    if np.isnan(values.max()):
        raise ValueError("the operator's output holds NaN; expected numbers")
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)

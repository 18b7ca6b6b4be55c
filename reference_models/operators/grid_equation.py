"""Smoothness between neighbouring pixels against fidelity to given values: a sparse linear equation over a grid.

Edge-aware operators end in one of these. Solved by conjugate gradients with a multigrid cycle as preconditioner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_SMALLEST = 64
"""Pixels of the coarsest grid, on which the equation is solved directly."""
_DAMPING = np.float32(0.7)
"""Of Jacobi's iteration, before and after each coarser grid."""
_ROUNDS = 200


@dataclass(frozen=True)
class Grid:
    """The matrix: x ↦ fidelity · x + Σ over neighbours of weight · (x - neighbour)."""

    fidelity: Plane
    """(H, W), at least 0, and above 0 somewhere."""
    down: Plane
    """(H - 1, W), at least 0: weights between each pixel and the one below."""
    right: Plane
    """(H, W - 1)."""

    @cached_property
    def diagonal(self) -> Plane:
        out = self.fidelity.copy()
        out[:-1] += self.down
        out[1:] += self.down
        out[:, :-1] += self.right
        out[:, 1:] += self.right
        return out

    def times(self, x: Plane) -> Plane:
        """The matrix times (C, H, W)."""
        out = self.fidelity * x
        flow = np.subtract(x[:, :-1], x[:, 1:])
        flow *= self.down
        out[:, :-1] += flow
        out[:, 1:] -= flow
        flow = np.subtract(x[:, :, :-1], x[:, :, 1:])
        flow *= self.right
        out[:, :, :-1] += flow
        out[:, :, 1:] -= flow
        return out

    @cached_property
    def coarser(self) -> Grid | None:
        """The same equation over blocks of 2x2; None where it is small enough to be solved directly.

        Parallel edges between two blocks add up; twice the distance halves their weight.
        """
        if self.fidelity.size <= _SMALLEST:
            return None
        half = np.float32(0.5)
        return Grid(
            _pair_sums(_pair_sums(self.fidelity, 0), 1),
            half * _pair_sums(self.down[1::2], 1),
            half * _pair_sums(self.right[:, 1::2], 0),
        )

    @cached_property
    def inverse(self) -> NDArray[np.float32]:
        """Of the whole matrix, (H · W, H · W)."""
        unit = np.eye(self.fidelity.size, dtype=np.float32).reshape(-1, *self.fidelity.shape)
        inverse: NDArray[np.float32] = np.linalg.inv(self.times(unit).reshape(len(unit), -1).astype(np.float64)).astype(
            np.float32
        )
        return inverse

    def cycle(self, wanted: Plane) -> Plane:
        """Nearly the solution for a right side (C, H, W): one V-cycle, a symmetric linear map of it."""
        if self.coarser is None:
            return (wanted.reshape(len(wanted), -1) @ self.inverse).reshape(wanted.shape)
        step = _DAMPING / self.diagonal
        x = step * wanted
        left = wanted - self.times(x)
        correction = self.coarser.cycle(_pair_sums(_pair_sums(left, 1), 2))
        height, width = wanted.shape[1:]
        x += correction.repeat(2, axis=1)[:, :height].repeat(2, axis=2)[:, :, :width]
        left = wanted - self.times(x)
        left *= step
        x += left
        return x


def solve(grid: Grid, values: NDArray[np.floating[Any]], tolerance: float) -> Plane:
    """The x that minimises Σ fidelity · (x - values)² + Σ over neighbours of weight · (x - neighbour)².

    Args:
        values: (C, H, W), or (H, W); also the start of the iteration.
        tolerance: it ends when the root of the mean squared error, weighed as above, is about this, in their unit.

    Raises:
        ArithmeticError: the tolerance is not reached, or values are not finite.

    Source: Kershaw, J. Comput. Phys. 26, 1978 (preconditioned conjugate gradients); Braess: Towards algebraic multigrid
        for elliptic problems of second order, Computing 55, 1995 (piecewise constant coarsening).
    """
    x = np.array(values, np.float32).reshape(-1, *grid.fidelity.shape)
    left = grid.fidelity * x - grid.times(x)
    direction = z = grid.cycle(left)
    size = _dots(left, z)
    for _ in range(_ROUNDS):
        if size.max() <= tolerance**2 * grid.fidelity.size:
            break
        image = grid.times(direction)
        along = size / np.maximum(_dots(direction, image), np.finfo(np.float64).tiny)
        x += _each(along) * direction
        left -= _each(along) * image
        z = grid.cycle(left)
        before, size = size, _dots(left, z)
        direction = z + _each(size / np.maximum(before, np.finfo(np.float64).tiny)) * direction
    if not size.max() <= tolerance**2 * grid.fidelity.size:  # NaN too
        error = float(np.sqrt(size.max() / grid.fidelity.size))
        raise ArithmeticError(
            f"the equation over the grid is not solved: after {_ROUNDS} rounds the error is {error:.2g}, "
            f"above {tolerance:.2g}"
        )
    return x.reshape(values.shape)


def _dots(a: Plane, b: Plane) -> NDArray[np.float64]:
    return np.array([float(np.vdot(p, q)) for p, q in zip(a, b, strict=True)])


def _each(numbers: NDArray[np.float64]) -> Plane:
    return numbers.astype(np.float32)[:, None, None]


def _pair_sums(values: Plane, axis: int) -> Plane:
    """Sums of two neighbours along an axis; the last one alone where their number is odd."""
    moved = values.swapaxes(0, axis)
    out = moved[0::2].copy()
    out[: len(moved) // 2] += moved[1::2]
    return out.swapaxes(0, axis)

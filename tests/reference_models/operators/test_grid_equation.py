"""The solver of equations over a grid agrees with a sparse direct one, on any shape and with any weights."""

from __future__ import annotations

import numpy as np
import pytest

from reference_models.operators import grid_equation
from reference_models.operators.grid_equation import Grid, solve


def random_grid(height: int, width: int, contrast: float) -> Grid:
    rng = np.random.default_rng(height + width)

    def weights(*shape: int) -> np.ndarray:
        return (contrast ** rng.uniform(-1, 1, shape)).astype(np.float32)

    fidelity = rng.uniform(0.1, 1, (height, width)).astype(np.float32)
    return Grid(fidelity, weights(height - 1, width), weights(height, width - 1))


def direct(grid: Grid, values: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import spsolve

    number = np.arange(values.size).reshape(values.shape)
    ends = [(number[:-1], number[1:], grid.down), (number[:, :-1], number[:, 1:], grid.right)]
    a, b, w = (np.concatenate([part[i].ravel() for part in ends]).astype(float) for i in range(3))
    edges = coo_matrix((w, (a.astype(int), b.astype(int))), (values.size, values.size))
    edges = edges + edges.T
    matrix = diags(grid.fidelity.ravel() + np.asarray(edges.sum(1)).ravel()) - edges
    return spsolve(matrix.tocsc(), (grid.fidelity * values).ravel().astype(float)).reshape(values.shape)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (3, 200), (33, 1), (37, 50), (64, 65)])
def test_it_solves_what_a_direct_solver_solves(height, width):
    grid = random_grid(height, width, contrast=100)
    values = np.random.default_rng(5).random((height, width))
    np.testing.assert_allclose(solve(grid, values, 1e-6), direct(grid, values), atol=1e-3)


def test_planes_are_solved_each_as_if_alone():
    grid = random_grid(20, 31, contrast=10)
    planes = np.random.default_rng(2).random((3, 20, 31))
    together = solve(grid, planes, 1e-6)
    for plane, made in zip(planes, together, strict=True):
        np.testing.assert_allclose(made, solve(grid, plane, 1e-6), atol=1e-4)


def test_no_weight_between_neighbours_leaves_the_values():
    ones = np.ones((9, 12), np.float32)
    values = np.random.default_rng(0).random((9, 12)).astype(np.float32)
    np.testing.assert_allclose(solve(Grid(ones, 0 * ones[1:], 0 * ones[:, 1:]), values, 1e-6), values, atol=1e-6)


def test_a_strong_link_everywhere_gives_the_mean():
    ones = np.ones((30, 41), np.float32)
    values = np.random.default_rng(0).random((30, 41))
    made = solve(Grid(ones, 1e4 * ones[1:], 1e4 * ones[:, 1:]), values, 1e-5)
    np.testing.assert_allclose(made, values.mean(), atol=0.01)


def test_few_cycles_are_enough_where_weights_differ_ten_thousandfold(monkeypatch):
    grid, cycles = random_grid(150, 170, contrast=100), []
    own = Grid.cycle

    def counted(self, wanted):
        cycles.append(self.fidelity.size)
        return own(self, wanted)

    monkeypatch.setattr(Grid, "cycle", counted)
    solve(grid, np.random.default_rng(1).random((150, 170)), 1e-4)
    assert cycles.count(150 * 170) <= 40


def test_a_picture_that_is_not_solved_is_not_given(monkeypatch):
    grid, values = random_grid(40, 50, 1e4), np.random.default_rng(0).uniform(0, 100, (40, 50))
    monkeypatch.setattr(grid_equation, "_ROUNDS", 1)
    with pytest.raises(ArithmeticError, match=r"after 1 rounds the error is .*, above 1e-05"):
        solve(grid, values, 1e-5)
    values[3, 4] = np.nan
    with np.errstate(invalid="ignore"), pytest.raises(ArithmeticError, match="the error is nan"):
        solve(grid, values, 1e-5)

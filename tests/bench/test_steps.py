"""Steps: found where they are, not found where there are none, and outliers are none."""

from __future__ import annotations

import numpy as np
import pytest

from bench.steps import LEAST, find_steps


def levels(*parts: tuple[int, float], spread: float = 0.005, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(level * np.exp(rng.normal(0, spread))) for count, level in parts for _ in range(count)]


def test_a_step_is_found_at_its_place_with_its_size() -> None:
    (step,) = find_steps(levels((12, 10.0), (9, 11.0)))
    assert step.place == 12
    assert step.change == pytest.approx(0.1, abs=0.01)


def test_several_steps_up_and_down() -> None:
    found = find_steps(levels((10, 10.0), (8, 12.0), (12, 9.0)))
    assert [step.place for step in found] == [10, 18]
    assert [round(step.change, 1) for step in found] == [0.2, -0.2]


def test_one_outlier_is_no_step() -> None:
    values = levels((20, 10.0))
    values[8] = 30.0
    assert find_steps(values) == []


@pytest.mark.parametrize("count", [0, 1, 2 * LEAST - 1])
def test_too_few_values_have_no_step(count: int) -> None:
    assert find_steps([10.0] * (count // 2) + [20.0] * (count - count // 2)) == []


def test_a_certain_but_tiny_change_is_no_step() -> None:
    assert find_steps(levels((20, 10.0), (20, 10.1), spread=0.0005)) == []


def test_of_100_histories_without_a_step_few_show_one() -> None:
    """At most 5 in 100 by the test's level, bimodal ones too; most of those below the smallest share do not count."""
    rng = np.random.default_rng(8)
    wrong = sum(
        bool(find_steps(list(10 * np.exp(0.12 * (rng.random(30) < 0.5) + rng.normal(0, 0.003, 30)))))
        for _ in range(100)
    )
    assert wrong <= 8
    assert sum(bool(find_steps(levels((30, 10.0), spread=0.02, seed=seed))) for seed in range(100)) <= 5

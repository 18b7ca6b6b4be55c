"""Tasks: names, which networks they fit, and the pairs of pictures that they make."""

from __future__ import annotations

import numpy as np
import pytest

import reference_models
from reference_models import tasks
from reference_models.can import OPERATORS
from reference_models.errors import UserError
from reference_models.resample import imresize

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (31, 44, 3), np.uint8)


def fitting(name: str, **options: int) -> list[str]:
    return [task.name for task in tasks.tasks_of(reference_models.get(name, options))]


def test_every_operator_of_can_is_a_task_of_its_name() -> None:
    assert tasks.names()[: len(OPERATORS)] == list(OPERATORS)
    assert all(tasks.get(name).operator == name for name in OPERATORS)


@pytest.mark.parametrize("word", ["super-resolution x3", "super_resolution-x3", "Super Resolution X3"])
def test_a_name_may_be_typed_without_spaces(word: str) -> None:
    assert tasks.get(word).name == "super-resolution x3"


def test_an_unknown_task_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="Did you mean l0_smoothing"):
        tasks.get("l0_smothing")


def test_networks_fit_what_they_can_learn_and_nothing_else() -> None:
    assert fitting("can32")[: len(OPERATORS)] == list(OPERATORS)
    assert fitting("espcn_x3") == ["super-resolution x3"]
    assert fitting("srcnn_955") == ["super-resolution x3", "super-resolution mixed"]
    assert fitting("srcnn_955", scale=2) == ["super-resolution x2", "super-resolution mixed"]
    assert "denoising sigma 30" in fitting("red10")
    assert "restoration" in fitting("red30")
    assert fitting("colorization") == ["colorization"]
    assert fitting("can32_multi") == []


@pytest.mark.parametrize("name", reference_models.names())
def test_every_task_says_why_it_does_not_fit(name: str) -> None:
    spec = reference_models.get(name)
    for task in map(tasks.get, tasks.names()):
        assert isinstance(task.why_not(spec), str)


def test_super_resolution_gives_the_reduced_picture_and_the_cut_one() -> None:
    spec = reference_models.get("espcn_x3")
    small, target = tasks.get("super-resolution x3").pictures(PICTURE, spec, RNG)
    assert small.shape == (10, 14, 3)
    np.testing.assert_array_equal(target, PICTURE[:30, :42])
    wanted = imresize(target.transpose(2, 0, 1).astype(np.float64), 10, 14).transpose(1, 2, 0)
    assert np.abs(small - np.clip(wanted, 0, 255)).max() <= 0.501


def test_a_network_that_does_not_enlarge_is_given_the_enlarged_picture() -> None:
    blurred, target = tasks.get("super-resolution x3").pictures(PICTURE, reference_models.get("red10"), RNG)
    assert blurred.shape == target.shape == (30, 42, 3)
    assert blurred.astype(float).std() < 0.8 * target.astype(float).std()


def test_noise_has_its_deviation() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy, target = tasks.get("denoising sigma 30").pictures(grey, reference_models.get("red10"), RNG)
    assert target is grey
    assert (noisy.astype(float) - 128).std() == pytest.approx(30, rel=0.02)


def test_of_several_degradations_all_are_drawn() -> None:
    spec, task = reference_models.get("red10"), tasks.get("restoration")
    inputs = [task.pictures(PICTURE, spec, np.random.default_rng(seed))[1].shape for seed in range(40)]
    assert set(inputs) == {(31, 44, 3), (30, 44, 3), (30, 42, 3), (28, 44, 3)}


def test_a_picture_smaller_than_the_scale_is_refused() -> None:
    with pytest.raises(UserError, match="1x2 pixels for scale 3"):
        tasks.get("super-resolution x3").pictures(np.zeros((2, 1, 3), np.uint8), reference_models.get("espcn_x3"), RNG)

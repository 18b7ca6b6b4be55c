"""Checkpoints: all of a run comes back; others' runs, code and damage are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reference_models.errors import UserError
from reference_models.training.checkpoints import check_resumable, read_checkpoint, write_checkpoint
from reference_models.training.loop import Lesson, Settings, State, start, train_to
from reference_models.training.losses import mse

MADE_WITH = {"seed": 0, "batch": 4}


def begun(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return start(torch.nn.Linear(3, 2), Settings(steps=10))


def trained(state: State, until: int) -> State:
    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(4, 3, generator=torch.Generator().manual_seed(step))
        return x, x[:, :2]

    train_to(state, until, Settings(steps=10), Lesson(batch, mse))
    return state


def test_a_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    whole = trained(begun(), 10)
    state = trained(begun(), 4)
    state.figures.append((4, 31.5))
    write_checkpoint(path, state, MADE_WITH)
    other = begun(seed=1)
    read_checkpoint(path, other, MADE_WITH, 100)
    assert (other.step, other.seconds, other.figures) == (4, state.seconds, [(4, 31.5)])
    trained(other, 10)
    assert other.losses == whole.losses
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, other.average.state_dict()[name])


def test_another_run_is_refused_and_all_that_differs_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", begun(), MADE_WITH)
    with pytest.raises(UserError, match="seed was 0 and is 1; batch was 4 and is 8"):
        check_resumable(tmp_path / "c", {"seed": 1, "batch": 8}, 100)


def test_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        check_resumable(tmp_path / "none", MADE_WITH, 100)


class Hostile:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("content", ["cut off", "code", "other", "schema"])
def test_what_is_no_checkpoint_is_refused_and_not_run(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c"
    made: dict[str, Any] = {"code": Hostile(), "other": [1], "schema": {"schema": 99}}
    if content == "cut off":
        write_checkpoint(path, begun(), MADE_WITH)
        path.write_bytes(path.read_bytes()[:300])
    else:
        torch.save(made[content], path)
    with pytest.raises(UserError, match="--resume"):
        check_resumable(path, MADE_WITH, 100)
    assert not (tmp_path / "ran").exists()


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, begun(), MADE_WITH)

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(path, trained(begun(), 2), MADE_WITH)
    check_resumable(path, MADE_WITH, 100)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]

"""A training run ↔ one file, which appears whole or not at all. Read with weights-only loading: no code in it runs."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from reference_models.errors import UserError
from reference_models.pictures import replace_file
from reference_models.training.loop import Critic, State

SCHEMA = 1
EARLIER = {"precision": "fp32", "device": "cpu"}
"""Choices that checkpoints of earlier versions do not state, and what they were."""
BEGINNINGS = {"untrained", "passing the picture through"}
"""Of networks without weights: of one kind the first became the second, and a run may go on all the same."""


def write_checkpoint(path: Path, state: State, made_with: Mapping[str, Any]) -> None:
    """Writes all of a run.

    Args:
        made_with: what must be the same for the run to go on, as numbers and words: seed, batch, data and so on.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    data = io.BytesIO()
    torch.save(
        {
            "schema": SCHEMA,
            "made_with": dict(made_with),
            "model": state.model.state_dict(),
            "average": state.average.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "step": state.step,
            "seconds": state.seconds,
            "losses": torch.tensor(state.losses, dtype=torch.float64),
            "figures": [list(figure) for figure in state.figures],
            **_critic_parts(state.critic),
        },
        data,
    )
    replace_file(path, data.getbuffer())


def read_checkpoint(path: Path, state: State, made_with: Mapping[str, Any], steps: int) -> None:
    """Brings a run of so many steps that has just been started to where the stored one was.

    Raises:
        UserError: as `check_resumable`.
    """
    stored = _stored(path, made_with, steps)
    state.model.load_state_dict(stored["model"])
    state.average.load_state_dict(stored["average"])
    state.optimiser.load_state_dict(stored["optimiser"])
    state.step, state.seconds = stored["step"], stored["seconds"]
    state.losses = stored["losses"].tolist()
    state.figures = [(int(step), float(figure)) for step, figure in stored["figures"]]
    if state.critic is not None:
        state.critic.module.load_state_dict(stored["critic"])
        state.critic.optimiser.load_state_dict(stored["critic_optimiser"])
        state.critic.losses = stored["critic_losses"].tolist()


def _critic_parts(critic: Critic | None) -> dict[str, Any]:
    if critic is None:
        return {}
    losses = torch.tensor(critic.losses, dtype=torch.float64)
    state = critic.optimiser.state_dict()
    return {"critic": critic.module.state_dict(), "critic_optimiser": state, "critic_losses": losses}


def check_resumable(path: Path, made_with: Mapping[str, Any], steps: int) -> None:
    """
    Raises:
        UserError: no checkpoint, a damaged one, one of another run, of which all that differs is named, or one of more
            than `steps` steps.
    """
    _stored(path, made_with, steps)


def _stored(path: Path, made_with: Mapping[str, Any], steps: int) -> dict[str, Any]:
    stored = _read(path)
    stored["made_with"] = EARLIER | stored["made_with"]
    differing = [
        f"{name} was {stored['made_with'].get(name)} and is {value}"
        for name, value in made_with.items()
        if not _same(name, stored["made_with"].get(name), value)
    ]
    if differing:
        raise UserError(
            f"`--resume` from `{path}`: {'; '.join(differing)}",
            "the choices that the run began with",
            "Repeat its command with --resume, or drop --resume to begin anew",
        )
    if stored["step"] > steps:
        raise UserError(
            f"`--resume` from `{path}`: it has {stored['step']} steps, and --steps says {steps}",
            "--steps of the whole run, what is done included",
            "Give more",
        )
    return stored


def _same(name: str, was: Any, now: Any) -> bool:
    return was == now or (name == "begun_with" and {was, now} <= BEGINNINGS)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"`--resume`: `{path}` is not there", "the checkpoint of a run", "Drop --resume to begin anew")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["schema"] == SCHEMA:
            return dict(stored)
        reason = f"its schema is {stored['schema']}, not {SCHEMA}"
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(f"`--resume` from `{path}`: {reason}", "a checkpoint of `bench train`", "Begin anew without it")

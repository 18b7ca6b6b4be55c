"""Which cases of a sweep are still to be measured: those of its shard that the runs file does not hold yet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.case import Case
from bench.record import Run, new_run
from reference_models.errors import UserError

IDENTITY = ("machine", "versions", "pictures_sha256", "calibration_sha256")
"""What must be equal, besides the case, for a stored run to answer it."""


@dataclass(frozen=True)
class Shard:
    """Every `count`-th case, beginning with number `index` - 1."""

    index: int = 1
    count: int = 1

    def of(self, cases: Sequence[Any]) -> list[Any]:
        return list(cases[self.index - 1 :: self.count])


def parse_shard(word: str | None) -> Shard:
    """`2/5` → the second of five shards; None → all.

    Raises:
        UserError: another form.
    """
    if word is None:
        return Shard()
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", word)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"`--shard {word}`: not a shard", "INDEX/COUNT with 1 <= INDEX <= COUNT", "Try --shard 1/2")
    return Shard(int(match[1]), int(match[2]))


def still_to_measure(
    cases: Sequence[Case], shared: Run, stored: Sequence[Run], anywhere: bool = False
) -> tuple[list[Case], list[Run]]:
    """Cases left, and for each of the others the latest stored run that answers it.

    A run answers a case when it is of the same case to the last setting, weights and library version, on this
    machine, over the same pictures and calibration, and ended well: failed and interrupted ones are measured again.

    Args:
        shared: facts of the command under way, as from `record.facts`.
        anywhere: a run counts on whichever machine it was measured.
    """
    keys = tuple(key for key in IDENTITY if not (anywhere and key == "machine"))
    held: list[Run] = []
    left: list[Case] = []
    for case in cases:
        wanted = _identity(new_run(case, shared), keys)
        found = [run for run in stored if _identity(run, keys) == wanted and _ended_well(run)]
        if found:
            held.append(found[-1])
        else:
            left.append(case)
    return left, held


def _ended_well(run: Run) -> bool:
    return run["status"] == "ok" and not run["interrupted"]


def _identity(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    earlier = {"original": None, "recipe": None, "way": "back to back", "memory_mib": None}  # had none of these
    return {"case": earlier | run["case"]} | {key: run.get(key) for key in keys}

"""`--plugins on,off` → engine words with and without own kernels. Loads no heavy library."""

from __future__ import annotations

from collections.abc import Sequence

import engines
from reference_models.errors import UserError, unknown

CHOICES = ("on", "off")


def with_plugins(words: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Every engine's word, once per value of its setting `plugins` that is asked for.

    Args:
        words: ENGINE or ENGINE:NAME=VALUE; those that name the setting themselves stay as they are.
        asked: of CHOICES; empty: the words as they are.

    Raises:
        UserError: another value, or no engine that has this setting.
    """
    for word in asked:
        if word not in CHOICES:
            raise unknown("--plugins", word, "choice", CHOICES, "Give one of these, or both")
    found: list[str] = []
    for word in words:
        named = not asked or ":plugins=" in word or not has_plugins(word.partition(":")[0])
        found += [word] if named else [f"{word}:plugins={value}" for value in asked]
    if asked and not any(":plugins=" in word for word in found):
        able = ", ".join(name for name in engines.names() if has_plugins(name))
        raise UserError(
            f"`--plugins {','.join(asked)}`: which engine's?",
            f"--engine with one of {able}",
            "Add it, or drop --plugins",
        )
    return list(dict.fromkeys(found))


def has_plugins(name: str) -> bool:
    """Whether an engine has kernels of ours that can be chosen."""
    return any(setting.name == "plugins" for setting in engines.get(name).settings)

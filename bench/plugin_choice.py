"""`--plugins on,off` → engine words with and without own kernels. Loads no heavy library."""

from __future__ import annotations

from collections.abc import Sequence

import engines
from reference_models.errors import UserError, unknown

CHOICES = ("on", "off", "picture")


def with_plugins(words: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Every engine's word, once per value of its setting `plugins` that is asked for and that it has.

    Args:
        words: ENGINE or ENGINE:NAME=VALUE; those that name the setting themselves stay as they are.
        asked: of CHOICES; empty: the words as they are.

    Raises:
        UserError: another value, or one that no engine here has.
    """
    for word in asked:
        if word not in CHOICES:
            raise unknown("--plugins", word, "choice", CHOICES, "Give some of these")
    offered = {word: plugin_choices(word.partition(":")[0]) for word in words}
    if lost := [value for value in asked if not any(value in known for known in offered.values())]:
        able = ", ".join(name for name in engines.names() if set(lost) <= set(plugin_choices(name)))
        raise UserError(
            f"`--plugins {','.join(lost)}`: which engine's?",
            f"--engine with one of {able}",
            "Add it, or drop --plugins",
        )
    found: list[str] = []
    for word, known in offered.items():
        values = [] if ":plugins=" in word else [value for value in asked if value in known]
        found += [f"{word}:plugins={value}" for value in values] or [word]
    return list(dict.fromkeys(found))


def plugin_choices(name: str) -> tuple[str, ...]:
    """What an engine can do with kernels of ours; empty where it has none."""
    return next((setting.choices for setting in engines.get(name).settings if setting.name == "plugins"), ())

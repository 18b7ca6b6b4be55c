"""The one error type that users see. It lives in the package that every other package already imports."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong use, said in three parts: what was wrong, what was expected, what to do.

    The command line prints it as one block without a trace and exits with 2; anything else that escapes is our bug.
    """

    def __init__(self, what: str, expected: str, todo: str) -> None:
        self.what, self.expected, self.todo = what, expected, todo
        super().__init__(f"{what}. Expected {expected}. {todo}" + ("" if todo.endswith(("?", ".")) else "."))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was most likely meant to be, or None where none is near."""
    known = list(known)
    found = difflib.get_close_matches(word.lower(), [k.lower() for k in known], n=3, cutoff=0.5)

    def likeness(k: str) -> tuple[float, int]:
        """Between equally near words the one with the longer common beginning: `can23` means can24, not can32."""
        ratio = difflib.SequenceMatcher(None, k.lower(), word.lower()).ratio()
        return round(ratio, 6), next(
            (i for i, (a, b) in enumerate(zip(k.lower(), word.lower(), strict=False)) if a != b), len(k)
        )

    return max((k for k in known if k.lower() in found), key=likeness, default=None)


def unknown(option: str, word: str, noun: str, known: Iterable[str], todo: str) -> UserError:
    """The error for a word that is not in a list; suggests the nearest one, or gives `todo`."""
    known = list(known)
    guess = nearest(word, known)
    return UserError(
        f"`{option} {word}`: not a known {noun}",
        ", ".join(known),
        f"Did you mean {guess}?" if guess else todo,
    )

"""`--option NAME=VALUE` words and keywords → the spec of that choice. Says what a network offers where one is wrong."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from reference_models.errors import UserError, nearest
from reference_models.spec import ModelSpec, Option

Value = int | float | str
OUR_PACKAGES = ("reference_models", "export", "engines", "bench", "reports")


def configured(spec: ModelSpec, given: Mapping[str, Value]) -> ModelSpec:
    """The spec with these choices made; itself where all of them are the defaults.

    Args:
        given: values, or words as typed, by name.

    Raises:
        UserError: an option or a value that the network does not offer.
    """
    offers = {option.name: option for option in spec.offers}
    for name in given:
        if name not in offers:
            raise _no_such_option(spec, name, given[name], offers)
    chosen = {name: _value(spec, offers[name], value) for name, value in given.items()}
    # In the order of the offers, so that one choice has one title.
    chosen = {name: chosen[name] for name in offers if name in chosen and chosen[name] != offers[name].default}
    if not chosen or spec.configure is None:
        return spec
    values = {option.name: chosen.get(option.name, option.default) for option in spec.offers}
    made: ModelSpec = callable_from_path(spec.configure)(spec.name, **values)
    return made.with_choices(chosen)


def parse_options(words: Iterable[str]) -> dict[str, Value]:
    """`NAME=VALUE` words → {name: value as typed}.

    Raises:
        UserError: another form, or a name twice.
    """
    found: dict[str, Value] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise UserError(f"`--option {word}`: not of the form", "NAME=VALUE", "`bench models --options` lists them")
        if name in found:
            raise UserError(f"`--option {word}`: `{name}` is given twice", "each option once", "Drop one of them")
        found[name] = value
    return found


def callable_from_path(path: str) -> Callable[..., Any]:
    """What `package.module:Callable` names; a module that is not ours is looked for in the current directory first."""
    name, _, attribute = path.partition(":")
    with here_first() if name.partition(".")[0] not in OUR_PACKAGES else nullcontext():
        found: Callable[..., Any] = getattr(importlib.import_module(name), attribute)
    return found


@contextmanager
def here_first() -> Iterator[None]:
    """The current directory stands first while a user's module is imported, and last from then on: its folders may
    have the names of our packages, some of which are yet to be imported."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


def _no_such_option(spec: ModelSpec, name: str, value: Value, offers: Mapping[str, Option]) -> UserError:
    guess = nearest(name, offers)
    return UserError(
        f"`--option {name}={value}`: model `{spec.name}` has no option of this name",
        f"one of {', '.join(offers)}" if offers else "none: it has no options",
        f"Did you mean {guess}?" if guess else "`bench models --options` describes them",
    )


def _value(spec: ModelSpec, option: Option, given: Value) -> Value:
    kind = type(option.default)
    try:
        value = kind(given)
        fits = not isinstance(given, float) or kind is not int or given == value
    except (ValueError, OverflowError):  # an infinity is no whole number
        fits = False
    if fits and isinstance(value, float):
        fits = math.isfinite(value)
    if fits and option.choices:
        fits = value in option.choices
    elif fits and not isinstance(value, str):
        fits = (option.low is None or value >= option.low) and (option.high is None or value <= option.high)
    if fits:
        return value
    guess = nearest(str(given), map(str, option.choices))
    raise UserError(
        f"`--option {option.name}={given}` of model `{spec.name}`: not a value of this option",
        allowed(option),
        f"Did you mean {guess}?" if guess else "`bench models --options` describes them",
    )


def allowed(option: Option) -> str:
    """What may be given, in words: `2, 3, 4`, `a whole number from 3 to 16`."""
    if option.choices:
        return ", ".join(map(str, option.choices))
    noun = {int: "a whole number", float: "a number"}.get(type(option.default), "a word")
    limits = [f"{word} {limit:g}" for word, limit in (("from", option.low), ("to", option.high)) if limit is not None]
    return " ".join([noun, *limits])

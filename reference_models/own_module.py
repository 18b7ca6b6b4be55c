"""`package.module:Factory` → the user's class or function: imported, refused where it cannot be, its sources digested.

Runs the user's code, as `python -m` would. What it raises is quoted as it is, with its place.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from reference_models.choices import OUR_PACKAGES, here_first
from reference_models.errors import UserError, nearest

T = TypeVar("T")


def factory_from_word(word: str) -> Callable[..., Any]:
    """The class or function that `package.module:Factory` names. Imports the module, the current directory first.

    Raises:
        UserError: another form, no such module, an error in it, or no such class or function.
    """
    import torch

    package, _, attribute = word.partition(":")
    if not all(part.isidentifier() for part in (*package.split("."), attribute)):
        raise UserError(f"`--model {word}`: not of the form", "package.module:Factory", "Write it as in `import`")
    with here_first():
        module = _imported(word, package)
    factory = getattr(module, attribute, None)
    if factory is None:
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        guess = nearest(attribute, known)
        raise UserError(
            f"`--model {word}`: {module.__file__ or package} has no `{attribute}`",
            "a class or function that makes a torch.nn.Module",
            f"Did you mean {package}:{guess}?" if guess else "Check the name",
        )
    if isinstance(factory, torch.nn.Module) or not callable(factory):
        raise UserError(
            f"`--model {word}`: is a {type(factory).__name__}, made when the module was imported",
            "a class or function that makes a torch.nn.Module",
            f"Add `def make(): return {attribute}` there and give `{package}:make`",
        )
    return factory


def check_options(word: str, factory: Callable[..., Any], given: Iterable[str]) -> None:
    """
    Raises:
        UserError: the factory has no parameter of such a name.
    """
    try:
        # A wrapper's own parameters: what it passes on is its business.
        parameters = inspect.signature(factory, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # one written in C, which says nothing of itself
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in given:
        if name not in known:
            guess = nearest(name, known)
            raise UserError(
                f"`--model {word}`: has no option `{name}`",
                f"one of {', '.join(known)}" if known else "none: it takes no options",
                f"Did you mean {guess}?" if guess else "Check the name",
            )


def source_sha256(word: str) -> str:
    """SHA-256 over the user's sources that are loaded for this factory, in hexadecimal: caches must not outlive them.

    Those are the factory's module and the modules from the same folder, and below it; not what pip installed there.
    """
    package = word.partition(":")[0]
    file = getattr(sys.modules[package], "__file__", None)
    if file is None:
        return hashlib.sha256(word.encode()).hexdigest()
    folder = Path(file).resolve().parents[package.count(".") + (Path(file).stem == "__init__")]
    if _is_installed(folder, Path()):
        folder /= package.partition(".")[0]
    ours = [Path(__file__).resolve().parent.parent / name for name in OUR_PACKAGES]
    found = {Path(file).resolve()}
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or os.devnull).resolve()  # torch has modules of invented files
        if path.suffix == ".py" and path.is_file() and path.is_relative_to(folder) and not _is_installed(path, folder):
            found.update([path] if not any(path.is_relative_to(own) for own in ours) else [])
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def user_code(doing: str, call: Callable[[], T]) -> T:
    """The call's result; what it raises becomes a UserError that quotes it."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything; a script may end itself
        here = Path(__file__).with_name("own_factory.py"), Path(__file__)
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) not in here]
        own = [f for f in frames if not _is_installed(Path(f.filename), Path()) and not f.filename.startswith("<")]
        place = "".join(f" ({Path(f.filename).name}, line {f.lineno})" for f in (own or frames)[-1:])
        text = " ".join(f"{type(error).__name__}: {error}".split())
        what = f"{doing} failed: {text}{place}" if doing else f"{text}{place}"
        raise UserError(what, "code that runs", "Correct it there") from error


def _imported(word: str, package: str) -> Any:
    try:
        return user_code(f"`--model {word}`: importing {package}", lambda: importlib.import_module(package))
    except UserError as error:
        missing = error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or not f"{package}.".startswith(f"{missing.name}."):
            raise
        guess = _nearest_module(str(missing.name))
        meant = f"{guess}{package.removeprefix(str(missing.name))}:{word.partition(':')[2]}"
        raise UserError(
            f"`--model {word}`: there is no module `{missing.name}` in {os.getcwd()} or on Python's path",
            "package.module:Factory",
            f"Did you mean {meant}?" if guess else "Start where the module lies, or set PYTHONPATH",
        ) from None


def _nearest_module(name: str) -> str | None:
    """The module in the current directory that `package.module` was most likely meant to be."""
    *packages, last = name.split(".")
    places = Path(*packages).glob("*")
    known = {path.stem for path in places if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))}
    guess = nearest(last, sorted(known - {"__init__"}))
    return ".".join([*packages, guess]) if guess else None


def _is_installed(path: Path, folder: Path) -> bool:
    below = path.relative_to(folder) if path.is_relative_to(folder) else path
    return bool({"site-packages", "dist-packages"} & set(below.parts)) or path.is_relative_to(Path(os.__file__).parent)

"""Runs (plain dicts) ↔ the runs file: {"schema": 1, "runs": [...]}, strict JSON, one run per line.

A run has the fixed keys of the design and an "id" that its maker chose; the same id replaces, a new one is appended.
The file is never half-written: at every moment it is the old one or the new one. What the keys mean is not known here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from reference_models.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two writers at once may then lose runs, but the file stays whole
    fcntl = None  # type: ignore[assignment]

Run = dict[str, Any]

SCHEMA = 1
"""Number of the format written. 1: the first."""

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema number → function from a whole document of that number to one of the next; raises nothing of its own."""


class StoreError(UserError):
    """The runs could not be written. The file is as it was before, and no temporary file is left."""


def load(path: str | Path) -> list[Run]:
    """All runs of the file, oldest first, upgraded to today's schema; the file itself is not changed.

    Raises:
        UserError: the file is missing, unreadable, cut off, not a runs file, or from a newer fullres.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "a runs file", "Check the path, or write one with `--json`") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "a runs file", "Name a file that can be read") from error
    return _runs(path, _upgraded(path, _document(path, data)))


def prepare(path: str | Path) -> None:
    """Makes the missing parent folders and proves that `put` will work; called before the first slow step.

    A file that exists is loaded and replaced by itself, since nothing less shows that it may be replaced (a file
    mounted into a container may not). A file that does not exist is not made. Permission bits alone prove nothing: root
    passes them, and a read-only file system refuses in spite of them.

    Raises:
        UserError: the folder or file cannot be written, is no file, or holds something other than runs.
    """
    path = _target(path)
    with _explained(path):
        _refuse_non_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        exists = path.exists()
    if exists:
        _refuse_non_file(path)  # before the lock is made: nothing may appear beside what is refused
        _existing(path)
        put(path, [])
        return
    with _explained(path), _locked(path), _lock_removed(path), _temporary(path) as temporary:
        _write(temporary, _text([]))
        temporary.unlink()  # not only on leaving: an interrupt that comes right here still meets the one that cleans up


def check_place(path: str | Path) -> None:
    """That no folder or device has this name; makes nothing, and is for before `prepare`, which does.

    Raises:
        UserError: one has, or the system does not say.
    """
    path = _target(path)
    with _explained(path):
        _refuse_non_file(path)


def put(path: str | Path, runs: Sequence[Run]) -> None:
    """Merges `runs` into the file by id: the same id is replaced in place, a new one goes to the end.

    Two processes may do so at once: a lock beside the file lets them in one after the other. The folder must exist.

    Raises:
        ValueError: a run without id, or a value that JSON cannot hold (our bug); names the key.
        StoreError: the system refused (disk full, read-only, ...); names the reason.
        UserError: what is there is not a file that `load` takes; it is left alone.
    """
    path = _target(path)
    for run in runs:
        _check_run(run)
    with _explained(path), _locked(path), _lock_removed(path):
        _refuse_non_file(path)
        _remove_leftovers(path)
        merged = {run["id"]: run for run in [*_existing(path), *runs]}
        with _temporary(path) as temporary:
            _write(temporary, _text(list(merged.values())))
            if path.exists():
                shutil.copymode(path, temporary)
            os.replace(temporary, path)


def tidy(path: str | Path) -> None:
    """Removes what writers that were killed have left beside the file, as the next `put` would; for who has nothing to
    put. Waits for a writer at work. A folder that may not be written stays as it is."""
    path = _target(path)
    with contextlib.suppress(OSError), _locked(path), _lock_removed(path):
        _remove_leftovers(path)


# Reading


def _document(path: Path, data: bytes) -> dict[str, Any]:
    """The file's JSON object.

    Raises:
        UserError: empty, cut off, or not strict JSON.
    """
    try:
        text = data.decode("utf-8-sig")  # editors on Windows add the mark
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        if _looks_cut_off(data, error):
            raise UserError(
                f"{path}: ends in the middle ({len(data)} bytes)",
                "a whole runs file; fullres itself never writes half of one",
                "Copy it again, or remove it and measure again",
            ) from error
        raise UserError(f"{path}: not JSON ({error})", "a runs file", "Name a file written by `--json`") from error
    if not isinstance(document, dict):
        raise _not_runs(path, f"JSON, but a {type(document).__name__}")
    return document


def _looks_cut_off(data: bytes, error: Exception) -> bool:
    """Whether the parse error is one of a runs file whose end is missing (an empty file included)."""
    data = data.strip()
    at_end = isinstance(error, json.JSONDecodeError) and (
        error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    )
    return not data or (data.startswith(b"{") and (at_end or not data.endswith(b"}")))


def _refuse_constant(name: str) -> float:
    """Python reads NaN and Infinity, the JSON standard has neither."""
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """The number; 1e999 is JSON but becomes infinity, which could not be written again."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is too large")
    return number


def _upgraded(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """The document in today's schema, one upgrade function after the other.

    Raises:
        UserError: no schema number, one without an upgrade, or a newer one.
    """
    number = document.get("schema")
    if type(number) is not int or not (number >= SCHEMA or number in UPGRADES):
        raise _not_runs(path, f'JSON, but "schema" is {number!r}')
    if number > SCHEMA:
        raise UserError(
            f"{path}: schema {number} is from a newer fullres", f"schema {SCHEMA} or older", "Update fullres"
        )
    while number < SCHEMA:
        document, number = UPGRADES[number](document), number + 1
    return document


def _runs(path: Path, document: dict[str, Any]) -> list[Run]:
    """The document's runs, each known to be an object with an id of its own."""
    runs = document.get("runs")
    if not isinstance(runs, list):
        raise _not_runs(path, 'JSON, but without a list "runs"')
    for index, run in enumerate(runs):
        if not isinstance(run, dict) or not isinstance(run.get("id"), str):
            raise _not_runs(path, f'JSON, but runs[{index}] has no "id"')
    if len({run["id"] for run in runs}) < len(runs):
        raise _not_runs(path, "JSON, but two runs have the same id")
    return runs


def _not_runs(path: Path, found: str) -> UserError:
    return UserError(
        f"{path}: not a runs file ({found})",
        f'{{"schema": {SCHEMA}, "runs": [...]}}',
        "Name a file written by `--json`",
    )


def _existing(path: Path) -> list[Run]:
    """The runs already there. A missing or empty file (as mktemp makes) holds none, and nothing that could be lost."""
    return load(path) if path.exists() and path.stat().st_size else []


# Writing


def _text(runs: Sequence[Run]) -> bytes:
    """The file's content: one run per line, so that files compare line by line; ASCII escapes keep odd file names."""
    lines = ",\n".join(json.dumps(run, allow_nan=False) for run in runs)
    return f'{{"schema": {SCHEMA}, "runs": [\n{lines}\n]}}\n'.encode()


def _check_run(run: Run) -> None:
    """Raises ValueError unless the run has an id and comes back from JSON as it is (tuples as lists)."""
    if not isinstance(run.get("id"), str):
        raise ValueError(f'run has no "id" text: got {run.get("id")!r}')
    _check_value(run, f"run {run['id']}", "")


def _check_value(value: object, owner: str, key: str) -> None:
    """Raises ValueError naming the first key below `key` whose value JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{owner}: `{key}` is {value}. Expected a finite number or None")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{owner}: `{key}` has the key {name!r}. Expected text")
            _check_value(item, owner, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_value(item, owner, f"{key}[{index}]")
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"{owner}: `{key}` is a {type(value).__name__}. Expected a JSON type")


def _write(path: Path, data: bytes) -> None:
    """Makes the file, which must not exist, and waits until the disk has it."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A free name beside `path` (replacing is atomic only within one file system); whatever gets it is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Removes temporary files of writers that were killed; under the lock nobody else has a living one."""
    if fcntl is None:
        return
    pattern = re.compile(rf"\.{re.escape(path.name)}\.\d+-[0-9a-f]{{8}}\.tmp")
    for name in os.listdir(path.parent):
        if pattern.fullmatch(name):
            path.with_name(name).unlink(missing_ok=True)


def _locked(path: Path) -> AbstractContextManager[object]:
    """Waits for `<path>.lock` and holds it alone among all threads and processes until left.

    What it returns is the plain open file: closing it cannot be interrupted half-way, as a generator's end could, and
    an interrupted program that stores its last runs would wait for itself.

    Who leaves removes the lock file while he still holds it (`_lock_removed`). Who waited for it then holds a file that
    has no name any more, while another may hold a new one: so a lock counts only when the name still leads to it, and
    nobody removes a name whose lock he does not hold.
    """
    if fcntl is None:
        return nullcontext()
    while True:
        file = open(_lock_path(path), "ab")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _leads_to(_lock_path(path), file):
                return file
        except BaseException as error:
            file.close()
            if not (isinstance(error, OSError) and error.errno == errno.ESTALE):  # removed on a file server meanwhile
                raise
        file.close()


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _leads_to(path: Path, file: IO[bytes]) -> bool:
    """Whether the name is that of the open file. It is opened for that: a file server's names may be remembered."""
    try:
        with open(path, "rb") as named:
            return os.path.sameopenfile(named.fileno(), file.fileno())
    except FileNotFoundError:
        return False


@contextmanager
def _lock_removed(path: Path) -> Iterator[None]:
    """Removes the lock file at the end; entered only by who holds it, and left before it is let go."""
    try:
        yield
    finally:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # it stays: the next one takes it
                _lock_path(path).unlink()


# The path


def _target(path: str | Path) -> Path:
    """The file that is meant: a link stays a link, and all names of one file share one lock."""
    return Path(os.path.realpath(path))


def _refuse_non_folder(path: Path) -> None:
    """Raises UserError where a file stands in the way of the folder that is to hold `path`."""
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir():
        raise UserError(f"{path}: {nearest} is a file", "a folder to put the runs file in", "Name another file")


def _refuse_non_file(path: Path) -> None:
    """Raises UserError for a folder or a device: replacing /dev/null would take it from the whole machine."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not an ordinary file"
        raise UserError(f"{path}: is {kind}", "the name of a runs file", "Name a file, such as runs.json")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns the system's refusal into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}",
            "a folder with free space in which files can be made and replaced",
            "Make it writable or free space, or name another file; runs already stored there are unharmed",
        ) from error

"""Words for files and folders → paths that can be read and written, checked before the first slow step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from export.cache import picture_sha256
from reference_models.errors import UserError
from reference_models.pictures import is_picture_name, list_pictures, read_picture, writable_format

RUNS_NAME = "runs.json"
"""Of the runs file in the folder that `--output` names."""


def check_writable(folder: Path, option: str, named: Path | None = None) -> None:
    """Makes the folder where it is missing, and writes into it: root passes every permission check, /proc refuses all.

    Args:
        named: what the user named, where that is not the folder itself.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"`{option} {named or folder}`: {error.strerror}", "a folder that can be written", "Choose another"
        ) from None


def check_output_file(target: Path, option: str) -> None:
    """That a file can be put here; its folder must exist.

    Raises:
        UserError: it cannot.
    """
    if not target.parent.is_dir():
        raise UserError(f"`{option} {target}`: its folder does not exist", "an existing folder", "Make it first")
    if target.is_dir():
        raise UserError(f"`{option} {target}`: is a folder", "a file", "Name a file in it")
    check_writable(target.parent, option, target)


def picture_pairs(source: Path, target: Path) -> list[tuple[str, str]]:
    """(input, output) paths: file to file, file into a folder, or folder into a folder as PNG of the same name.

    Raises:
        UserError: nothing to read, nowhere to write, or an output that would replace an input.
    """
    sources = list_pictures(source)
    if source.is_dir() or target.is_dir():
        if not target.is_dir() and is_picture_name(target):
            raise UserError(
                f"`--output {target}`: the name of a picture, and `--input` is a folder", "a folder", "Name a folder"
            )
        pairs = [(str(path), str(target / f"{path.stem}.png")) for path in sources]
        _refuse_equal_names(pairs)
        _refuse_replacing(pairs)
        check_writable(target, "--output")  # makes the folder: nothing may be refused after it
    else:
        writable_format(target)
        check_output_file(target, "--output")
        read_picture(source)
        pairs = [(str(source), str(target))]
        _refuse_replacing(pairs)
    return pairs


def subfolders(path: Path, output: Path) -> list[str]:
    """Names of the folders in this one, without hidden ones and that of the output; none where it is no folder."""
    found = sorted(path.iterdir()) if path.is_dir() else []
    made = output.absolute()
    return [
        p.name for p in found if p.is_dir() and not p.name.startswith(".") and not made.is_relative_to(p.absolute())
    ]


def _refuse_equal_names(pairs: Sequence[tuple[str, str]]) -> None:
    """A name that depends on the neighbours would leave stale pictures behind, so equal names are refused."""
    seen: dict[str, str] = {}
    for source, target in pairs:
        if target in seen:
            raise UserError(
                f"`--input`: {seen[target]} and {source} would both become {target}",
                "pictures that differ in more than their ending",
                "Rename one of them",
            )
        seen[target] = source


def _refuse_replacing(pairs: Sequence[tuple[str, str]]) -> None:
    sources = {os.path.realpath(source) for source, _ in pairs}
    for _, target in pairs:
        if os.path.realpath(target) in sources:
            raise UserError(
                f"`--output`: {target} is one of the input pictures", "another place", "Choose another folder or name"
            )


def check_calibration(path: str | None, quantised: bool = False) -> list[str]:
    """Reads every calibration picture once, so that a bad one is found before the first slow step.

    Args:
        quantised: whether ranges of activations are to be found on them.

    Returns:
        SHA-256 of each; nothing where the pictures are those that ship.

    Raises:
        UserError: no pictures, one that cannot be read, or none from which a range can be told.
    """
    if path is None:
        return []
    digests, plain = [], True
    for source in list_pictures(path):
        picture = read_picture(source)
        digests.append(picture_sha256(picture))
        plain = plain and bool((picture == picture[0, 0]).all())
    if quantised and plain:
        raise UserError(
            f"`--calibration {path}`: {len(digests)} pictures, each of one colour",
            "pictures with the values that the network will see",
            "Give photographs",
        )
    return digests


def runs_file(word: str) -> str:
    """The runs file that a word names: itself, or runs.json in the folder that `--output` was given.

    Raises:
        UserError: a folder without one.
    """
    if not os.path.isdir(word):
        return word
    path = os.path.join(word, RUNS_NAME)
    if not os.path.isfile(path):
        found = sorted(p.name for p in Path(word).glob("*.json"))
        todo = f"Did you mean {os.path.join(word, found[0])}?" if found else "Name the file, or another folder"
        raise UserError(f"{word}: a folder without {RUNS_NAME}", "a runs file, or the --output of a run", todo)
    return path


def run_places(json: str | None, output: str | None) -> tuple[Path, Path | None]:
    """The runs file, and the folder for pictures or None; the cache folder keeps runs that have no other place."""
    folder = None
    if output:
        folder = Path(output) / "pictures"
        check_writable(folder, "--output")
    if json:
        return Path(json), folder
    if output:
        return Path(output) / RUNS_NAME, folder
    from export.cache import cache_folder

    return cache_folder() / "runs" / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.json", None

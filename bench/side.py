"""What `--a` and `--b` of `bench ab` say → a side: words of a case, and the checkout whose code measures it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reference_models.errors import UserError

CHOICES = ("precision", "statistics", "weights", "model")
GIT_S = 120


@dataclass(frozen=True)
class Side:
    """One side of the comparison, as words; None and empty: as the rest of the command says."""

    word: str
    engine: str | None = None
    choices: tuple[tuple[str, str], ...] = ()
    """Of CHOICES."""
    revision: str | None = None
    """A git revision of the repository that the command was started in."""
    folder: str | None = None
    """A checkout that lies there already."""
    plan: str | None = None
    """A plan that lies there already, with its sidecar."""


def parse_side(word: str, option: str) -> Side:
    """`ENGINE[:NAME=VALUE]`, `rev:REVISION`, `dir:FOLDER`, `precision=P`, `statistics=S`, `weights=W`, `model=M`,
    or several of them joined by commas; or `plan:FILE` alone.

    Raises:
        UserError: none of these, or one of them twice.
    """
    found: dict[str, str] = {}
    for part in word.split(","):
        kind, value = _part(part.strip(), f"{option} {word}")
        if kind in found:
            raise UserError(f"`{option} {word}`: `{kind}` is given twice", "each of them once", "Leave one of them out")
        found[kind] = value
    if "rev" in found and "dir" in found:
        raise UserError(f"`{option} {word}`: a revision and a folder", "one checkout", "Leave one of them out")
    if "plan" in found and len(found) > 1:
        raise UserError(f"`{option} {word}`: a plan and other words", "plan:FILE alone", "Its sidecar says the rest")
    choices = tuple((name, found[name]) for name in CHOICES if name in found)
    return Side(word, found.get("engine"), choices, found.get("rev"), found.get("dir"), found.get("plan"))


def _part(part: str, where: str) -> tuple[str, str]:
    if match := re.fullmatch(r"(rev|dir|plan):(.+)", part):
        return match[1], match[2]
    if match := re.fullmatch(rf"({'|'.join(CHOICES)})=(.+)", part):
        return match[1], match[2]
    if re.fullmatch(r"\w+(:\w+=[^,]+)*", part):
        return "engine", part
    raise UserError(
        f"`{where}`: {part!r} is no side",
        "ENGINE, ENGINE:NAME=VALUE, rev:REVISION, dir:FOLDER, plan:FILE or precision=P (statistics, weights, model)",
        "Write for example --a onnxruntime --b onnxruntime:graph=basic, or --a rev:HEAD~1 --b rev:HEAD",
    )


@dataclass(frozen=True)
class Checkout:
    """A folder whose packages come before the installed ones in the workers of a side."""

    folder: Path
    commit: str
    """With "+dirty" where tracked files were changed."""

    def environment(self, cache: Path) -> dict[str, str]:
        """Of its workers. Its cache is its own: what is exported by other code may differ under the same name."""
        installed = Path(__file__).resolve().parent.parent  # where the checkout holds only the user's own network
        old = os.environ.get("PYTHONPATH")
        paths = [str(self.folder), str(installed), *([old] if old else [])]
        return {"PYTHONPATH": os.pathsep.join(paths), "FULLRES_CACHE": str(cache)}


@contextmanager
def checked_out(side: Side, option: str, scratch: Path) -> Iterator[Checkout | None]:
    """The side's checkout for as long as it is needed; None where it is the code that runs now.

    A revision gets a worktree of its own below `scratch`, so that nothing in the user's checkout moves.

    Raises:
        UserError: no such revision or folder, or no git repository.
    """
    if side.folder is not None:
        folder = Path(side.folder).resolve()
        if not folder.is_dir():
            raise UserError(f"`{option} {side.word}`: {folder} is no folder", "a checkout", "Check the path")
        yield Checkout(folder, _commit(folder) or "unknown")
    elif side.revision is not None:
        commit = _git(Path.cwd(), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{side.revision}^{{commit}}")
        if not commit:
            raise UserError(
                f"`{option} {side.word}`: no such revision in the git repository of {Path.cwd()}",
                "a commit, branch or tag, in a folder of the repository",
                "`git log --oneline` lists commits",
            )
        folder = scratch / f"checkout{option.replace('-', '_')}"
        if _git(Path.cwd(), "worktree", "add", "--detach", "--force", str(folder), commit) is None:
            raise UserError(
                f"`{option} {side.word}`: git could not make a worktree", "room in " + str(scratch), "Free some"
            )
        try:
            yield Checkout(folder, commit)
        finally:
            _git(Path.cwd(), "worktree", "remove", "--force", str(folder))
    else:
        yield None


def _commit(folder: Path) -> str | None:
    head = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+dirty" if head and changed else head


def _git(folder: Path, *words: str) -> str | None:
    """What git prints; None where it fails or is absent."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_S, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

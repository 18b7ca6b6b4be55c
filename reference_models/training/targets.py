"""What operators make of pictures, kept on disk by content: a second training run does not compute them again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from reference_models.errors import UserError
from reference_models.pictures import Picture, read_picture, write_picture

MAX_BYTES = 4 << 30
"""Of one folder; the files that were used least lately go first."""


@dataclass(frozen=True)
class Targets:
    """Operator and picture → what the operator makes of it."""

    folder: Path | None = None
    """None: nothing is kept."""
    max_bytes: int = MAX_BYTES

    def target(self, operator: str, picture: Picture) -> Picture:
        """uint8 (H, W, 3) RGB, computed or read.

        Raises:
            UserError: no such operator.
        """
        from reference_models.operators import get

        apply = get(operator)
        if self.folder is None:
            return apply(picture)
        path = self.folder / f"{operator}-{_sha256(operator, picture)}.png"
        try:
            found = read_picture(path)
            os.utime(path)
            return found
        except (UserError, OSError):  # not there, or cut off
            made = apply(picture)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_picture(path, made)
        self._prune()
        return made

    def _prune(self) -> None:
        """Deletes the files that were used least lately until the rest fits."""
        assert self.folder is not None
        files = sorted((p.stat().st_mtime, p.stat().st_size, p) for p in self.folder.glob("*.png"))
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _sha256(operator: str, picture: Picture) -> str:
    """Of the picture, the operators' sources, which share parts, and the libraries: a change makes other targets."""
    digest = hashlib.sha256(f"{operator} {picture.shape} ".encode())
    digest.update(_makers())
    digest.update(picture.tobytes())
    return digest.hexdigest()[:40]


@cache
def _makers() -> bytes:
    """All that the operators are made of: their sources, in order, and the versions of what they call."""
    from reference_models import operators

    sources = sorted(Path(operators.__file__ or "").parent.glob("*.py"))
    versions = " ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "scikit-image"))
    return versions.encode() + b"".join(path.read_bytes() for path in sources)

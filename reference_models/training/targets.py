"""What operators make of pictures, kept on disk by content: a second training run does not compute them again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
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
    """Of the picture and of the operator's own source: one that was changed makes other targets."""
    digest = hashlib.sha256(f"{operator} {picture.shape} ".encode())
    digest.update(_source(operator))
    digest.update(picture.tobytes())
    return digest.hexdigest()[:40]


def _source(operator: str) -> bytes:
    from reference_models import operators

    path = Path(operators.__file__ or "").with_name(f"{operator}.py")
    return path.read_bytes() if path.is_file() else b""

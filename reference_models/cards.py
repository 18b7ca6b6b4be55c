"""Cards: what trained weights are, as data. NAME.json beside NAME.safetensors ↔ Card. No torch here.

A card says what the weights were made for, from what, at what cost, and what they reach; never a path of the machine
that made them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reference_models.errors import UserError
from reference_models.pictures import replace_file
from reference_models.spec import ModelSpec

SCHEMA = 1


@dataclass(frozen=True)
class Figure:
    """What the weights reach on pictures that they were not trained on."""

    pictures: str
    """Which ones, in words: `Set5`, `scikit-image coffee.png`."""
    count: int
    convention: str
    """What the figure is of: channels, border and rounding, or which classes."""
    psnr_db: float | None
    """Mean over the pictures of each picture's PSNR; None for networks of classes."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """What else was given the same pictures → the same quantity: `bicubic`, `the picture as it is`."""
    mean_iou_percent: float | None = None
    """For networks of classes: intersection over union, the mean over the classes, of all pictures' pixels together."""

    @property
    def reached(self) -> str:
        """Quantity and unit, in words: `32.43 dB`."""
        return self._in_words(self.psnr_db if self.psnr_db is not None else self.mean_iou_percent)

    @property
    def beside(self) -> str:
        """The baselines, in words; empty without them."""
        return ", ".join(f"{name} {self._in_words(value)}" for name, value in self.baselines.items())

    @property
    def is_worse(self) -> bool:
        """Whether something that needs no training did better."""
        reached = self.psnr_db if self.psnr_db is not None else self.mean_iou_percent
        return reached is not None and any(value > reached for value in self.baselines.values())

    def _in_words(self, value: float | None) -> str:
        if value is None:
            return "not told"
        return f"mean IoU {value:.1f} %" if self.psnr_db is None else f"{value:.2f} dB"


@dataclass(frozen=True)
class Card:
    """All about one file of weights."""

    task: str
    """Name in reference_models.tasks."""
    model: str
    options: Mapping[str, int | float | str]
    """The choices of the network's options that differ from the defaults."""
    sha256: str
    """Of the safetensors file that the card is of."""
    data: Mapping[str, int]
    """What it was trained on, in words → number of different pictures."""
    settings: Mapping[str, Any]
    """Loss, batch, crop, rate and so on: what `bench train` was given or chose."""
    steps: int
    seconds: float
    """Spent training, all parts of a resumed run together."""
    seed: int
    commit: str
    """Of the code that trained it; empty where it is not known."""
    versions: Mapping[str, str]
    machine: str
    figures: tuple[Figure, ...]
    licence: str
    resume: str
    """The command that trains it further."""
    earlier: Mapping[str, float] = field(default_factory=dict)
    """`steps` and `seconds` of the runs before, whose weights this one began with; empty: it began untrained."""
    notes: tuple[str, ...] = ()
    """What one must know besides, such as how it differs from the paper."""

    @property
    def all_steps(self) -> int:
        """Of this run and those before."""
        return self.steps + int(self.earlier.get("steps", 0))

    @property
    def all_seconds(self) -> float:
        """Of this run and those before."""
        return self.seconds + self.earlier.get("seconds", 0.0)

    def why_not(self, spec: ModelSpec) -> str:
        """Why these weights are not for a network as configured, in a few words; empty where they are.

        Told from the card, since tensors of the same shapes may be of networks that compute something else: dilated or
        not, tanh or ReLU, for another scale. Cards of a user's own network say nothing here.
        """
        from reference_models import get, names

        if self.model not in names():
            return ""
        own = get(self.model, self.options)
        if own.factory != spec.factory or _regarded(own) != _regarded(spec):
            return f"they were trained for {own.title}, and this is {spec.title}"
        if own.enlarges != spec.enlarges and not self.task.endswith(" mixed"):
            return f"they were trained for {own.enlarges} times the size, and this is {spec.enlarges} times"
        return ""


HARMLESS = ("border", "batch_norm", "classifier")
"""Options of factories that weights are not made for: what lies beyond a border, and forms of the same function."""


def _regarded(spec: ModelSpec) -> dict[str, object]:
    options = {name: value for name, value in spec.options.items() if name not in HARMLESS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def card_path(weights: Path) -> Path:
    """Where the card of these weights lies: NAME.json beside NAME.safetensors."""
    return weights.with_suffix(".json")


def read_card(weights: Path) -> Card | None:
    """The card of a file of weights; None where none lies beside it, or a JSON file of another kind.

    Raises:
        UserError: the card is damaged, or of other weights.
    """
    path = card_path(weights)
    if path == weights:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _no_card(path, str(error)) from None
    if not isinstance(data, dict) or not {"schema", "task", "model"} <= data.keys():
        return None
    card = _card(path, data)
    if card.sha256 != _sha256(weights):
        raise _no_card(path, f"it is not of {weights.name} as it is now: their SHA-256 differ")
    return card


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card(path: Path, data: dict[str, Any]) -> Card:
    if data.pop("schema") != SCHEMA:
        raise _no_card(path, f"its schema is not {SCHEMA}")
    try:
        figures = tuple(Figure(**figure) for figure in data.pop("figures"))
        return Card(**{**data, "figures": figures, "notes": tuple(data.get("notes", ()))})
    except (KeyError, TypeError) as error:
        raise _no_card(path, str(error)) from None


def _no_card(path: Path, reason: str) -> UserError:
    return UserError(f"card `{path}`: {reason}", "the card that `bench train` writes", "Delete it or restore it")


def write_card(weights: Path, card: Card) -> None:
    """Writes the card beside its weights; it appears whole or not at all."""
    data = asdict(card)
    for figure in data["figures"]:
        if figure["mean_iou_percent"] is None:
            del figure["mean_iou_percent"]  # which earlier releases do not know
    text = json.dumps({"schema": SCHEMA, **data}, indent=2, ensure_ascii=False) + "\n"
    replace_file(card_path(weights), memoryview(text.encode()))

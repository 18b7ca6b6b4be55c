"""Words such as `latency:5%` and a gate's TOML file → rules: which figure may get worse, and by how much."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reference_models.errors import UserError, unknown

Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Figure:
    """One figure that a gate can judge."""

    name: str
    key: str
    """Dotted path into a run."""
    direction: Direction
    """max: the figure may rise by at most the margin; min: it may fall by at most the margin."""
    unit: str
    """Of the figure; a margin may be given in it."""
    default: str
    """Margin where no rule is given at all."""
    each_key: str | None = None
    """Dotted path to the figure of every process, where the process is the replicated unit."""
    share: bool = True
    """Whether a margin may be given in per cent of the baseline."""
    measured: bool = False
    """Whether it varies from process to process so much that it needs an interval; others are compared as they are."""
    digits: int | None = None
    """Decimals shown; None: four significant digits."""


FIGURES: tuple[Figure, ...] = (
    Figure("latency", "latency_ms.p50", "max", "ms", "5%", each_key="latency_ms.samples", measured=True),
    Figure("memory", "memory.host_peak_mib", "max", "MiB", "10%", each_key="memory.host_peak_mib_all", digits=0),
    Figure("device_memory", "memory.device_peak_mib", "max", "MiB", "10%", digits=0),
    Figure("plan_size", "memory.plan_mib", "max", "MiB", "10%", digits=1),
    Figure("psnr", "quality.vs_reference.psnr_db", "min", "dB", "0.1dB", share=False, digits=2),
    Figure("ssim", "quality.vs_reference.ssim", "min", "", "0.001", share=False, digits=5),
)


@dataclass(frozen=True)
class Rule:
    """One figure and how much worse it may get."""

    figure: Figure
    margin: float
    """A share of the baseline where `relative`, else in the figure's unit."""
    relative: bool
    asked: bool = True
    """False for the rules that apply where none is given: a figure that no run has is then no fault."""

    @property
    def text(self) -> str:
        """As the user would write it: `--max latency:5%`."""
        amount = f"{self.margin * 100:g}%" if self.relative else f"{self.margin:g}{self.figure.unit}"
        return f"--{self.figure.direction} {self.figure.name}:{amount}"


def parse_rules(maxima: Sequence[str], minima: Sequence[str], config: str | Path | None = None) -> list[Rule]:
    """The rules of the command line, and those of the file for figures that the command line does not name.

    Without any: the defaults of FIGURES.

    Raises:
        UserError: an unknown figure, a margin that is none, a figure given twice, or a file that cannot be read.
    """
    words = [("max", word) for word in maxima] + [("min", word) for word in minima]
    given = _unique([_rule(direction, word, f"--{direction} {word}") for direction, word in words])
    filed = _unique(_rules_of_file(Path(config))) if config else []
    named = {rule.figure.name for rule in given}
    rules = [*given, *(rule for rule in filed if rule.figure.name not in named)]
    if not rules:
        if config:
            raise UserError(f"{config}: no rule in it", "a table [max] or [min]", 'Write latency = "5%" under [max]')
        return [Rule(f, *_margin(f, f.default, f.name), asked=False) for f in FIGURES]
    return sorted(rules, key=lambda rule: FIGURES.index(rule.figure))


def _unique(rules: Sequence[Rule]) -> Sequence[Rule]:
    names = [rule.figure.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"`{name}` has two rules", "one margin for each figure", "Leave one of them out")
    return rules


def _rule(direction: str, word: str, where: str) -> Rule:
    name, colon, amount = word.partition(":")
    if not colon and "=" in word:
        raise UserError(f"`{where}`: `=`", "FIGURE:MARGIN", f"Write {word.replace('=', ':', 1)}")
    known = {figure.name: figure for figure in FIGURES}
    if name not in known:
        raise unknown(f"--{direction}", name, "figure that a gate judges", list(known), "Write for example latency:5%")
    figure = known[name]
    if not colon:
        raise UserError(f"`{where}`: no margin", f"{name}:MARGIN", f"Try {name}:{figure.default}")
    if figure.direction != direction:
        better = "less" if figure.direction == "max" else "more"
        raise UserError(
            f"`{where}`: of {name}, {better} is better",
            f"--{figure.direction} {word}",
            f"Use --{figure.direction}",
        )
    return Rule(figure, *_margin(figure, amount, where))


def _margin(figure: Figure, amount: str, where: str) -> tuple[float, bool]:
    """The margin, and whether it is a share."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(\S*)\s*", amount)
    units = [unit for unit in ("%" if figure.share else "", figure.unit) if unit]
    number = float(match[1]) if match else 0.0
    if not match or match[2].lower() not in [unit.lower() for unit in units or [""]] or not 0 <= number < 1e9:
        forms = " or ".join(f"a number and {unit}" for unit in units) or "a number"
        raise UserError(f"`{where}`: {amount!r} is no margin of {figure.name}", forms, f"Try {figure.default}")
    relative = match[2] == "%"
    if figure.measured and number == 0:
        raise UserError(f"`{where}`: a margin of 0", "more than 0: no two measurements agree", f"Try {figure.default}")
    return (number / 100 if relative else number), relative


def _rules_of_file(path: Path) -> list[Rule]:
    """[max] and [min] of a TOML file: `latency = "5%"`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"`--config {path}`: {error.strerror}", "a TOML file", "Check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"`--config {path}`: not TOML ({error})", "tables [max] and [min]", "Correct it") from error
    _refuse_unknown_keys(path, document)
    return [
        _rule(direction, f"{name}:{_amount(path, direction, name, amount)}", f"{path}: [{direction}] {name}")
        for direction in ("max", "min")
        for name, amount in document.get(direction, {}).items()
    ]


def _refuse_unknown_keys(path: Path, document: Mapping[str, Any]) -> None:
    for key, table in document.items():
        if key not in {"max", "min"} or not isinstance(table, Mapping):
            raise UserError(
                f"`--config {path}`: `{key}` is not known", "tables [max] and [min]", "Remove or correct it"
            )


def _amount(path: Path, direction: str, name: str, amount: object) -> str:
    if isinstance(amount, bool) or not isinstance(amount, str | int | float):
        raise UserError(f"`--config {path}`: [{direction}] {name} is {amount!r}", 'text such as "5%"', "Correct it")
    return str(amount)

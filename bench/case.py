"""Case = model x resolution x engine x precision x statistics. Words → cases; no heavy library is loaded here."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import engines
import reference_models
from engines.installed import cuda_device_count, cuda_missing
from reference_models.errors import UserError, unknown
from reference_models.spec import ModelSpec

RESOLUTIONS = {
    "320p": (568, 320),
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "4k": (3840, 2160),
}
"""Width and height of the picture that comes out of the network."""
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "int8", "fp8")
STATISTICS = ("image", "frozen", "thumbnail")
MAX_SIDE = 1 << 15


@dataclass(frozen=True)
class Case:
    """One combination that is measured. Sizes in pixels."""

    model: str
    resolution: str
    width: int
    height: int
    engine: str
    device: str
    precision: str
    statistics: str | None
    weights: str | None
    """File, or None for the published initialisation."""
    weights_name: str
    """What the user called them; `untrained` without weights."""
    threads: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> ModelSpec:
        return reference_models.get(self.model)

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the network's input: the output's, divided by the upscale factor, rounded up."""
        k = self.spec.upscale
        return -(-self.width // k), -(-self.height // k)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        width, height = self.input_size
        return 1, 3, height, width

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return 1, 3, self.height, self.width

    @property
    def variant(self) -> str:
        """`ENGINE`, followed by `:NAME=VALUE` for every setting that is not the engine's default."""
        defaults = {s.name: s.default for s in engines.get(self.engine).settings}
        changed = [f"{name}={value}" for name, value in self.settings.items() if value != defaults[name]]
        return ":".join([self.engine, *changed])

    @property
    def title(self) -> str:
        """A few words for progress lines."""
        parts = [self.model, self.resolution, self.variant, self.precision, self.statistics or ""]
        return " ".join(p for p in parts if p)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "settings": dict(self.settings)}


@dataclass(frozen=True)
class Request:
    """What the user asked for, still as words."""

    models: Sequence[str]
    resolutions: Sequence[str]
    engines: Sequence[str] = ()
    """ENGINE or ENGINE:NAME=VALUE; empty: the fastest usable one for the device, and torch_eager beside it."""
    precisions: Sequence[str] = ("fp32",)
    statistics: Sequence[str] = ()
    """Empty: as published."""
    device: str = "auto"
    weights: str | None = None
    threads: int | None = None
    settings: Sequence[str] = ()
    """ENGINE.NAME=VALUE."""


def resolution_size(word: str) -> tuple[int, int]:
    """Width and height of `1440p` or `WIDTHxHEIGHT`.

    Raises:
        UserError: neither.
    """
    if word.lower() in RESOLUTIONS:
        return RESOLUTIONS[word.lower()]
    match = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", word)
    if match:
        width, height = int(match[1]), int(match[2])
        if 1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE:
            return width, height
        raise UserError(f"`--res {word}`: a side is out of range", f"1 to {MAX_SIDE} pixels", "Choose another size")
    known = [*RESOLUTIONS, "WIDTHxHEIGHT"]
    raise unknown("--res", word, "resolution", known, "Give a name or a size such as 1000x700")


def resolve_device(word: str) -> str:
    """`cpu` or `cuda:N`; `auto` is cuda:0 where a device is there and an engine here can use it, else cpu.

    Raises:
        UserError: not a device word, or a device that does not exist.
    """
    if word == "auto":
        return "cuda:0" if cuda_device_count() and engines.usable_on("cuda:0") else "cpu"
    word = "cuda:0" if word == "cuda" else word
    if word.lower().startswith("gpu"):
        raise UserError(f"`--device {word}`: not a known device", "auto, cpu, cuda:0", "Did you mean cuda:0?")
    if word != "cpu" and not re.fullmatch(r"cuda:\d{1,3}", word):
        raise unknown("--device", word, "device", ["auto", "cpu", "cuda:0"], "Give one of these")
    reason = cuda_missing(word)
    if reason:
        raise UserError(f"`--device {word}`: {reason}", "auto, cpu or a CUDA device that exists", "Use `--device cpu`")
    return word


def expand(request: Request) -> tuple[list[Case], list[tuple[Case, str]]]:
    """Cases to measure, and cases left out with the reason (a precision that its engine does not have).

    Raises:
        UserError: an unknown word, an engine that is not usable, or nothing left to measure.
    """
    device = resolve_device(request.device)
    _check_words(request.precisions, "--precision", "precision", PRECISIONS)
    _check_words(request.statistics, "--statistics", "way to obtain statistics", STATISTICS)
    specs = [reference_models.get(name) for name in _unique(request.models)]
    sizes = {word: resolution_size(word) for word in _unique(request.resolutions)}
    settings = parse_settings(request.settings)
    chosen = [_variant(word, device, settings) for word in _engine_words(request, device)]
    for name in settings.keys() - {engine.name for engine, _ in chosen}:
        raise UserError(
            f"`--set {name}.…`: engine `{name}` is not part of this command",
            "settings of " + ", ".join(engine.name for engine, _ in chosen),
            f"Add `--engine {name}` or drop the setting",
        )
    threads = _threads(request.threads)
    weights = {spec.name: _weights(spec, request.weights) for spec in specs}
    cases, left_out = [], []
    for spec in specs:
        choices = itertools.product(_statistics(spec, request.statistics), sizes, chosen, _unique(request.precisions))
        for statistics, word, (engine, complete), precision in choices:
            case = Case(
                model=spec.name,
                resolution=word.lower(),
                width=sizes[word][0],
                height=sizes[word][1],
                engine=engine.name,
                device=device,
                precision=precision,
                statistics=statistics,
                weights=weights[spec.name][0],
                weights_name=weights[spec.name][1],
                threads=threads,
                settings=complete,
            )
            reason = _no_precision(engine, device, precision)
            if reason:
                left_out.append((case, reason))
            elif case not in cases:  # 64x48 and 64X48, or a variant that only repeats a default
                cases.append(case)
    if not cases:
        reasons = sorted({reason for _, reason in left_out})
        raise UserError(
            "nothing to measure: " + "; ".join(reasons), "an engine with this precision", "`bench engines` lists them"
        )
    return cases, left_out


def parse_settings(words: Sequence[str]) -> dict[str, dict[str, str]]:
    """`ENGINE.NAME=VALUE` words → {engine: {name: value}}.

    Raises:
        UserError: another form, an unknown engine, setting or value.
    """
    found: dict[str, dict[str, str]] = {}
    for word in words:
        match = re.fullmatch(r"(\w+)\.(\w+)=(\S+)", word)
        if not match:
            raise UserError(
                f"`--set {word}`: not of the form", "ENGINE.NAME=VALUE", "`bench engines --settings` lists them"
            )
        found.setdefault(match[1], {})[match[2]] = match[3]
    for name, given in found.items():
        engines.get(name).complete_settings(given)
    return found


def _threads(given: int | None) -> int:
    from bench.machine import usable_cores

    cores = usable_cores()
    if given is None:
        return cores
    if not 1 <= given <= cores:
        raise UserError(
            f"`--threads {given}`: out of range", f"1 to {cores} (cores usable here)", "Choose a number of these"
        )
    return given


def _engine_words(request: Request, device: str) -> list[str]:
    if request.engines:
        return _unique(request.engines)
    _check_words(request.precisions, "--precision", "precision", PRECISIONS)
    fastest = [engines.fastest(device, precision) for precision in request.precisions]
    beside = [name for name in ("torch_eager",) if name in engines.usable_on(device, request.precisions[0])]
    return _unique([*fastest, *beside])


def _variant(
    word: str, device: str, settings: Mapping[str, Mapping[str, str]]
) -> tuple[engines.Engine, dict[str, str]]:
    """`ENGINE` or `ENGINE:NAME=VALUE:...` → the engine with all its settings, those of the word before `--set`'s."""
    name, *own = word.split(":")
    engine = _usable(name, device)
    given = parse_settings([f"{name}.{setting}" for setting in own]).get(name, {})
    return engine, engine.complete_settings({**settings.get(name, {}), **given})


def _usable(name: str, device: str) -> engines.Engine:
    engine = engines.get(name)
    reason = engine.missing() or engine.device_missing(device)
    if reason:
        usable = engines.usable_on(device)
        raise UserError(
            f"engine `{name}`: {reason}", "a usable engine: " + ", ".join(usable), f"To install: {engine.install}"
        )
    return engine


def _no_precision(engine: engines.Engine, device: str, precision: str) -> str | None:
    reason = engine.precision_missing(device, precision)
    return f"engine `{engine.name}`: {reason}" if reason else None


def _statistics(spec: ModelSpec, asked: Sequence[str]) -> Sequence[str | None]:
    if not spec.statistics:
        return (None,)
    return _unique(asked) or (spec.statistics[0],)


def _weights(spec: ModelSpec, word: str | None) -> tuple[str | None, str]:
    from reference_models.weights import resolve_weights

    if word is None:
        return None, "untrained"
    return str(resolve_weights(spec, word)), word


def _check_words(words: Sequence[str], option: str, noun: str, known: Sequence[str]) -> None:
    for word in words:
        if word not in known:
            raise unknown(option, word, noun, known, "Give one of these")


def _unique(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(words))

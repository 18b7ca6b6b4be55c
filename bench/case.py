"""Case = model x resolution x engine x precision x statistics. Words → cases; no heavy library is loaded here."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import engines
import reference_models
from bench import picture_plan
from bench.machine import chosen_threads
from bench.recipes import check_lowering, recipe_for
from engines.installed import cuda_device_count, cuda_missing
from engines.tile_choice import tile_words, why_no_tiles
from export.recipe import HALF, QUANTISED, Recipe
from reference_models.choices import parse_options
from reference_models.errors import UserError, unknown
from reference_models.spec import ModelSpec
from reference_models.tasks import plain

RESOLUTIONS = {
    "320p": (568, 320),
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "4k": (3840, 2160),
}
"""Width and height of the picture that comes out of the network."""
PRECISIONS = ("fp32", "tf32", *HALF, *QUANTISED, "auto")
STATISTICS = ("image", "frozen", "thumbnail")
MAX_SIDE = 1 << 15


@dataclass(frozen=True)
class Case:
    """One combination that is measured. Sizes in pixels."""

    spec: ModelSpec
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
    recipe: Recipe | None = None
    """How its graph is made, where the precision stands in the graph."""
    way: str = "back to back"  # a word of bench/ways.py
    tile: str = "off"
    """`off`, `auto`, `N` or `WxH`: pixels of the network's input that run at once, halo included."""
    memory_mib: float | None = None
    """What a tiled case may take; None: what is free."""

    @property
    def model(self) -> str:
        """The name, and the options that were chosen."""
        return self.spec.title

    @property
    def trained(self) -> bool:
        """Whether its weights mean anything: those of a network of one's own are taken to."""
        return self.weights is not None or self.spec.is_own

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the picture that goes in: of what comes out, over the network's enlarging, rounded up."""
        k = self.spec.enlarges
        return -(-self.width // k), -(-self.height // k)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of the tensor that goes in: the picture, enlarged first where the network wants that, and padded."""
        return 1, self.spec.input_planes, *self.spec.tensor_size(*self.input_size)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Of what is kept of the network's output: what padding and rounding up added is cropped."""
        return 1, self.spec.output_planes, self.height, self.width

    @property
    def variant(self) -> str:
        """`ENGINE`, followed by `:NAME=VALUE` for every setting that is not the engine's default."""
        defaults = {s.name: s.default for s in engines.get(self.engine).settings}
        changed = [f"{name}={value}" for name, value in self.settings.items() if value != defaults[name]]
        return ":".join([self.engine, *changed])

    @property
    def title(self) -> str:
        """A few words for progress lines."""
        tile = "" if self.tile == "off" else f"tile {self.tile}"
        parts = [self.model, self.resolution, self.variant, self.precision, self.statistics, tile]
        return " ".join(filter(None, [*parts, self.way.replace("back to back", "")]))

    @property
    def network_key(self) -> str:
        """What its graph is known by among those of the model: statistics, and recipe where there is one."""
        recipe = json.dumps(self.recipe.to_dict(), sort_keys=True) if self.recipe else ""
        engine = self.variant if self.precision == "auto" else ""  # the search measures on its engine alone
        return " ".join(filter(None, (str(self.statistics), engine, recipe)))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "spec": self.spec.to_json(), "settings": dict(self.settings)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Case:
        recipe = Recipe.from_dict(data["recipe"]) if data["recipe"] else None
        return Case(**{**data, "spec": ModelSpec.from_json(data["spec"]), "recipe": recipe})


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
    original: str | None = None
    """What the networks are compared with: weights of its name are meant where they ship and none are given."""
    threads: int | None = None
    settings: Sequence[str] = ()
    """ENGINE.NAME=VALUE."""
    options: Sequence[str] = ()
    """NAME=VALUE, among those that every one of the models offers."""
    lowering: Mapping[str, Any] = field(default_factory=dict)
    """What is asked of the recipes of quantised precisions: clipping, recovery, layers (a Layers), floor_db."""
    tiles: Sequence[str] = ("off",)
    memory_mib: float | None = None


def spec_from_word(word: str, options: Mapping[str, int | float | str]) -> ModelSpec:
    """What `--model` names: a network of the registry, `package.module:Factory`, or an ONNX file of the user's own.

    Options of this one network may follow its name: `can:depth=7:width=24`. They go before `options`.

    Raises:
        UserError: none of these, or it does not offer such options.
    """
    name, *own = re.split(r":(?=\w+=)", word)
    options = {**options, **parse_options(own)}
    if not name.lower().endswith(".onnx"):
        return reference_models.get(name, options)
    if options:
        raise UserError(f"`--model {word}`: an ONNX file has no options", "no --option", "Leave it out")
    from export.own_onnx import spec_from_onnx

    return spec_from_onnx(name)


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
    options = parse_options(request.options)
    words = _unique(name for word in request.models for name in (reference_models.names() if word == "all" else [word]))
    specs = [spec_from_word(name, options) for name in words]
    check_lowering(request.precisions, request.lowering, [spec.title for spec in specs])
    sizes = {word: resolution_size(word) for word in _unique(request.resolutions)}
    settings = parse_settings(request.settings)
    engine_words = _engine_words(request, device, modules=not all(spec.onnx for spec in specs))
    chosen = [_variant(word, device, settings) for word in engine_words]
    for name in settings.keys() - {engine.name for engine, _ in chosen}:
        raise UserError(
            f"`--set {name}.…`: engine `{name}` is not part of this command",
            "settings of " + ", ".join(engine.name for engine, _ in chosen),
            f"Add `--engine {name}` or drop the setting",
        )
    threads = chosen_threads(request.threads)
    tiles = tile_words(request.tiles, request.memory_mib)
    _check_titles(specs)
    _check_statistics(specs, request.statistics)
    weights = {spec.title: _weights(spec, request.weights, request.original) for spec in specs}
    cases, left_out = [], []
    for spec in specs:
        choices = itertools.product(
            _statistics(spec, request.statistics), sizes, chosen, _unique(request.precisions), tiles
        )
        for statistics, word, (engine, complete), precision, tile in choices:
            case = Case(
                spec=spec,
                resolution=word.lower(),
                width=sizes[word][0],
                height=sizes[word][1],
                engine=engine.name,
                device=device,
                precision=precision,
                statistics=statistics,
                weights=weights[spec.title][0],
                weights_name=weights[spec.title][1],
                threads=threads,
                settings=complete,
                recipe=recipe_for(engine, device, precision, request.lowering),
                tile=tile,
                memory_mib=None if tile == "off" else request.memory_mib,
            )
            reason = _cannot_run(engine, case)
            if reason:
                left_out.append((case, reason))
            elif case not in cases:  # 64x48 and 64X48, or a variant that only repeats a default
                cases.append(case)
    if not cases:
        reasons = sorted({reason for _, reason in left_out})
        raise UserError(
            "nothing to measure: " + "; ".join(reasons),
            "an engine, a precision, statistics and tiles that go together",
            "`bench engines` lists engines and precisions",
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


def _check_titles(specs: Sequence[ModelSpec]) -> None:
    """Runs are told apart by the network's title: two files of one name would pass for each other."""
    for number, spec in enumerate(specs):
        for other in specs[:number]:
            if other.title == spec.title and other != spec:
                first, second = other.onnx or other.source, spec.onnx or spec.source
                raise UserError(
                    f"`--model`: {first} and {second} are both called {spec.title}",
                    "networks of different names",
                    "Rename one, or measure them in two commands",
                )


def _check_statistics(specs: Sequence[ModelSpec], asked: Sequence[str]) -> None:
    if asked and not any(spec.statistics for spec in specs):
        names = ", ".join(spec.title for spec in specs)
        raise UserError(
            f"`--statistics {','.join(asked)}`: {names} has no normalisation statistics",
            "no --statistics",
            "Leave it out",
        )


def _engine_words(request: Request, device: str, modules: bool) -> list[str]:
    if request.engines:
        return _unique(request.engines)
    _check_words(request.precisions, "--precision", "precision", PRECISIONS)
    fastest = [engines.fastest(device, precision) for precision in request.precisions]
    beside = [name for name in ("torch_eager",) if modules and name in engines.usable_on(device, request.precisions[0])]
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
        todo = f"To install: {engine.install}" if engine.missing() else "Choose one of these, or another --device"
        raise UserError(f"engine `{name}`: {reason}", "a usable engine: " + ", ".join(usable), todo)
    return engine


def _cannot_run(engine: engines.Engine, case: Case) -> str | None:
    reason = engine.precision_missing(case.device, case.precision)
    if case.statistics not in {None, *case.spec.statistics}:
        return f"model `{case.model}`: no {case.statistics} statistics, only {', '.join(case.spec.statistics)}"
    if not reason and case.recipe and case.statistics == "thumbnail":
        return f"precision `{case.precision}`: with thumbnail statistics new weights are folded for every picture"
    reason = reason or why_no_tiles(case.tile, case.statistics)
    if not reason and picture_plan.asked(case.settings):
        reason = picture_plan.refusal(case.spec, case.statistics, case.tile)
    if not reason and case.spec.onnx and engine.runs_modules:
        reason = f"runs PyTorch modules, and `{case.spec.name}` is an ONNX file"
    return f"engine `{engine.name}`: {reason}" if reason else None


def _statistics(spec: ModelSpec, asked: Sequence[str]) -> Sequence[str | None]:
    if not spec.statistics:
        return (None,)
    return _unique(asked) or (spec.statistics[0],)


def _weights(spec: ModelSpec, word: str | None, original: str | None) -> tuple[str | None, str]:
    """File and name of what `--weights` means; without it, of those that ship with the network, if any, those of the
    name of the original that it is compared with, or else the first."""
    from reference_models.weights import resolve_weights

    if spec.onnx:
        if word is not None:
            raise UserError(
                f"`--weights {word}`: {spec.name} is an ONNX file and holds its own", "none", "Leave it out"
            )
        return spec.onnx, Path(spec.onnx).name
    meant = next((name for name in spec.weights if original and plain(name) == plain(original)), None)
    word = word or meant or next(iter(spec.weights), "none")
    if word == "none":
        return None, "its own" if spec.is_own else "untrained"
    return str(resolve_weights(spec, word)), word


def _check_words(words: Sequence[str], option: str, noun: str, known: Sequence[str]) -> None:
    for word in words:
        if word not in known:
            raise unknown(option, word, noun, known, "Give one of these")


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))

"""A run as a file holds it, perhaps a stranger's file → Row: checked, its text cleaned, ready to be shown.

No file is read here. A run whose figures are no figures is refused, never guessed at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest
from statistics import median
from typing import Any

from bench import pairing
from bench.metrics import METRICS, value
from reference_models.errors import UserError

Run = dict[str, Any]
STATUSES = ("ok", "failed", "skipped")
MACHINE_FACTS = (*pairing.MACHINE, "gpus")
"""What makes a machine another one: the rule of the gate."""
LONGEST = 600
"""Characters of a text that are shown; the embedded runs have all of it."""
RECIPE: Mapping[str, Any] = {"clipping": "mse", "recovery": "fast", "floor_db": None, "kept": []}
"""What may be asked of a recipe, and what stands where nothing was; the rest of it is the engine's choice."""
_RECIPE_WORDS = {"clipping": "{}", "recovery": "recovery {}", "floor_db": "above {} dB", "kept": "{} in float"}
DEEPEST = 4
"""Levels of a nested fact that are shown."""
MOST_ITEMS = 40
"""Entries of one object or list that are shown."""
ABSURD = (1e-9, 1e12)
"""Figures of a run outside of this are no measurement in any unit used here; no axis could hold them beside others."""


@dataclass(frozen=True)
class Row:
    """One run. Texts are cleaned of control characters but not escaped; figures are None unless the status is ok."""

    run: Run
    source: str
    """Name of the file it came from."""
    place: int
    """Number of that file, 0 for the first: the later one counts where both hold the same case."""
    status: str
    reason: str
    unstable: tuple[str, ...]
    model: str
    """With its options, as one writes them."""
    weights: str
    weights_sha256: str
    trained: bool
    resolution: str
    input_shape: tuple[int, ...]
    """(N, C, H, W)."""
    output_shape: tuple[int, ...]
    variant: str
    """Engine with the settings that are not its defaults."""
    device: str
    precision: str
    statistics: str
    """Empty where the network has none."""
    tile: str
    recipe: str
    """How the graph was brought to the precision, where somebody asked for more than the precision; empty elsewhere."""
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    contract: Mapping[str, str]
    commit: str
    """Empty where unknown."""
    time: str
    latency_ms: float | None
    interval_ms: tuple[float, float] | None
    """95 %, of `latency_ms`."""
    medians_ms: tuple[float, ...]
    """One per worker process."""
    psnr_db: float | None
    """Against the reference; infinite where no value differs."""
    broken: bool
    """The output holds a NaN or an infinity."""
    peaks: Mapping[str, float]
    layers: tuple[tuple[str, str, float], ...]
    """Name, kind and ms of every node, where the run was profiled."""
    device_limit_mib: float | None

    @property
    def id(self) -> str:
        return clean(str(self.run["id"]))

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def width(self) -> int:
        return self.output_shape[3]

    @property
    def height(self) -> int:
        return self.output_shape[2]

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6

    @property
    def size(self) -> str:
        """Width x height of the output, with the input's before it where they differ."""
        (_, _, h, w), (_, _, oh, ow) = self.input_shape, self.output_shape
        return f"{w}x{h}" if (h, w) == (oh, ow) else f"{w}x{h} → {ow}x{oh}"

    @property
    def title(self) -> str:
        return f"{self.model} {self.resolution} {self.how}".strip()

    @property
    def network(self) -> str:
        """The model, marked where its weights are untrained."""
        return self.model if self.trained else f"{self.model} (untrained)"

    @property
    def how(self) -> str:
        """What one chooses for a given network and size; the device where it is not the CPU, the tile where one is."""
        device = "" if self.device == "cpu" else self.device
        tile = "" if self.tile in ("", "off") else f"tile {self.tile}"
        words = (self.variant, device, self.precision, self.recipe, self.statistics, tile)
        return " ".join(word for word in words if word)

    @cached_property
    def one_process(self) -> bool:
        """Whether one process alone measured it: its interval says nothing of what the next process would find."""
        latency = self.run.get("latency_ms")
        said = latency.get("ci95_of") if isinstance(latency, Mapping) else None
        return self.ok and (len(self.medians_ms) < 2 or said == "median within one process")

    @cached_property
    def absurd(self) -> str:
        """The first figure that no measurement can give, as `key number`; empty where there is none."""
        keys = {key: self.number(key) for key in _FIGURES} if self.ok else {}
        for key, figure in keys.items():
            if figure and not ABSURD[0] <= abs(figure) <= ABSURD[1] * (1e6 if key == "work.min_bytes" else 1):
                return f"{key} {figure:g}"
        times = (*self.medians_ms, *(self.interval_ms or ())[1:])
        rates = self.peaks.values()
        beyond = [figure for figure in (*times, *rates) if not ABSURD[0] <= figure <= ABSURD[1]]
        return f"{beyond[0]:g} among samples, interval or peaks" if beyond else ""

    @cached_property
    def machine_key(self) -> tuple[str, ...]:
        """What must be equal for two latencies to be of the same machine."""
        return tuple(self.machine.get(name, "") for name in MACHINE_FACTS)

    @property
    def machine_name(self) -> str:
        cores = f"{self.machine.get('cpu', 'unknown')}, {self.machine.get('cores_usable', '?')} cores"
        gpus = self.machine.get("gpus")
        return f"{cores}, {gpus}" if gpus else cores

    @cached_property
    def pictures(self) -> str:
        """Names of the input pictures, with the start of their digests where the run holds those."""
        found, digests = self.run.get("pictures"), self._digests
        if not isinstance(found, list):
            return "not named"
        named = zip_longest(found[:MOST_ITEMS], digests[: len(found)], fillvalue="")
        return clean(", ".join(f"{_fact(each).replace(', ', ' ')} {digest[:8]}".strip() for each, digest in named))

    @property
    def _digests(self) -> list[str]:
        found = self.run.get("pictures_sha256")
        return [clean(str(digest)) for digest in found[:MOST_ITEMS]] if isinstance(found, list) else []

    def same_pictures(self, other: Row) -> bool:
        """Whether both were judged on the same input pictures: by digest where both have those, else by name."""
        if self._digests and other._digests:
            return self._digests == other._digests
        return bool(_fact(self.run.get("pictures")) == _fact(other.run.get("pictures")))

    @property
    def picture_count(self) -> int:
        found = self.run.get("pictures")
        return len(found) if isinstance(found, list) else 1

    def number(self, key: str) -> float | None:
        """The figure at a dotted path into the run; checked when the row was made."""
        return value(self.run, key)


def row_from_run(run: Run, source: str = "", place: int = 0) -> Row:
    """The checked row of a run.

    Raises:
        UserError: a key is missing or holds something else than it must; names run and key.
    """
    reader = _Reader(run)
    case = reader.mapping("case")
    status = reader.text("status")
    if status not in STATUSES:
        raise reader.wrong("status", ", ".join(STATUSES))
    ok = status == "ok"
    if ok:
        reader.check_figures()
    quality = reader.quality() if ok else None
    return Row(
        run=run,
        source=clean(source),
        place=place,
        status=status,
        reason=reader.text("reason"),
        unstable=tuple(reader.texts("unstable")),
        model=reader.model(),
        weights=reader.text("case.weights"),
        weights_sha256=reader.text("case.weights_sha256"),
        trained=case.get("trained") is True,
        resolution=reader.text("case.resolution"),
        input_shape=reader.shape("case.input_shape"),
        output_shape=reader.shape("case.output_shape"),
        variant=reader.text("case.variant") or reader.text("case.engine"),
        device=reader.text("case.device"),
        precision=reader.text("case.precision"),
        statistics=reader.text("case.statistics"),
        tile=reader.tile(),
        recipe=reader.recipe(),
        machine=reader.facts("machine") | reader.drivers(),
        versions=reader.facts("versions"),
        contract=reader.facts("contract"),
        commit=reader.text("commit"),
        time=reader.text("time"),
        latency_ms=reader.positive("latency_ms.p50") if ok else None,
        interval_ms=reader.interval() if ok else None,
        medians_ms=reader.medians() if ok else (),
        psnr_db=_psnr_db(reader, quality),
        broken=quality is not None and not quality["finite"],
        peaks=reader.peaks() if ok else {},
        layers=reader.layers() if ok else (),
        device_limit_mib=reader.device_limit_mib(reader.text("case.device")),
    )


def clean(text: str) -> str:
    """The text without control characters, direction overrides and half surrogates, at most LONGEST characters."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _psnr_db(reader: _Reader, quality: Mapping[str, Any] | None) -> float | None:
    if quality is None or not quality["finite"]:
        return None
    return math.inf if quality["identical"] else value(reader.run, "quality.vs_reference.psnr_db")


@dataclass(frozen=True)
class _Reader:
    """Takes values out of a run and refuses those of another kind."""

    run: Run

    def wrong(self, key: str, expected: str) -> UserError:
        shown = repr(self._at(key))
        shown = shown if len(shown) <= 80 else shown[:79] + "…"
        return UserError(f"run {clean(self.run['id'])}: `{key}` is {shown}", expected, "Measure this case again")

    def _at(self, key: str) -> Any:
        found: Any = self.run
        for name in key.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def mapping(self, key: str) -> Mapping[str, Any]:
        if not isinstance(found := self._at(key), Mapping):
            raise self.wrong(key, "an object")
        return found

    def text(self, key: str) -> str:
        """Cleaned text; empty for null and for what is missing."""
        found = self._at(key)
        if found is not None and not isinstance(found, str):
            raise self.wrong(key, "text or null")
        return clean(found or "")

    def model(self) -> str:
        """`can32:depth=7`: the name and the options that are not the network's own."""
        options = self._at("case.options") or {}
        if not isinstance(options, Mapping):
            raise self.wrong("case.options", "an object or null")
        return clean(":".join([self.text("case.model"), *(f"{name}={_fact(each)}" for name, each in options.items())]))

    def recipe(self) -> str:
        """What differs from RECIPE, in words."""
        found = self._at("case.recipe") or {}
        if not isinstance(found, Mapping):
            raise self.wrong("case.recipe", "an object or null")
        asked = [(name, found[name]) for name in RECIPE if name in found and found[name] != RECIPE[name]]
        return clean(" ".join(_RECIPE_WORDS.get(name, name + " {}").format(_fact(each)) for name, each in asked))

    def tile(self) -> str:
        """`off`, or the side of a tile in pixels as text."""
        found = self._at("case.tile")
        return self.text("case.tile") if found is None or isinstance(found, str) else _fact(found)

    def texts(self, key: str) -> list[str]:
        found = self._at(key) or []
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise self.wrong(key, "a list of texts")
        return [clean(text) for text in found]

    def shape(self, key: str) -> tuple[int, ...]:
        found = self._at(key)
        if not isinstance(found, list) or len(found) != 4 or not all(type(n) is int and 0 < n < 10**6 for n in found):
            raise self.wrong(key, "four whole numbers (N, C, H, W)")
        return tuple(found)

    def facts(self, key: str) -> dict[str, str]:
        """An object's values as text: facts that are shown and compared, not computed with."""
        return facts_of(self.mapping(key))

    def drivers(self) -> dict[str, str]:
        """GPU drivers, apart from the GPUs: another driver is another condition, not another machine."""
        gpus = self._at("machine.gpus") or []
        if not isinstance(gpus, list) or not all(isinstance(gpu, Mapping) for gpu in gpus):
            raise self.wrong("machine.gpus", "a list of objects")
        found = ", ".join(_fact(gpu["driver"]) for gpu in gpus if gpu.get("driver"))
        return {"gpu driver": found} if found else {}

    def device_limit_mib(self, device: str) -> float | None:
        """Memory of the GPU that `cuda:N` names; None for other devices and where it is not known."""
        gpus, number = self._at("machine.gpus") or [], device.partition(":")[2]
        if not device.startswith("cuda") or not (number or "0").isdecimal() or int(number or 0) >= len(gpus):
            return None
        limit = gpus[int(number or 0)].get("memory_mib")
        return None if limit is None else self._finite("machine.gpus", limit)

    def positive(self, key: str) -> float:
        number = self._finite(key, self._at(key))
        if number <= 0:
            raise self.wrong(key, "a number above 0")
        return number

    def _finite(self, key: str, found: Any) -> float:
        """The number; JSON's whole numbers may be larger than a float can be."""
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 1e300:
            raise self.wrong(key, "a number")
        return float(found)

    def check_figures(self) -> None:
        """Raises UserError where a figure that tables or plots show is neither null nor a number from 0 up."""
        for key in _FIGURES:
            found = self._at(key)
            if found is not None and self._finite(key, found) < 0 and not key.endswith("_db"):
                raise self.wrong(key, "a number from 0 up, or null")

        self._check_rates()
        self._check_builds()

    def _check_rates(self) -> None:
        """The machine's rate beside each process; comparisons divide by it."""
        found = self._at("machine_gflop_s") or []
        if not isinstance(found, list) or not all(self._finite("machine_gflop_s", rate) > 0 for rate in found):
            raise self.wrong("machine_gflop_s", "a list of numbers above 0")

    def _check_builds(self) -> None:
        """Which build each process ran."""
        found, samples = self._at("latency_ms.builds"), self._at("latency_ms.samples")
        named = isinstance(found, list) and all(isinstance(build, int | str) for build in found)
        if found is not None and not (named and isinstance(samples, list) and len(found) == len(samples)):
            raise self.wrong("latency_ms.builds", "null or a name for each process")

    def interval(self) -> tuple[float, float] | None:
        key = "latency_ms.ci95"
        found = self._at(key)
        if found is None:
            return None
        if not isinstance(found, list) or len(found) != 2:
            raise self.wrong(key, "two numbers or null")
        low, high = (self._finite(key, number) for number in found)
        if not 0 <= low <= high:
            raise self.wrong(key, "two numbers in order")
        return low, high

    def medians(self) -> tuple[float, ...]:
        key = "latency_ms.samples"
        found = self._at(key)
        if not isinstance(found, list) or not all(isinstance(samples, list) for samples in found):
            raise self.wrong(key, "a list of lists of numbers")
        numbers = [[self._finite(key, sample) for sample in samples] for samples in found]
        if any(sample <= 0 for samples in numbers for sample in samples):
            raise self.wrong(key, "numbers above 0")
        return tuple(median(samples) for samples in numbers if samples)

    def quality(self) -> Mapping[str, Any] | None:
        if "vs_reference" not in self.mapping("quality"):
            raise self.wrong("quality", 'an object with "vs_reference"')
        for owner in ("vs_reference", "vs_original"):
            key = f"quality.{owner}"
            found = self._at(key)
            if found is not None and not (
                isinstance(found, Mapping) and all(isinstance(found.get(k), bool) for k in ("finite", "identical"))
            ):
                raise self.wrong(key, 'null or an object with "finite" and "identical"')
        found = self._at("quality.vs_reference")
        return found if isinstance(found, Mapping) else None

    def layers(self) -> tuple[tuple[str, str, float], ...]:
        found = self._at("layers") or []
        if not isinstance(found, list) or not all(isinstance(layer, Mapping) for layer in found):
            raise self.wrong("layers", "a list of objects, or null")
        figures = [self._finite("layers", layer.get("ms")) for layer in found]
        if any(not 0 <= ms <= ABSURD[1] for ms in figures):
            raise self.wrong("layers", "times from 0 ms up")
        names = [(_fact(layer.get("layer", "")), _fact(layer.get("kind", ""))) for layer in found]
        return tuple((*name, ms) for name, ms in zip(names, figures, strict=True))

    def peaks(self) -> dict[str, float]:
        """Rates of the machine measured in the same command; empty where that failed."""
        found = self._at("work.peaks")
        peaks = {}
        for name, rate in found.items() if isinstance(found, Mapping) else ():
            if name.endswith(("_gflop_s", "_gb_s")) and not isinstance(rate, Mapping) and rate is not None:
                peaks[name] = self._finite(f"work.peaks.{name}", rate)
        return peaks


_FIGURES: Sequence[str] = (
    *(metric.key for metric in METRICS),
    *("cold_start.build_s", "cold_start.load_s", "cold_start.first_ms"),
    *("work.gmac", "work.min_bytes", "work.gflop_per_s", "memory.host_baseline_mib"),
    "machine.memory_mib",
)


def _fact(fact: Any, deep: int = 0) -> str:
    """One line of text for a value of any kind, of at most LONGEST characters; GPUs by their names."""
    if isinstance(fact, Mapping | list) and deep == DEEPEST:
        return "…"
    if isinstance(fact, Mapping):
        name = fact.get("name")
        items = islice(fact.items(), MOST_ITEMS)
        return clean(
            name if isinstance(name, str) else ", ".join(f"{str(k)[:99]} {_fact(v, deep + 1)}" for k, v in items)
        )
    if isinstance(fact, list):
        return clean(", ".join(_fact(item, deep + 1) for item in fact[:MOST_ITEMS]))
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return clean(f"{fact:g}" if isinstance(fact, float) else str(fact)[:LONGEST])


def facts_of(found: object) -> dict[str, str]:
    """An object's values as cleaned text; empty where it is none."""
    if not isinstance(found, Mapping):
        return {}
    return {clean(str(name)): text for name, fact in found.items() if fact is not None and (text := _fact(fact))}

"""Values out of a run that may be a stranger's: each is what it must be, or the run is refused; texts are cleaned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

from bench.metrics import METRICS, value
from export.recipe import Recipe
from reference_models.errors import UserError

Run = dict[str, Any]
LONGEST = 600
"""Characters of a text that are shown; the embedded runs have all of it."""
RECIPE: Mapping[str, Any] = {
    "weight_bits": Recipe("int8").weight_bits,
    **{name: Recipe("int8").to_dict()[name] for name in ("clipping", "recovery", "floor_db", "kept")},
}
"""What may be asked of a recipe, and what stands where nothing was. The rest is the engine's choice and not named; so
are 7 bits on some processors, but those are other weights."""
_RECIPE_WORDS = {
    "weight_bits": "weights of {} bits",
    "clipping": "{} clipping",
    "recovery": "recovery {}",
    "floor_db": "above {} dB",
    "kept": "{} in float",
}
DEEPEST = 4
"""Levels of a nested fact that are shown."""
MOST_ITEMS = 40
"""Entries of one object or list that are shown."""
ABSURD = (1e-9, 1e12)
"""Figures of a run outside of this are no measurement in any unit used here; no axis could hold them beside others."""


FIGURES: Sequence[str] = (
    *(metric.key for metric in METRICS),
    *("cold_start.build_s", "cold_start.load_s", "cold_start.first_ms"),
    *("work.gmac", "work.min_bytes", "work.gflop_per_s", "memory.host_baseline_mib"),
    "machine.memory_mib",
)


@dataclass(frozen=True)
class Operator:
    """What a network replaces."""

    name: str = ""
    """Empty where the run does not say."""
    ms: float | None = None
    """Its own time for the same picture."""
    baseline: str = ""
    """What one has without the network: the input, or an interpolation; empty where the run does not say."""
    baseline_db: float | None = None
    """PSNR of that against the original."""


def clean(text: str) -> str:
    """The text without control characters, direction overrides and half surrogates, at most LONGEST characters."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


@dataclass(frozen=True)
class Reader:
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
        return clean(
            ":".join([self.text("case.model"), *(f"{name}={fact_text(each)}" for name, each in options.items())])
        )

    def recipe(self) -> str:
        """What differs from RECIPE, in words."""
        found = self._at("case.recipe") or {}
        if not isinstance(found, Mapping):
            raise self.wrong("case.recipe", "an object or null")
        asked = [(name, found[name]) for name in RECIPE if name in found and found[name] != RECIPE[name]]
        return clean(" ".join(_RECIPE_WORDS.get(name, name + " {}").format(fact_text(each)) for name, each in asked))

    def tile(self) -> str:
        """`off`, or a tile's size as text, with the memory that it had to fit into where somebody said so."""
        found, granted = self._at("case.tile"), self._at("case.memory_mib")
        word = self.text("case.tile") if found is None or isinstance(found, str) else fact_text(found)
        return word if granted is None else f"{word} in {fact_text(granted)} MiB"

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
        found = ", ".join(fact_text(gpu["driver"]) for gpu in gpus if gpu.get("driver"))
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
        for key in FIGURES:
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
        return self.judgement("vs_reference")

    def judgement(self, owner: str) -> Mapping[str, Any] | None:
        """What `quality` says of one owner, with `finite` and `identical`; None where it was not judged."""
        key = f"quality.{owner}"
        found = self._at(key)
        if found is None:
            return None
        flags = {"finite": True, "identical": False} if owner == "vs_original" else {}
        judged = {**flags, **found} if isinstance(found, Mapping) else {}
        if not all(isinstance(judged.get(name), bool) for name in ("finite", "identical")):
            raise self.wrong(key, 'null or an object with "finite" and "identical"')
        return judged

    def psnr_db(self, owner: str) -> float | None:
        """Infinite where no value differs; None where an output is not finite, or was not judged."""
        quality = self.judgement(owner)
        if quality is None or not quality["finite"]:
            return None
        return math.inf if quality["identical"] else value(self.run, f"quality.{owner}.psnr_db")

    def operator(self) -> Operator:
        """`original`: what the network replaces, that one's own time, and what one has without either."""
        if self._at("original") is not None:
            self.mapping("original")
        ms = self._at("original.p50_ms")
        name = self.text("original.operator") or self.text("original.task")
        beside = self.text("quality.vs_original.baseline.name")
        return Operator(name, None if ms is None else self.positive("original.p50_ms"), beside, self._baseline_db())

    def _baseline_db(self) -> float | None:
        key = "quality.vs_original.baseline"
        if self._at(f"{key}.identical") is True:
            return math.inf
        found = self._at(f"{key}.psnr_db")
        return None if found is None else self._finite(f"{key}.psnr_db", found)

    def seam(self) -> str:
        """PSNR at the borders of tiles and elsewhere, in words; null means that no value differs there."""
        found = self._at("quality.seam")
        if found is None:
            return ""
        if not isinstance(found, Mapping) or not {"seam_db", "elsewhere_db"} <= found.keys():
            raise self.wrong("quality.seam", 'null or an object with "seam_db" and "elsewhere_db"')
        places = {"at the borders": found["seam_db"], "elsewhere": found["elsewhere_db"]}
        said = ("no error" if db is None else f"{self._finite('quality.seam', db):.1f} dB" for db in places.values())
        return ", ".join(f"{figure} {place}" for place, figure in zip(places, said, strict=True))

    def layers(self) -> tuple[tuple[str, str, float], ...]:
        found = self._at("layers")
        found = [] if found is None else found
        if not isinstance(found, list) or not all(isinstance(layer, Mapping) for layer in found):
            raise self.wrong("layers", "a list of objects, or null")
        figures = [self._finite("layers", layer.get("ms")) for layer in found]
        if any(not 0 <= ms <= ABSURD[1] for ms in figures):
            raise self.wrong("layers", "times from 0 ms up")
        names = [(fact_text(layer.get("layer", "")), fact_text(layer.get("kind", ""))) for layer in found]
        return tuple((*name, ms) for name, ms in zip(names, figures, strict=True))

    def peaks(self) -> dict[str, float]:
        """Rates of the machine measured in the same command; empty where that failed."""
        found = self._at("work.peaks")
        peaks = {}
        for name, rate in found.items() if isinstance(found, Mapping) else ():
            if name.endswith(("_gflop_s", "_gb_s")) and not isinstance(rate, Mapping) and rate is not None:
                peaks[name] = self._finite(f"work.peaks.{name}", rate)
        return peaks


def fact_text(fact: Any, deep: int = 0) -> str:
    """One line of text for a value of any kind, of at most LONGEST characters; GPUs by their names."""
    if isinstance(fact, Mapping | list) and deep == DEEPEST:
        return "…"
    if isinstance(fact, Mapping):
        name = fact.get("name")
        items = islice(fact.items(), MOST_ITEMS)
        return clean(
            name if isinstance(name, str) else ", ".join(f"{str(k)[:99]} {fact_text(v, deep + 1)}" for k, v in items)
        )
    if isinstance(fact, list):
        return clean(", ".join(fact_text(item, deep + 1) for item in fact[:MOST_ITEMS]))
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return clean(f"{fact:g}" if isinstance(fact, float) else str(fact)[:LONGEST])


def facts_of(found: object) -> dict[str, str]:
    """An object's values as cleaned text; empty where it is none."""
    if not isinstance(found, Mapping):
        return {}
    return {clean(str(name)): text for name, fact in found.items() if fact is not None and (text := fact_text(fact))}

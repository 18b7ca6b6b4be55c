"""A run as a file holds it, perhaps a stranger's file → Row: checked, its text cleaned, ready to be shown.

No file is read here. A run whose figures are no figures is refused, never guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from bench import pairing
from bench.metrics import value
from reports.reading import ABSURD, FIGURES, MOST_ITEMS, Operator, Reader, Run, clean, fact_text

Against = Literal["reference", "original"]
STATUSES = ("ok", "failed", "skipped")
MACHINE_FACTS = (*pairing.MACHINE, "gpus")
"""What makes a machine another one: the rule of the gate."""


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
    original_db: float | None
    """Against the operator or the picture that the network is to come close to; infinite where no value differs."""
    operator: Operator
    seam: str
    """Error at the borders of tiles against that elsewhere, in words; empty where it was not judged."""
    broken: bool
    """The output holds a NaN or an infinity."""
    peaks: Mapping[str, float]
    layers: tuple[tuple[str, str, float], ...]
    """Name, kind and ms of every node, where the run was profiled."""
    device_limit_mib: float | None
    against: Against = "reference"
    """What a floor is about."""

    @property
    def judged_db(self) -> float | None:
        """PSNR that a floor is held against."""
        return self.db(self.against)

    def db(self, against: Against) -> float | None:
        """PSNR against the one or the other."""
        return self.original_db if against == "original" else self.psnr_db

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
        keys = {key: self.number(key) for key in FIGURES} if self.ok else {}
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
        return clean(", ".join(f"{fact_text(each).replace(', ', ' ')} {digest[:8]}".strip() for each, digest in named))

    @property
    def _digests(self) -> list[str]:
        found = self.run.get("pictures_sha256")
        return [clean(str(digest)) for digest in found[:MOST_ITEMS]] if isinstance(found, list) else []

    def same_pictures(self, other: Row) -> bool:
        """Whether both were judged on the same input pictures: by digest where both have those, else by name."""
        if self._digests and other._digests:
            return self._digests == other._digests
        return bool(fact_text(self.run.get("pictures")) == fact_text(other.run.get("pictures")))

    @property
    def picture_count(self) -> int:
        found = self.run.get("pictures")
        return len(found) if isinstance(found, list) else 1

    def number(self, key: str) -> float | None:
        """The figure at a dotted path into the run; checked when the row was made."""
        return value(self.run, key)


def row_from_run(run: Run, source: str = "", place: int = 0, against: Against = "reference") -> Row:
    """The checked row of a run.

    Raises:
        UserError: a key is missing or holds something else than it must; names run and key.
    """
    reader = Reader(run)
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
        psnr_db=reader.psnr_db("vs_reference") if ok else None,
        original_db=reader.psnr_db("vs_original") if ok else None,
        operator=reader.operator() if ok else Operator(),
        seam=reader.seam() if ok else "",
        broken=quality is not None and not quality["finite"],
        peaks=reader.peaks() if ok else {},
        layers=reader.layers() if ok else (),
        device_limit_mib=reader.device_limit_mib(reader.text("case.device")),
        against=against,
    )

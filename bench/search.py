"""The plan that costs least and keeps a given quality: which layers go to int8, and which stay in float.

Every layer's harm is found by quantising it alone; then the layers with the most harm per multiply-accumulate go back
to float, one after the other, until the floor is kept on pictures that took no part in calibration. Quality and time
are the engine's own where it runs here.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import engines
from bench import machine
from engines.engine import Options
from export import qdq
from export.as_rounded import as_rounded, run_graph
from export.cache import cache_folder, code_sha256, made_once, picture_sha256
from export.calibration import calibration_inputs, further_inputs
from export.network import INPUT, OUTPUT, Graph, Network, file_sha256
from export.precision import LoweringRequest, lowered_network
from export.quantiser import Attempt, Quantiser, original_graph, worst_psnr_db
from export.ranges import Report
from reference_models.errors import UserError
from reference_models.pictures import held_back_pictures

EVERY = 4
"""Of the user's own calibration pictures every fourth is held back, where there are as many."""
FURTHER = 2
"""Steps behind the first that keeps the floor: one more layer in float may be faster, since a change of type costs."""


@dataclass(frozen=True)
class Point:
    """One plan on the way."""

    kept: tuple[str, ...]
    psnr_db: float
    """On the held-back pictures, the worst of them."""
    ms: float | None
    """Median of a few inferences on the engine; None where it does not run here."""
    low_mac_share: float

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "kept": list(self.kept)}


def searched_network(request: LoweringRequest, engine: str, options: Options, report: Report) -> Network:
    """The network of the cheapest plan that keeps the recipe's floor; its lowering holds the curve.

    Raises:
        UserError: nothing keeps the floor, or what `lowered_network` raises.
    """
    facts = [request.network.main.sha256, request.recipe.to_dict(), engine, dict(options.settings), options.threads]
    facts += [engines.get(engine).version(), code_sha256(), file_sha256(__file__), machine.describe()["cpu"]]
    facts += [picture_sha256(picture) for picture in request.pictures]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def write(folder: Path) -> Network:
        search = _Search(request, engine, options, report)
        made, facts = search.run()
        target = folder / "main.onnx"
        target.write_bytes(Path(made.main.onnx_path).read_bytes())
        assert made.lowering is not None
        main = replace(made.main, onnx_path=str(target))
        return replace(made, main=main, precision="auto", lowering={**made.lowering, "search": facts})

    return made_once(cache_folder(), key, write)


def split(pictures: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures to calibrate on, and pictures to judge on; none is among both.

    Raises:
        UserError: there are too few to hold any back.
    """
    distinct = {picture_sha256(picture): picture for picture in pictures}
    if len(distinct) >= EVERY:
        own = list(distinct.values())
        return [p for i, p in enumerate(own) if i % EVERY != EVERY - 1], own[EVERY - 1 :: EVERY]
    held = [picture for _, picture in held_back_pictures() if picture_sha256(picture) not in distinct]
    if not held:
        raise UserError(
            f"`--precision auto`: none of {len(distinct)} calibration pictures can be held back",
            f"{EVERY} or more different ones",
            "Add pictures to `--calibration DIR`",
        )
    return list(distinct.values()), held


def _base_precision(request: LoweringRequest) -> str:
    # Engines that take int8 around 0 alone are TensorRT's: the rest is FP16 there. CPUs have no FP16 to gain from.
    return "int8" if request.recipe.shifted else "int8+fp16"


class _Search:
    def __init__(self, request: LoweringRequest, engine: str, options: Options, report: Report) -> None:
        self._request, self._report = request, report
        self._pictures = split(request.pictures)
        self._inputs, self._held = (calibration_inputs(pictures, request.spec) for pictures in self._pictures)
        recipe = replace(request.recipe, precision="int8", floor_db=None)
        original = original_graph(request.network, _base_precision(request))
        further = further_inputs(self._pictures[0], request.spec, request.network.statistics)
        self._quantiser = Quantiser(original, request.spec, recipe, self._inputs, further)
        self._expected = [run_graph(original, x) for x in self._held]
        self._engine = engines.get(engine)
        self._options = options
        self._runs = not (self._engine.missing() or self._engine.device_missing(options.device))

    def run(self) -> tuple[Network, dict[str, Any]]:
        """The network of the plan that was found, and how it was found.

        Raises:
            UserError: no plan with a quantised layer keeps the floor.
        """
        floor = float(self._request.recipe.floor_db or 0)
        curve: list[Point] = []
        most = -np.inf
        for fresh in self._rounds(floor):
            curve += fresh
            most = max([most, *(point.psnr_db for point in fresh if point.psnr_db < floor)])
            enough = [point for point in fresh if point.psnr_db >= floor]
            for point in sorted(enough, key=lambda point: (point.ms or 0, -point.low_mac_share)):
                # What is shipped is judged, not what was tried: halved, or best by another way of rounding.
                made, psnr_db = self._made(point.kept)
                if psnr_db >= floor:
                    cost = f"measured on {self._engine.name}" if self._runs else "multiply-accumulates"
                    facts = {"floor_db": floor, "psnr_db": psnr_db, "held_back": len(self._held), "cost": cost}
                    return made, {**facts, "curve": [point.to_dict() for point in curve]}
                most = max(most, psnr_db)
        raise UserError(
            f"`--floor {floor:g}dB`: no plan with a layer in int8 keeps it, {most:.1f} dB is the most",
            "a lower floor",
            "Choose a lower floor, or a precision without int8",
        )

    def _rounds(self, floor: float) -> Iterator[list[Point]]:
        """Plans with ever more layers in float: until FURTHER lie behind the first that keeps the floor as tried, then
        one more at a time, for as long as none of those before keeps it as made."""
        best = max(self._quantiser.attempts(self._report), key=lambda attempt: attempt.psnr_db)
        found = [self._point(best, ())]
        if found[0].psnr_db >= floor:
            yield found
            found = []
        names = self._most_harmful(best)
        enough = 0
        for count in range(1, len(names)):
            self._report(f"search, {count} layers in float", count / len(names))
            found.append(self._point(best, names[:count]))
            enough += found[-1].psnr_db >= floor
            if enough > FURTHER:
                yield found
                found = []
        yield found

    def _made(self, kept: tuple[str, ...]) -> tuple[Network, float]:
        """The network that keeps these layers in float, and its quality on the held-back pictures."""
        import onnx

        recipe = replace(self._request.recipe, precision=_base_precision(self._request), kept=kept, floor_db=None)
        request = replace(self._request, recipe=recipe, pictures=self._pictures[0])
        made = lowered_network(request, cache_folder(), self._report)
        if self._runs:
            outputs, _ = self._run(made.main)
        else:
            model = onnx.load(made.main.onnx_path)
            outputs = [run_graph(as_rounded(model), x) for x in self._held]
        return made, worst_psnr_db(outputs, self._expected, self._request.spec)

    def _most_harmful(self, best: Attempt) -> list[str]:
        """Layers by squared error that each alone causes, per multiply-accumulate that leaving it in float costs."""
        from export.work import layer_macs

        layers = self._quantiser.layers
        macs = layer_macs(self._quantiser.original, self._inputs[0].shape)
        harm = {}
        for number, layer in enumerate(layers):
            self._report(f"search, harm of {layer.name}", number / len(layers))
            others = [other.name for other in layers if other is not layer]
            psnr_db = self._quantiser.attempt(best.base, others).psnr_db
            harm[layer.name] = 10 ** (-psnr_db / 10) / max(macs[layer.node], 1)
        return sorted(harm, key=lambda name: -harm[name])

    def _point(self, best: Attempt, kept: Collection[str]) -> Point:
        attempt = self._quantiser.attempt(best.base, kept)
        share = self._quantiser.low_mac_share(kept)
        if not self._runs:
            outputs = [run_graph(attempt.model, x) for x in self._held]
            return Point(tuple(kept), worst_psnr_db(outputs, self._expected, self._request.spec), None, share)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.onnx"
            path.write_bytes(qdq.folded_weights(attempt.model).SerializeToString())
            # Plans are cached by this digest.
            main = self._request.network.main
            graph = replace(main, onnx_path=str(path), sha256=file_sha256(path), state_path="", role="onnx")
            outputs, ms = self._run(graph)
        return Point(tuple(kept), worst_psnr_db(outputs, self._expected, self._request.spec), ms, share)

    def _run(self, graph: Graph) -> tuple[list[np.ndarray], float]:
        with self._engine.load(graph, self._options) as session:
            outputs = [session.run({INPUT: x})[OUTPUT] for x in self._held]
            samples = []
            for _ in range(5):
                start = time.perf_counter()
                session.enqueue()
                session.synchronize()
                samples.append(time.perf_counter() - start)
        return outputs, float(np.median(samples)) * 1e3

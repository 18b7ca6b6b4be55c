"""Every way to quantise one FP32 graph, tried on the same calibration, and what each gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from export import qdq, ranges, recovery, rounding
from export.as_rounded import run_graph
from export.calibration import CALIBRATION_SIDE
from export.centred import centred
from export.network import Network
from export.onnx_file import folded
from export.ranges import Report
from export.recipe import MEASURED_CLIPPING, WEIGHT_PEAK, Recipe
from export.typed_graph import with_opset
from export.work import layer_macs
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

_FP8_PEAK = 448.0
_LEAST_OPSET = {"int8": 13, "auto": 13, "int8+fp16": 19, "fp8": 19}
"""The first whose Q/DQ take scales per channel, FP16 scales, and E4M3."""


def original_graph(network: Network, precision: str) -> Any:
    """The FP32 graph whose layers are lowered: folded, its nodes named, of an opset that has what the precision needs.

    Raises:
        UserError: the opset cannot be raised as far.
    """
    import onnx

    model = onnx.load(network.main.onnx_path)
    return qdq.named_nodes(folded(with_opset(model, _LEAST_OPSET.get(precision, 1))))


@dataclass(frozen=True)
class _Base:
    """One FP32 graph, and the numbers that quantise it; those of a layer do not depend on which others are chosen."""

    title: str
    model: Any
    weights: Mapping[str, np.ndarray]
    """Of every layer, on its grid."""
    scales: Mapping[str, np.ndarray]
    recovered: bool
    """Whether weights are rounded so that their errors cancel."""
    activations: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    clipping: str = ""
    behind: Sequence[str] = ()
    """Tensors whose range has the least error behind the bounded function that reads them, not by `clipping`."""


@dataclass(frozen=True)
class Attempt:
    """A graph with Q/DQ pairs, weights still float in front of theirs."""

    title: str
    model: Any
    """None where a better attempt of the same row is held: some graphs have half a gigabyte."""
    psnr_db: float
    """Against FP32 on the calibration pictures, the worst of them."""
    base: _Base


class Quantiser:
    """One FP32 graph and its calibration: every way to quantise it is tried on the same values."""

    def __init__(
        self,
        original: Any,
        spec: ModelSpec,
        recipe: Recipe,
        inputs: Sequence[np.ndarray],
        further: Sequence[np.ndarray] = (),
    ) -> None:
        """
        Args:
            original: folded, its nodes named.
            inputs: (1, C, H, W) float32 calibration pictures; attempts are judged on them.
            further: more of them, for ranges and moments alone.

        Raises:
            UserError: a layer to keep that the graph does not have, or no layer that can be quantised.
        """
        self.original, self.spec, self.recipe, self.inputs = original, spec, recipe, inputs
        self._seen = [*inputs, *further]
        number: Any = "fp8" if recipe.precision == "fp8" else "int8"
        self.scheme = qdq.Scheme(recipe.placement, recipe.shifted and number == "int8", number)
        around_zero = self.scheme.number == "int8" and not self.scheme.shifted
        self._start, self._steps = centred(original, self._seen) if around_zero else (original, {})
        self.layers = qdq.layers(self._start, self.scheme)
        names = [layer.name for layer in self.layers]
        if not names:
            raise UserError(
                f"precision `{recipe.precision}`: the graph has no layer that can be quantised",
                "convolutions or matrix products with constant weights",
                "Choose fp16 or bf16",
            )
        for name in recipe.kept:
            if name not in names:
                raise UserError(f"`--layers`: the network has no layer `{name}`", ", ".join(names), "Correct the file")
        self._half = recipe.precision == "int8+fp16"
        self._expected = [run_graph(original, x) for x in inputs]

    def attempts(self, report: Report) -> list[Attempt]:
        """What the recipe allows, in the order tried; those behind the first few build on the best before them."""
        chosen = self._chosen(self.recipe.kept)
        if not chosen:
            return []
        start = self._start
        found = self._histograms(start, report)
        ways = MEASURED_CLIPPING if self.recipe.clipping == "best" else (self.recipe.clipping,)
        if self.scheme.number == "fp8":
            ways = ("minmax",)  # its steps grow with the values: there is nothing to gain by clipping
        tried: list[Attempt] = []
        self._try(tried, self._base("rounded to nearest", start, None), found, ways)
        if self.recipe.recovery == "none" or self.scheme.number != "int8":
            return tried
        moments = rounding.moments(start, self.layers, self._seen, report)
        self._try(tried, self._base("errors cancelled", start, moments), found, ways)
        peaks = {name: histogram.channel_peaks for name, histogram in found.items()}
        equal = recovery.equalised(start, self.layers, peaks)
        if equal is not None:
            moments = rounding.moments(equal, self.layers, self._seen, report)
            base = self._base("channels equalised, errors cancelled", equal, moments)
            self._try(tried, base, self._histograms(equal, report), ways)
        return tried

    def _try(
        self, tried: list[Attempt], base: _Base, found: Mapping[str, ranges.Histogram], ways: Sequence[str]
    ) -> None:
        """Adds an attempt for each way of clipping; weights stay as they were rounded."""
        for way in ways:
            tried.append(self.attempt(self._with_ranges(base, found, way), self.recipe.kept))
            best = max(tried, key=lambda attempt: attempt.psnr_db)
            tried[:] = [one if one is best else replace(one, model=None) for one in tried]

    def attempt(self, base: _Base, kept: Collection[str]) -> Attempt:
        """The same numbers with other layers left in float."""
        import onnx
        from onnx import numpy_helper

        chosen = self._chosen(kept)
        model = onnx.ModelProto()
        model.CopyFrom(base.model)
        constants = {i.name: i for i in model.graph.initializer}
        for layer in chosen:
            constants[layer.weight].CopyFrom(numpy_helper.from_array(base.weights[layer.weight], layer.weight))
        names = qdq.tensors(base.model, self.scheme, chosen)
        activations = {name: base.activations[name] for name in names}
        quantised = qdq.with_qdq(model, self.scheme, chosen, activations, base.scales)
        return Attempt(base.title, quantised, self._psnr_db(quantised), base)

    def facts(self, tried: Sequence[Attempt], best: Attempt | None) -> dict[str, Any]:
        """How the result came to be, for the run."""
        chosen = self._chosen(self.recipe.kept)
        low, rest = self.scheme.number, "fp16" if self.recipe.precision == "int8+fp16" else "fp32"
        return {
            "scheme": self.scheme.words + self._bits,
            "tried": [
                {"step": one.title, "clipping": one.base.clipping, "calibration_psnr_db": one.psnr_db} for one in tried
            ],
            "chosen": best.title if best else "nothing is quantised",
            "clipping": best.base.clipping if best else None,
            "judged_behind_bounded": list(best.base.behind) if best else [],
            "layers": {layer.name: low if layer in chosen else rest for layer in self.layers},
            "nodes": {layer.name: layer.node for layer in self.layers},
            "low_mac_share": self.low_mac_share(self.recipe.kept),
            "calibration": {"pictures": len(self.inputs), "side": CALIBRATION_SIDE},
        }

    @property
    def _bits(self) -> str:
        bits = self.recipe.weight_bits
        return f", weights of {bits} bits" if bits != 8 and self.scheme.number == "int8" else ""

    def low_mac_share(self, kept: Collection[str]) -> float:
        """Share of the multiply-accumulates that are quantised where these layers stay in float."""
        macs = layer_macs(self.original, self.inputs[0].shape)
        return sum(macs[layer.node] for layer in self._chosen(kept)) / max(sum(macs.values()), 1)

    def _chosen(self, kept: Collection[str]) -> list[qdq.Layer]:
        return [layer for layer in self.layers if layer.name not in kept]

    def _histograms(self, model: Any, report: Report) -> dict[str, ranges.Histogram]:
        return ranges.histograms(model, qdq.tensors(model, self.scheme, self.layers), self._seen, report)

    def _base(self, title: str, model: Any, moments: Mapping[str, np.ndarray] | None) -> _Base:
        """With its weights rounded, to nearest where there are no moments; ranges are still to be found."""
        from onnx import numpy_helper

        constants = {i.name: i for i in model.graph.initializer}
        weights = {layer.weight: numpy_helper.to_array(constants[layer.weight]) for layer in self.layers}
        bound = WEIGHT_PEAK[self.recipe.weight_bits]
        peak = _FP8_PEAK if self.scheme.number == "fp8" else float(bound)
        scales = rounding.scales_of(weights, self.layers, peak, self._half)
        if moments is not None:
            for layer in self.layers:
                value, step = weights[layer.weight], scales[layer.weight]
                weights[layer.weight] = rounding.rounded(value, step, layer.axis, moments.get(layer.weight), bound)
        return _Base(title, model, weights, scales, moments is not None)

    def _with_ranges(self, base: _Base, found: Mapping[str, ranges.Histogram], clipping: str) -> _Base:
        """The same with ranges found in this way. In front of bounded functions, where the loss is fought and nobody
        asked for another way than minmax, they are those with the least error behind the function."""
        source = qdq.scale_sources(base.model, found)
        own_way = base.recovered and (clipping == "minmax" or self.recipe.clipping == "best")
        through = ranges.saturating(base.model) if own_way else {}
        activations = {name: self._number(found[source[name]], through.get(name), clipping) for name in found}
        activations |= {name: (self._step(step), 0) for name, step in self._steps.items() if name in activations}
        behind = [name for name in activations if name in through]
        return replace(base, activations=activations, clipping=clipping, behind=behind)

    def _number(
        self, histogram: ranges.Histogram, saturating: Callable[[np.ndarray], np.ndarray] | None, clipping: str
    ) -> tuple[float, int]:
        if self.scheme.number == "fp8":
            low, high = ranges.clipped(histogram, ranges.SYMMETRIC, "minmax")
            return max(-low, high, 1e-8) / _FP8_PEAK, 0
        levels = self.scheme.levels
        kept = (
            ranges.saturated(histogram, levels, saturating)
            if saturating
            else ranges.clipped(histogram, levels, clipping)
        )
        scale, zero = ranges.scale_and_zero(*kept, levels)
        return self._step(scale), zero

    def _step(self, scale: float) -> float:
        return float(rounding.half_step(np.asarray(scale))) if self._half else scale

    def _psnr_db(self, model: Any) -> float:
        outputs = [run_graph(model, x) for x in self.inputs]
        return worst_psnr_db(outputs, self._expected, self.spec)


def worst_psnr_db(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray], spec: ModelSpec) -> float:
    """Least PSNR of the pairs in dB, data range 1, not clipped; 200 where all are equal, -inf where one is broken."""
    from reference_models.colour import unit_range

    worst = 200.0
    for output, wanted in zip(outputs, expected, strict=True):
        error = unit_range(output, spec).astype(np.float64) - unit_range(wanted, spec)
        mean = float(np.mean(error**2))
        if not np.isfinite(mean):
            return -np.inf
        worst = min(worst, -10 * np.log10(mean) if mean else 200.0)
    return float(worst)

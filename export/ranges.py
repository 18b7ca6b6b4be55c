"""Which values the tensors of a graph take on calibration pictures, and where quantisation should clip them.

Two passes through ONNX Runtime: extremes first, then histograms between them. What is kept is BINS counts per tensor,
however many pictures there are; ONNX Runtime's own collectors keep every value of every picture in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.network import INPUT
from export.onnx_file import onnxruntime_session
from reference_models.errors import UserError

BINS = 4096
METHODS = ("mse", "minmax", "percentile", "entropy")
PERCENTILE = 99.99
_LEAST_WIDTH = 1e-30
Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Levels:
    """The integers that one number format has: lowest, highest, and whether 0 may lie elsewhere than at 0."""

    low: int
    high: int
    shifted: bool


SYMMETRIC, SHIFTED = Levels(-128, 127, False), Levels(0, 255, True)
"""int8 with zero point 0, which TensorRT demands; uint8 with any zero point."""


@dataclass(frozen=True)
class Histogram:
    """How often a tensor's values fell between `low` and `high`, in bins of equal width."""

    low: float
    high: float
    counts: np.ndarray
    """(BINS,) float64."""
    channel_peaks: np.ndarray
    """(C,) largest magnitude per channel; (1,) for tensors without channels."""

    @property
    def centres(self) -> np.ndarray:
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (np.arange(len(self.counts)) + 0.5)


def histograms(model: Any, names: Sequence[str], inputs: Sequence[np.ndarray], report: Report) -> dict[str, Histogram]:
    """One histogram per tensor of an FP32 onnx.ModelProto.

    Args:
        names: tensors, the graph's input among them if wanted.
        inputs: (1, C, H, W) float32, one per calibration picture; sizes may differ.
        report: called with what is done and its share.

    Raises:
        UserError: values that are not finite.
    """
    lows = dict.fromkeys(names, np.inf)
    highs = dict.fromkeys(names, -np.inf)
    peaks: dict[str, np.ndarray] = {}
    counts = {name: np.zeros(BINS) for name in names}
    steps = 2 * len(inputs) * max(len(names), 1)
    for number, (name, value) in enumerate(values_of(model, names, inputs)):
        report("ranges", number / steps)
        _check_finite(name, value)
        lows[name] = min(lows[name], float(value.min()))
        highs[name] = max(highs[name], float(value.max()))
        peak = _channel_peaks(value)
        peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    for number, (name, value) in enumerate(values_of(model, names, inputs)):
        report("histograms", 0.5 + number / steps)
        counts[name] += np.histogram(value.astype(np.float64), BINS, _bounds(lows[name], highs[name]))[0]
    return {name: Histogram(*_bounds(lows[name], highs[name]), counts[name], peaks[name]) for name in names}


_SATURATING: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),
}


def clipped(histogram: Histogram, levels: Levels, method: str) -> tuple[float, float]:
    """Lowest and highest value that quantisation should keep; 0 lies between them.

    Args:
        method: one of METHODS.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if method == "minmax":
        return low, high
    if method == "percentile":
        return _percentiles(histogram)
    if method == "mse":
        return _least_error(histogram, levels)
    if method == "entropy":
        return _least_divergence(histogram, levels)
    raise ValueError(f"method {method!r}; one of {', '.join(METHODS)}")


def saturating(model: Any) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Tensor → the bounded function that alone reads it."""
    kinds: dict[str, set[str]] = {value.name: {"output"} for value in model.graph.output}
    for node in model.graph.node:
        for name in node.input:
            kinds.setdefault(name, set()).add(node.op_type)
    return {name: _SATURATING[kind] for name, (kind, *more) in kinds.items() if not more and kind in _SATURATING}


def saturated(
    histogram: Histogram, levels: Levels, function: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Lowest and highest value to keep of a tensor that only a saturating function reads: what is far out all becomes
    its limit, and the levels are worth more near 0. The least expected squared error behind the function."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    wanted = function(histogram.centres)
    shares = np.geomspace(0.02, 1.0, 60)
    choices = [(low * a, high * b) for a in shares for b in shares]
    if not levels.shifted:
        choices = [(-max(-low, high) * a, max(-low, high) * a) for a in shares]

    def error(choice: tuple[float, float]) -> float:
        kept = function(quantised(histogram.centres, *scale_and_zero(*choice, levels), levels))
        return float(((kept - wanted) ** 2) @ histogram.counts)

    return min(choices, key=error)


def scale_and_zero(low: float, high: float, levels: Levels) -> tuple[float, int]:
    """Step and zero point of the range [low, high], which holds 0; a range without width, or with one too small for
    float32, gets the step of [-1, 1]."""
    if high - low < _LEAST_WIDTH:
        low, high = -1.0, 1.0
    if not levels.shifted:
        return max(-low, high) / levels.high, 0
    scale = (high - low) / (levels.high - levels.low)
    return scale, int(np.clip(round(levels.low - low / scale), levels.low, levels.high))


def quantised(values: np.ndarray, scale: float, zero: int, levels: Levels) -> np.ndarray:
    """The values that are left: rounded half to even, clipped, and brought back."""
    return (np.clip(np.rint(values / scale) + zero, levels.low, levels.high) - zero) * scale


def values_of(model: Any, names: Sequence[str], inputs: Sequence[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Every named tensor of an FP32 graph for every input, with its name; the graph's input among them if named."""
    session = onnxruntime_session(_with_outputs(model, names))
    known = {output.name for output in session.get_outputs()}
    wanted = [name for name in names if name in known]
    for x in inputs:
        yield from zip(wanted, session.run(wanted, {INPUT: x}) if wanted else [], strict=True)
        yield from ((name, x) for name in names if name not in known)


def _with_outputs(model: Any, names: Iterable[str]) -> Any:
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    known = {value.name for value in copied.graph.output}
    own = {value.name for value in copied.graph.input}
    made = {output for node in copied.graph.node for output in node.output}
    for name in names:
        if name not in known | own:
            if name not in made:
                raise ValueError(f"no tensor {name!r} in this graph")
            copied.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return copied


def _check_finite(name: str, value: np.ndarray) -> None:
    if not np.isfinite(value).all():
        raise UserError(
            f"calibration: tensor `{name}` holds values that are not finite",
            "pictures and weights with which the network computes finite numbers",
            "Check the weights, and run `bench run --precision fp32` on the same pictures",
        )


def _channel_peaks(value: np.ndarray) -> np.ndarray:
    if value.ndim < 2:
        return np.abs(value).max(keepdims=True).reshape(-1)[:1]
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    return np.maximum(value.max(axes), -value.min(axes))


def _bounds(low: float, high: float) -> tuple[float, float]:
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _percentiles(histogram: Histogram) -> tuple[float, float]:
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (1 - PERCENTILE / 100) / 2
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    low, high = edges[np.searchsorted(share, tail)], edges[np.searchsorted(share, 1 - tail) + 1]
    return min(float(low), 0.0), max(float(high), 0.0)


_SHARES = np.linspace(0.3, 1.0, 36)


def _least_error(histogram: Histogram, levels: Levels) -> tuple[float, float]:
    """Clipping with the least expected squared error."""
    values, weights = histogram.centres, histogram.counts
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if levels.shifted:
        choices = [(low * a, high * b) for a in _SHARES for b in _SHARES]
    else:
        peak = max(-low, high)
        choices = [(-peak * a, peak * a) for a in _SHARES]

    def error(choice: tuple[float, float]) -> float:
        kept = quantised(values, *scale_and_zero(*choice, levels), levels)
        return float(((kept - values) ** 2) @ weights)

    found = min(choices, key=error)
    return (max(found[0], low), min(found[1], high)) if levels.shifted else found


def _least_divergence(histogram: Histogram, levels: Levels) -> tuple[float, float]:
    """Clipping with the least Kullback-Leibler divergence of the values from what quantisation leaves of them.

    Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017: what is clipped counts for the outermost bin, and each
    level's counts are spread over those of its bins that are not empty.
    """
    values, weights = histogram.centres, histogram.counts
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    best, least = (low, high), np.inf
    for share in _SHARES:
        bounds = low * share, high * share
        inside = (values >= bounds[0]) & (values <= bounds[1])
        if weights[inside].sum() == 0:
            continue
        real = weights[inside].copy()
        real[0] += weights[values < bounds[0]].sum()
        real[-1] += weights[values > bounds[1]].sum()
        scale, zero = scale_and_zero(*bounds, levels)
        level = np.clip(np.rint(values[inside] / scale) + zero, levels.low, levels.high)
        kept = weights[inside]
        _, which = np.unique(level, return_inverse=True)
        filled = np.bincount(which, kept > 0)
        spread = np.where(kept > 0, np.bincount(which, kept)[which] / np.maximum(filled[which], 1), 0)
        p, q = real / real.sum(), spread / spread.sum()
        both = (p > 0) & (q > 0)
        missed = p[(p > 0) & (q == 0)].sum()
        divergence = float((p[both] * np.log(p[both] / q[both])).sum()) + (np.inf if missed > 0.01 else missed)
        if divergence < least:
            best, least = bounds, divergence
    return best

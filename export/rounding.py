"""Weights on their grid, rounded so that errors cancel on the values that a layer really sees.

Rounding to nearest makes each weight's error small; the sum over a patch is what counts. Activations behind a ReLU have
a large mean, so that such errors add up: on CAN24 they cost more than the activations' own quantisation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.qdq import Layer
from export.ranges import Report, values_of

PATCHES = 8192
"""Places per picture at which a layer's input is looked at."""
LARGEST = 5120
"""Weights per output channel up to which the second moments (8 bytes times its square) are kept."""
_BLOCK = 128
_DAMPING = 1e-4


def moments(
    model: Any, chosen: Collection[Layer], inputs: Sequence[np.ndarray], report: Report
) -> dict[str, np.ndarray]:
    """Weight name → (K, K) float64 second moments of its patches in the FP32 graph: the mean of x xᵀ over patches x of
    K = in_channels * kernel values, zeros around the picture included, of all layers that read it.

    Weights that cannot be rounded with them are left out: those of groups and deconvolutions, with more than LARGEST
    values per output, or read by layers of several kinds.

    Args:
        inputs: (1, C, H, W) float32 calibration pictures.
    """
    geometry = {layer.node: found for layer in chosen if (found := _geometry(model, layer))}
    kinds: dict[str, set[tuple[str, int | None, bool]]] = {}
    for layer in chosen:
        kinds.setdefault(layer.weight, set()).add((layer.operator, layer.axis, layer.node in geometry))
    by_tensor: dict[str, list[Layer]] = {}
    for layer in chosen:
        if layer.node in geometry and len(kinds[layer.weight]) == 1:
            by_tensor.setdefault(layer.data, []).append(layer)
    random = np.random.default_rng(0)
    sums: dict[str, tuple[Any, int]] = {}
    for number, (name, value) in enumerate(values_of(model, list(by_tensor), inputs)):
        report("patches", number / (len(by_tensor) * len(inputs)))
        for layer in by_tensor[name]:
            patches = _patches(value, geometry[layer.node], random)
            second, count = sums.get(layer.weight, (0.0, 0))
            sums[layer.weight] = second + (patches.T @ patches).astype(np.float64), count + len(patches)
    return {name: second / count for name, (second, count) in sums.items()}


def rounded(
    weight: np.ndarray, scales: np.ndarray, axis: int | None, second: np.ndarray | None, bound: int = 127
) -> Any:
    """The weight, each value a whole multiple of its scale, float32.

    One input after the other is rounded for all outputs, and its error is made up for by those that are not rounded
    yet, as far as the patches' second moments say that they can. To nearest without moments, and for outputs that
    come out no better.

    Source: E. Frantar et al., "Optimal Brain Compression", NeurIPS 2022, in the fixed order and with the Cholesky form
    of "GPTQ", ICLR 2023, section 3. Order: strongest inputs first.

    Args:
        weight: outputs along `axis`, the K values of a patch in the order of the others.
        scales: (outputs,) or ().
    """
    outputs = np.moveaxis(weight, axis, 0) if axis else weight
    steps = np.broadcast_to(np.asarray(scales, np.float64).reshape(-1, 1), (outputs.shape[0], 1))
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    kept = np.clip(np.rint(flat / steps), -bound, bound) * steps
    if second is not None:
        other = _compensated(flat, steps, second, bound)
        better = _expected_error(flat - other, second) < _expected_error(flat - kept, second)
        kept = np.where(better[:, None], other, kept)
    shaped = kept.reshape(outputs.shape).astype(np.float32)
    return np.moveaxis(shaped, 0, axis) if axis else shaped


def _expected_error(missing: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(outputs,) mean squared error of each output, of weights (outputs, K) that are missing."""
    return np.einsum("ij,ij->i", missing @ second, missing)


def _compensated(flat: np.ndarray, steps: np.ndarray, second: np.ndarray, bound: int) -> np.ndarray:
    count = flat.shape[1]
    damped = second + (_DAMPING * np.trace(second) / count + 1e-12) * np.eye(count)
    order = np.argsort(-np.diag(damped), kind="stable")
    # Upper factor of the inverse: row i holds how later inputs make up for input i.
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, kept = flat[:, order], np.empty_like(flat)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        errors = np.empty((len(flat), stop - start))
        for i in range(start, stop):
            kept[:, i] = np.clip(np.rint(left[:, i] / steps[:, 0]), -bound, bound) * steps[:, 0]
            errors[:, i - start] = (left[:, i] - kept[:, i]) / factor[i, i]
            left[:, i:stop] -= np.outer(errors[:, i - start], factor[i, i:stop])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    back = np.empty_like(kept)
    back[:, order] = kept
    return back


@dataclass(frozen=True)
class _Geometry:
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""
    channels: int
    product: bool = False
    """Gemm or MatMul: a patch is a row."""


def _geometry(model: Any, layer: Layer) -> _Geometry | None:
    from onnx import helper

    node = next(n for n in model.graph.node if n.name == layer.node)
    shape = tuple(next(i for i in model.graph.initializer if i.name == layer.weight).dims)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if layer.operator in {"Gemm", "MatMul"}:
        inner = shape[1] if layer.axis == 0 else shape[0]
        plain = len(shape) == 2 and inner <= LARGEST and not attributes.get("transA", 0)
        return _Geometry((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), inner, product=True) if plain else None
    fits = len(shape) == 4 and int(np.prod(shape[1:])) <= LARGEST
    plain = attributes.get("group", 1) == 1 and attributes.get("auto_pad", b"NOTSET") in {b"NOTSET", b"VALID"}
    if layer.operator != "Conv" or not fits or not plain:
        return None
    pair = [1, 1]
    strides, dilations = tuple(attributes.get("strides", pair)), tuple(attributes.get("dilations", pair))
    return _Geometry(shape[2:], strides, dilations, tuple(attributes.get("pads", [0] * 4)), shape[1])


def _patches(value: np.ndarray, geometry: _Geometry, random: np.random.Generator) -> np.ndarray:
    """(places, K) float32: what the kernel sees at random places of the output."""
    if geometry.product:
        rows = value.reshape(-1, value.shape[-1])
        return rows[random.choice(len(rows), min(PATCHES, len(rows)), replace=False)]
    top, left, bottom, right = geometry.pads
    padded = np.pad(value[0], ((0, 0), (top, bottom), (left, right)))
    (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.strides, geometry.dilations
    height = (padded.shape[1] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[2] - dw * (kw - 1) - 1) // sw + 1
    count = min(PATCHES, height * width)
    y, x = np.divmod(random.choice(height * width, count, replace=False), width)
    y, x = y * sh, x * sw
    rows = y[:, None, None] + dh * np.arange(kh)[None, :, None]
    columns = x[:, None, None] + dw * np.arange(kw)[None, None, :]
    return padded[:, rows, columns].transpose(1, 0, 2, 3).reshape(count, -1)


def scales_of(
    weights: Mapping[str, np.ndarray], chosen: Collection[Layer], peak: float, half: bool
) -> dict[str, np.ndarray]:
    """Weight name → the step that its largest magnitude asks for, float32, per output channel where the layer has
    several. Channels of zeros take the layer's largest.

    Args:
        peak: largest number of the format.
        half: whether the steps will be stored as float16; then they are such numbers already.
    """
    found = {}
    for layer in chosen:
        magnitude = np.abs(weights[layer.weight])
        axes = None if layer.axis is None else tuple(i for i in range(magnitude.ndim) if i != layer.axis)
        largest = np.asarray(magnitude.max(axes), np.float64)
        steps = np.where(largest > 0, largest, largest.max() or 1.0) / peak
        found[layer.weight] = half_step(steps) if half else steps.astype(np.float32)
    return found


def half_step(steps: np.ndarray) -> np.ndarray:
    """The next float16 above, as float32: none smaller than its least normal number, below which steps get coarse."""
    least = np.finfo(np.float16).smallest_normal
    rounded_up = np.nextafter(steps.astype(np.float16), np.float16(np.inf))
    exact = steps.astype(np.float16).astype(np.float64) >= steps
    return np.maximum(np.where(exact, steps.astype(np.float16), rounded_up), least).astype(np.float32)

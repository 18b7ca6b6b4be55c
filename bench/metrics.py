"""Two network outputs → how much they differ; and METRICS, the figures of a run as data for tables, gate and report.

Outputs are float32 arrays (N, C, H, W), nominal value range [0, 1], compared raw: clipping would hide a precision
fault. Sums are float64, a strip of rows at a time, so that a 4K picture needs no second copy. No clock is read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reference_models.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_PX = 11
"""Side of the SSIM window; its radius is the border that SSIM leaves out."""
SIGMA_PX = 1.5
K1, K2 = 0.01, 0.03
DATA_RANGE = 1.0
STRIP_ROWS = 32
"""Rows handled at once: 2560 pixels wide, the strip's float64 arrays stay in the second-level cache."""

CONVENTION: dict[str, Any] = {
    "channels": "all planes as the network writes them, equal weight",
    "range": DATA_RANGE,
    "clipped": False,
    "border": "psnr, max_abs: whole picture; ssim: centres of the windows that lie inside, 5 px less on each side",
    "ssim": "Wang 2004: 11x11 Gaussian, sigma 1.5, K1 0.01, K2 0.03, population covariance, mean over planes",
}
"""What the figures of `compare` mean; stored with every run."""


def compare(candidate: NDArray[Any], reference: NDArray[Any]) -> dict[str, Any]:
    """`psnr_db`, `ssim`, `max_abs`, `identical` and `finite` of a candidate against its reference.

    With a NaN or an infinity on either side the three figures are None and both flags False: broken never looks good.
    `psnr_db` is None and `identical` True where no value differs.

    Raises:
        ValueError: shapes differ, or are not (N, C, H, W) with content.
    """
    _check_shapes(candidate, reference)
    if not (_is_finite(candidate) and _is_finite(reference)):
        return {"psnr_db": None, "ssim": None, "max_abs": None, "identical": False, "finite": False}
    largest = max_abs(candidate, reference)
    return {
        "psnr_db": psnr_db(candidate, reference),
        "ssim": ssim(candidate, reference),
        "max_abs": largest,
        "identical": largest == 0,
        "finite": True,
    }


def psnr_db(candidate: NDArray[Any], reference: NDArray[Any]) -> float | None:
    """10·log10(1 / mean squared error) in dB for a data range of 1; None (infinite) where no value differs.

    Both arrays must be finite; `compare` looks.

    Raises:
        ValueError: as `compare`.
    """
    import numpy as np

    _check_shapes(candidate, reference)
    strips = _strips(candidate, reference, overlap=0)
    mse = math.fsum(float(np.square(x - y).sum()) for x, y in strips) / candidate.size
    return 10 * math.log10(DATA_RANGE**2 / mse) if mse else None


def max_abs(candidate: NDArray[Any], reference: NDArray[Any]) -> float:
    """Largest absolute difference of any value, in the outputs' own unit; 0 where no value differs.

    Raises:
        ValueError: as `compare`.
    """
    import numpy as np

    _check_shapes(candidate, reference)
    return max(float(np.abs(x - y).max()) for x, y in _strips(candidate, reference, overlap=0))


def ssim(candidate: NDArray[Any], reference: NDArray[Any]) -> float | None:
    """Mean structural similarity, at most 1 (only where no value differs); None below 11 px on a side: undefined.

    The same figure as `skimage.metrics.structural_similarity` (float64, Gaussian weights, population covariance), which
    also leaves out a border of 5 px; here a strip at a time, several times faster and in a hundredth of the memory.
    Both arrays must be finite; `compare` looks.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    IEEE Transactions on Image Processing 13 (2004), section III-B and equation 13, doi:10.1109/TIP.2003.819861.

    Raises:
        ValueError: as `compare`.
    """
    _check_shapes(candidate, reference)
    count, _, height, width = candidate.shape
    if min(height, width) < WINDOW_PX:
        return None
    # One sum per row of the map: these do not depend on where a strip begins, and fsum adds them without rounding.
    rows = [
        row for x, y in _strips(candidate, reference, WINDOW_PX - 1) for row in _ssim_map(x, y).sum(axis=1).tolist()
    ]
    margin = WINDOW_PX - 1
    return math.fsum(rows) / (count * candidate.shape[1] * (height - margin) * (width - margin))


def _ssim_map(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """SSIM around every pixel whose window lies inside; 10 rows and 10 columns smaller than `x` and `y`.

    The two variances occur only as a sum, so one filtered picture serves both. Source: as `ssim`, equation 13.
    """
    c1, c2 = (K1 * DATA_RANGE) ** 2, (K2 * DATA_RANGE) ** 2
    mean_x, mean_y = _smooth(x), _smooth(y)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _smooth(x * y) - product
    variances = _smooth(x * x + y * y) - squares
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def _smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted mean over the window around every pixel whose window lies inside."""
    last = WINDOW_PX - 1
    for _ in range(2):  # along the first axis, transposed, and again
        length = len(x) - last
        out = _WEIGHTS[last // 2] * x[last // 2 : last // 2 + length]
        for k in range(last // 2):  # the window is symmetric: one multiplication per pair
            out += _WEIGHTS[k] * (x[k : k + length] + x[last - k : last - k + length])
        x = out.T
    return x


def _gaussian() -> list[float]:
    """Weights of the window along one axis, sum 1."""
    radius = WINDOW_PX // 2
    weights = [math.exp(-0.5 * (k / SIGMA_PX) ** 2) for k in range(-radius, radius + 1)]
    return [weight / math.fsum(weights) for weight in weights]


_WEIGHTS = _gaussian()


def _strips(
    candidate: NDArray[Any], reference: NDArray[Any], overlap: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Pairs of float64 strips of one plane: STRIP_ROWS rows, and `overlap` more that the next strip has too."""
    import numpy as np

    height, width = candidate.shape[2:]
    planes = zip(candidate.reshape(-1, height, width), reference.reshape(-1, height, width), strict=True)
    for x, y in planes:
        for top in range(0, height - overlap, STRIP_ROWS):
            rows = slice(top, top + STRIP_ROWS + overlap)
            yield x[rows].astype(np.float64), y[rows].astype(np.float64)


def _check_shapes(candidate: NDArray[Any], reference: NDArray[Any]) -> None:
    if candidate.shape != reference.shape:
        raise ValueError(f"shapes differ: candidate {candidate.shape}, reference {reference.shape}")
    if candidate.ndim != 4 or candidate.size == 0:
        raise ValueError(f"shape is {candidate.shape}. Expected (N, C, H, W) with content")


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether no value is NaN or infinite; plane by plane, to make no mask of the whole."""
    import numpy as np

    return all(bool(np.isfinite(plane).all()) for image in array for plane in image)


@dataclass(frozen=True)
class Metric:
    """One figure of a run: where it is, how it is shown, which way is better. A row of METRICS is a table column."""

    key: str
    """Dotted path into a run."""
    column: str
    """Head of its column, with the unit."""
    better: Literal["lower", "higher"]
    digits: int | None
    """Decimals shown; None: four significant digits, of which more would be noise."""
    dispensable: int = 0
    """0: always shown. Else the columns with the highest number go first where a terminal is narrow."""
    share: bool = False
    """The run holds a share from 0 to 1, shown in per cent."""


METRICS: tuple[Metric, ...] = (
    Metric("latency_ms.p50", "median ms", "lower", None),
    Metric("throughput_fps", "fps", "higher", None, dispensable=3),
    Metric("work.mpixel_per_s", "MPx/s", "higher", None, dispensable=5),
    Metric("memory.host_peak_mib", "MiB", "lower", 0, dispensable=1),
    Metric("memory.device_peak_mib", "device MiB", "lower", 0),
    Metric("quality.vs_reference.psnr_db", "PSNR dB", "higher", 1),
    Metric("quality.vs_reference.ssim", "SSIM", "higher", 4, dispensable=4),
    Metric("quality.vs_original.psnr_db", "orig. dB", "higher", 1),
    Metric("quality.vs_original.ssim", "orig. SSIM", "higher", 4, dispensable=4),
    Metric("work.limit_share", "of limit", "higher", 0, dispensable=2, share=True),
)
"""In the order of the table's columns; one that no run has a figure for is not shown."""


def value(run: Mapping[str, Any], key: str) -> float | None:
    """The number at a dotted path into a run; None where the run has none.

    Raises:
        UserError: something other than a number is there (the file was changed by hand).
    """
    found: Any = run
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UserError(f"run {run.get('id')}: `{key}` is {found!r}", "a number or null", "Measure this case again")
    return float(found)


def text(run: Mapping[str, Any], metric: Metric) -> str:
    """The figure as it is shown: "∞" dB where pictures are equal, "NaN" where an output is broken, "" for none;
    ">0.9999" for an SSIM that only rounding would make 1."""
    if metric.key.startswith("quality."):
        _, owner, name = metric.key.split(".")
        quality = run["quality"].get(owner)
        if quality and not quality.get("finite", True):
            return "NaN"
        if quality and quality.get("identical") and name == "psnr_db":
            return "∞"
    number = value(run, metric.key)
    if number is None:
        return ""
    if metric.share:
        return f"{number:.{metric.digits}%}"
    shown = _significant(number) if metric.digits is None else f"{number:.{metric.digits}f}"
    if metric.key.endswith(".ssim") and number < 1 and float(shown) == 1:
        return f">{1 - 10 ** -(metric.digits or 0):.{metric.digits}f}"  # 1.0000 is kept for pictures that are equal
    return shown


def _significant(number: float) -> str:
    if number >= 100:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}" if number >= 1 else f"{number:.3g}"

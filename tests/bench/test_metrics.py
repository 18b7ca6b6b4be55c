"""The metrics against their definitions, scikit-image, and hand-made cases."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import metrics
from reference_models.errors import UserError


def picture(height: int, width: int, planes: int = 3, seed: int = 0) -> NDArray[np.float32]:
    """Smooth waves with fine noise, a little outside [0, 1] in places."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [0.5 + 0.5 * np.sin(x / (9 + plane)) * np.cos(y / (7 + plane)) for plane in range(planes)]
    return (np.stack(waves)[None] + random.normal(0, 0.02, (1, planes, height, width))).astype(np.float32)


def pair(height: int = 75, width: int = 93, noise: float = 0.05) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    reference = picture(height, width)
    random = np.random.default_rng(9)
    return (reference + random.normal(0, noise, reference.shape)).astype(np.float32), reference


def scikit_ssim(candidate: NDArray[Any], reference: NDArray[Any]) -> float:
    """The published definition as scikit-image writes it, plane by plane in float64."""
    from skimage.metrics import structural_similarity

    planes = zip(candidate[0].astype(np.float64), reference[0].astype(np.float64), strict=True)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return float(np.mean([structural_similarity(x, y, **settings) for x, y in planes]))


# PSNR and the largest difference


def test_psnr_of_a_known_error() -> None:
    reference = np.zeros((1, 3, 20, 20), np.float32)
    assert metrics.psnr_db(reference + np.float32(0.5), reference) == pytest.approx(20 * math.log10(2), abs=1e-12)
    assert metrics.psnr_db(reference + np.float32(2), reference) == pytest.approx(-20 * math.log10(2), abs=1e-12)


def test_psnr_agrees_with_the_definition_over_several_strips() -> None:
    candidate, reference = pair()
    mse = np.mean((candidate.astype(np.float64) - reference) ** 2)
    assert metrics.psnr_db(candidate, reference) == pytest.approx(10 * math.log10(1 / mse), rel=1e-13)


def test_psnr_of_a_faint_error_is_not_lost_in_float32() -> None:
    """One unit in the last place near 1, at 480p: 144.5 dB; sums in float32 would do, squares in float16 would not."""
    reference = np.full((1, 3, 480, 854), 1.0, np.float32)
    candidate = np.nextafter(reference, np.float32(2))
    assert metrics.psnr_db(candidate, reference) == pytest.approx(20 * 23 * math.log10(2), abs=1e-9)


def test_nothing_is_clipped() -> None:
    reference = np.full((1, 1, 16, 16), 1.0, np.float32)
    assert metrics.max_abs(reference + 3, reference) == 3.0
    assert metrics.psnr_db(reference + 3, reference) == pytest.approx(-20 * math.log10(3))


def test_max_abs_finds_the_one_value_anywhere() -> None:
    for index in [(0, 0, 0, 0), (0, 2, 74, 92), (0, 1, 32, 5)]:
        reference = picture(75, 93)
        candidate = reference.copy()
        candidate[index] = reference[index] - 1
        expected = abs(float(candidate[index]) - float(reference[index]))
        assert metrics.max_abs(candidate, reference) == expected


# SSIM


@pytest.mark.parametrize("noise", [1e-5, 0.05, 2.0])
@pytest.mark.parametrize(("height", "width"), [(75, 93), (11, 11), (11, 200), (42, 12), (43, 64)])
def test_ssim_agrees_with_scikit_image(height: int, width: int, noise: float) -> None:
    candidate, reference = pair(height, width, noise)
    assert metrics.ssim(candidate, reference) == pytest.approx(scikit_ssim(candidate, reference), abs=1e-12)


def test_ssim_of_constant_pictures_is_the_luminance_term() -> None:
    """Without variance only (2ab + C1) / (a² + b² + C1) is left: equation 6 of the paper."""
    shape = (1, 3, 40, 40)
    found = metrics.ssim(np.full(shape, 0.25, np.float32), np.full(shape, 0.75, np.float32))
    assert found == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4), abs=1e-12)


def test_ssim_border_is_five_pixels() -> None:
    """The outermost pixels still lie in windows; the windows centred on the outer 5 pixels do not count."""
    candidate, reference = pair(60, 60)
    assert metrics._ssim_map(candidate[0, 0].astype(float), reference[0, 0].astype(float)).shape == (50, 50)
    changed = candidate.copy()
    changed[0, 0, 0, 0] += 1
    assert metrics.ssim(changed, reference) != metrics.ssim(candidate, reference)


def test_ssim_is_undefined_below_the_window() -> None:
    assert metrics.ssim(*pair(10, 50)) is None
    assert metrics.ssim(*pair(50, 10)) is None
    assert metrics.compare(*pair(10, 50))["psnr_db"] is not None


def test_ssim_does_not_depend_on_the_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, reference = pair(97, 61)
    found = set()
    for rows in (1, 7, 32, 86, 87, 88, 10_000):
        monkeypatch.setattr(metrics, "STRIP_ROWS", rows)
        found.add(metrics.ssim(candidate, reference))
    assert len(found) == 1


def test_ssim_of_a_transposed_picture_is_the_same() -> None:
    candidate, reference = pair(60, 45)
    turned = metrics.ssim(candidate.swapaxes(2, 3), reference.swapaxes(2, 3))
    assert turned == pytest.approx(metrics.ssim(candidate, reference), abs=1e-13)


def test_memory_stays_far_below_a_copy_of_the_picture() -> None:
    candidate, reference = pair(1080, 640)
    tracemalloc.start()
    try:
        metrics.compare(candidate, reference)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < candidate.nbytes / 2


# compare


def test_compare_gives_all_figures() -> None:
    candidate, reference = pair()
    found = metrics.compare(candidate, reference)
    assert found == {
        "psnr_db": metrics.psnr_db(candidate, reference),
        "ssim": metrics.ssim(candidate, reference),
        "max_abs": metrics.max_abs(candidate, reference),
        "identical": False,
        "finite": True,
    }


def test_compare_of_identical_pictures() -> None:
    reference = picture(50, 50)
    found = metrics.compare(reference.copy(), reference)
    assert found == {"psnr_db": None, "ssim": 1.0, "max_abs": 0.0, "identical": True, "finite": True}


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_a_broken_output_never_looks_good(broken: float, side: int) -> None:
    pictures = [picture(50, 50), picture(50, 50)]
    pictures[side][0, 2, 49, 49] = broken
    found = metrics.compare(pictures[0], pictures[1])
    assert found == {"psnr_db": None, "ssim": None, "max_abs": None, "identical": False, "finite": False}


def test_two_equal_broken_outputs_are_not_identical() -> None:
    broken = np.full((1, 3, 20, 20), np.nan, np.float32)
    assert metrics.compare(broken, broken)["identical"] is False


@pytest.mark.parametrize("figure", [metrics.compare, metrics.psnr_db, metrics.ssim, metrics.max_abs])
def test_wrong_shapes_are_refused(figure: Any) -> None:
    reference = picture(20, 20)
    with pytest.raises(ValueError, match="shapes differ"):
        figure(reference[:, :1], reference)  # would broadcast
    with pytest.raises(ValueError, match="Expected"):
        figure(reference[0], reference[0])
    with pytest.raises(ValueError, match="with content"):
        figure(reference[:, :, :0], reference[:, :, :0])


# The table of metrics

RUN = {
    "id": "7",
    "latency_ms": {"p50": 1234.5678, "p99": None},
    "work": {"limit_share": 0.634},
    "throughput_fps": 30,
    "status": "ok",
}


def test_value_follows_the_dots() -> None:
    assert metrics.value(RUN, "latency_ms.p50") == 1234.5678
    assert metrics.value(RUN, "throughput_fps") == 30.0


@pytest.mark.parametrize("key", ["latency_ms.p99", "latency_ms.p42", "none", "quality.vs_reference.ssim", "status.x"])
def test_value_is_none_where_the_run_has_none(key: str) -> None:
    assert metrics.value(RUN, key) is None


@pytest.mark.parametrize("key", ["latency_ms", "status"])
def test_value_refuses_what_is_no_number(key: str) -> None:
    with pytest.raises(UserError, match=f"run 7: `{key}`"):
        metrics.value(RUN, key)


def run_with(key: str, number: float | None, **quality: object) -> dict[str, Any]:
    run: dict[str, Any] = {"quality": {"vs_reference": {"finite": True, "identical": False, **quality}}}
    *owners, name = key.split(".")
    found = run
    for owner in owners:
        found = found.setdefault(owner, {})
    found[name] = number
    return run


@pytest.mark.parametrize(
    ("column", "number", "shown"),
    [
        ("median ms", 1234.5678, "1235"), ("median ms", 12.3456, "12.3"), ("median ms", 1.23456, "1.23"),
        ("median ms", 0.000123456, "0.000123"), ("median ms", None, ""), ("of limit", 0.634, "63%"),
        ("MiB", 0.0, "0"), ("PSNR dB", 92.345, "92.3"), ("SSIM", 0.98769, "0.9877"), ("SSIM", 0.99994, "0.9999"),
        ("SSIM", 0.99996, ">0.9999"), ("SSIM", 1 - 1e-13, ">0.9999"), ("SSIM", 1.0, "1.0000"), ("SSIM", 0.0, "0.0000"),
    ],
)  # fmt: skip
def test_a_figure_is_shown_with_the_digits_it_deserves(column: str, number: float | None, shown: str) -> None:
    metric = next(m for m in metrics.METRICS if m.column == column)
    assert metrics.text(run_with(metric.key, number), metric) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1234"), (100.4, "100"), (99.94, "99.9"), (10.0, "10.0"), (9.994, "9.99"), (1.0, "1.00"),
        (0.5, "0.5"), (0.12345, "0.123"), (0.000123, "0.000123"), (0.0, "0"),
    ],
)  # fmt: skip
def test_numbers_have_three_or_four_digits(value: float, text: str) -> None:
    assert metrics._significant(value) == text


def test_equal_pictures_are_infinitely_alike_and_a_broken_output_shows() -> None:
    psnr, ssim = (next(m for m in metrics.METRICS if m.column == column) for column in ("PSNR dB", "SSIM"))
    assert metrics.text(run_with(psnr.key, None, identical=True), psnr) == "∞"
    for metric in (psnr, ssim):
        assert metrics.text(run_with(metric.key, None, finite=False), metric) == "NaN"
        assert metrics.text({"quality": {"vs_reference": None}}, metric) == ""


def test_metric_keys_and_columns_are_unique_and_name_their_unit() -> None:
    for names in ([m.key for m in metrics.METRICS], [m.column for m in metrics.METRICS]):
        assert len(set(names)) == len(names)
    suffixes = {"_ms": "ms", "_mib": "MiB", "_db": "dB", "_fps": "fps"}
    for metric in metrics.METRICS:
        for suffix, unit in suffixes.items():
            if metric.key.endswith(suffix):
                assert unit in metric.column


def test_the_module_needs_no_torch() -> None:
    code = "import sys, bench.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

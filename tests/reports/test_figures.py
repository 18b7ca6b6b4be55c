"""Figures as short texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports import figures
from reports.comparison import Ratio, compare_rows
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]


def test_figures_are_shown_as_in_the_table(make_run: Make) -> None:
    row = row_from_run(make_run(ms=123.4))
    assert figures.milliseconds(row) == "123 ms"
    assert figures.half_width(row) == "±2.0%"
    assert figures.figure(row, "memory.host_peak_mib") == "500"
    assert figures.figure(row, "memory.device_peak_mib") == "–"
    assert figures.psnr(row) == "60.0 dB"


def test_what_is_missing_is_a_dash_and_what_is_broken_is_said(make_run: Make) -> None:
    failed = row_from_run(make_run(status="failed", latency_ms=None))
    assert (figures.half_width(failed), figures.psnr(failed)) == ("–", "–")
    run = make_run()
    run["latency_ms"]["ci95"] = None
    run["quality"]["vs_reference"] |= {"finite": False, "psnr_db": None}
    assert (figures.half_width(row_from_run(run)), figures.psnr(row_from_run(run))) == ("none", "NaN")
    run["quality"]["vs_reference"] |= {"finite": True, "identical": True}
    assert figures.psnr(row_from_run(run)) == "∞ dB"


def test_ratios_and_counts() -> None:
    assert figures.ratio(Ratio(0.81234, None)) == "0.812×"
    assert figures.ratio(Ratio(23.456, None)) == "23.5×"
    assert figures.ratio_interval(Ratio(1, (0.9, 1.12345))) == "0.900 to 1.123"
    assert figures.ratio_interval(Ratio(1, None)) == "–"
    assert figures.counted({"slower": 2, "same": 1}) == "2 slower, 1 same"
    assert [figures.rows_of(n) for n in (1, 2)] == ["1 row", "2 rows"]
    assert figures.counted({}) == "nothing to compare"


def test_both_sides_of_a_pair(make_run: Make) -> None:
    a, b = row_from_run(make_run("a")), row_from_run(make_run("b", memory={"host_peak_mib": 600}))
    (pair,) = compare_rows([a], [b]).pairs
    assert figures.memory(pair) == "500 → 600 MiB"
    assert figures.quality(pair) == "60.0 dB"


def test_a_figure_beyond_all_measure_stays_short(make_run: Make) -> None:
    assert figures.milliseconds(row_from_run(make_run(ms=1e299, spread=0))) == "1e+299 ms"

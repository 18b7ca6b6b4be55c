"""Nothing that weakens a number goes unsaid."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reports.doubts import by_reason, doubts
from reports.row import row_from_run

Make = Callable[..., dict[str, Any]]
NAN = {"vs_reference": {"psnr_db": None, "ssim": None, "identical": False, "finite": False}}


def kinds(*runs: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(doubt.kind, doubt.severe) for doubt in doubts([row_from_run(run) for run in runs])]


def test_sound_rows_raise_no_doubt(make_run: Make) -> None:
    assert kinds(make_run("a"), make_run("b", case={"variant": "y"})) == []


@pytest.mark.parametrize(
    ("change", "kind", "severe"),
    [
        ({"status": "failed", "reason": "no memory", "latency_ms": None}, "failed", True),
        ({"status": "skipped", "reason": "no bf16"}, "skipped", False),
        ({"quality": NAN}, "broken", True),
        ({"case": {"trained": False}}, "untrained", True),
        ({"unstable": ["drift"], "case": {"variant": "slow"}, "latency_ms": {"p50": 900.0}}, "unstable", False),
        ({"unstable": ["drift"]}, "unstable", True),
        ({"interrupted": True}, "interrupted", False),
        ({"commit": "0123456789abcdef+dirty"}, "commit", False),
        ({"commit": "fedcba"}, "mixed", False),
        ({"machine": {"cpu": "Other"}}, "mixed", True),
        ({"versions": {"torch": "3"}}, "mixed", False),
        ({"contract": {"threads": 1}}, "mixed", True),
        ({"pictures": ["other.png"]}, "pictures", False),
    ],
)
def test_each_kind_is_found(make_run: Make, change: dict[str, Any], kind: str, severe: bool) -> None:
    assert (kind, severe) in kinds(make_run("a"), make_run("b", **change))


def test_reasons_are_told_and_the_severe_come_first(make_run: Make) -> None:
    rows = [row_from_run(make_run("a", unstable=["drift"]))]
    rows.append(row_from_run(make_run("b", status="failed", reason="no memory", latency_ms=None)))
    first, second = doubts(rows)
    assert first.cases == ["can24 720p onnxruntime fp32 image: no memory"]
    assert first.text == "1 of 2 rows failed."
    assert second.cases == ["can24 720p onnxruntime fp32 image: drift"]


def test_rows_of_one_reason_stand_in_one_line(make_run: Make) -> None:
    rows = [row_from_run(make_run(str(i), case={"model": f"m{i}"})) for i in range(9)]
    (line,) = by_reason((row, "same") for row in rows)
    assert line.endswith("and 3 more: same")
    assert by_reason([(rows[0], "")]) == ["m0 720p onnxruntime fp32 image: no reason given"]


def test_one_process_is_a_doubt(make_run: Make) -> None:
    assert ("single", False) in kinds(make_run("a", latency_ms={"ci95_of": "median within one process", "p50": 1.0}))


def test_a_case_that_was_measured_again_is_told_with_both_figures(make_run: Make) -> None:
    runs = make_run("a", 10.0), make_run("b", 14.0, time="2027-01-01"), make_run("c", 3.0, case={"variant": "y"})
    found = doubts([row_from_run(run) for run in runs])
    (repeated,) = [doubt for doubt in found if doubt.kind == "repeated"]
    assert repeated.text == "1 of 3 rows measured again later: answers and figures show the last run of each case."
    (line,) = repeated.cases
    assert re.fullmatch(r"can24 720p onnxruntime fp32 image: 10\.0 ms \(.*\), then 14\.0 ms \(2027-01-01\)", line)
    assert not repeated.severe


def test_a_baseline_and_what_is_compared_with_it_are_no_repetition(make_run: Make) -> None:
    first, again = row_from_run(make_run("a", 10.0)), row_from_run(make_run("b", 14.0, time="2027-01-01"))
    candidate = replace(row_from_run(make_run("c", 12.0)), place=1)
    assert "repeated" not in [doubt.kind for doubt in doubts([first, candidate])]
    (repeated,) = [doubt for doubt in doubts([first, candidate, again]) if doubt.kind == "repeated"]
    (line,) = repeated.cases
    assert line.index("10.0 ms") < line.index("14.0 ms") < line.index("12.0 ms")  # the last file's counts


def test_a_later_failure_is_no_later_figure(make_run: Make) -> None:
    failed = make_run("b", status="failed", reason="x", latency_ms=None, time="2027-01-01")
    assert "repeated" not in dict(kinds(make_run("a"), failed))


def test_an_older_answer_and_an_absurd_figure_are_severe(make_run: Make) -> None:
    failed = make_run("b", status="failed", reason="x", latency_ms=None, time="2027-01-01")
    assert ("outdated", True) in kinds(make_run("a"), failed)
    assert ("absurd", True) in kinds(make_run("a", 1e299, spread=0))


def test_machines_differ_by_their_quota_too_and_say_so(make_run: Make) -> None:
    found = doubts([row_from_run(make_run("a")), row_from_run(make_run("b", machine={"cpu_quota": 2.0}))])
    (mixed,) = [doubt for doubt in found if doubt.kind == "mixed"]
    assert mixed.severe
    assert list(mixed.cases) == ["cpu quota 2", "cpu quota none"]


@pytest.mark.parametrize(("rate", "found"), [(985.0, False), (1100.0, True)])
def test_peaks_of_one_machine_that_differ_are_told(make_run: Make, rate: float, found: bool) -> None:
    b = make_run("b", case={"variant": "y"})
    b["work"]["peaks"]["fp32_gflop_s"] = rate
    assert (("peaks", False) in kinds(make_run("a"), b)) == found


def test_the_seams_of_tiles_are_told(make_run: Make) -> None:
    tiled = row_from_run(make_run("a", case={"tile": 512}, quality={"seam": {"seam_db": 60.0, "elsewhere_db": 61.0}}))
    (found,) = (doubt for doubt in doubts([tiled, row_from_run(make_run("b"))]) if doubt.kind == "seams")
    assert (found.severe, found.cases) == (
        False,
        ["can24 720p onnxruntime fp32 image tile 512: 60.0 dB at the borders, 61.0 dB elsewhere"],
    )

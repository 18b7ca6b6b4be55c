"""The answers as the page shows them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from reports.report import Report
from reports.row import row_from_run
from reports.sections import verdict

Make = Callable[..., dict[str, Any]]


def rendered(*runs: dict[str, Any], floor_db: float = 45.0) -> str:
    return re.sub(r"<[^>]*>", "|", verdict.render(Report([row_from_run(run) for run in runs], floor_db=floor_db)))


def test_the_answer_with_what_it_is_worth(make_run: Make) -> None:
    torch = make_run("t", 300.0, case={"engine": "torch_eager", "variant": "torch_eager"})
    text = rendered(
        make_run("a", unstable=["x"], case={"trained": False}), torch, make_run("b", case={"trained": True})
    )
    assert "45 dB" in text
    for word in ("can24", "untrained", "onnxruntime fp32 image", "unstable", "100 ms", "±2.0%", "60.0 dB", "3.00×"):
        assert word in text


def test_no_answer_is_said_with_the_nearest(make_run: Make) -> None:
    text = rendered(make_run(), floor_db=70)
    assert "none keeps 70 dB; the best is onnxruntime fp32 image with 60.0 dB" in text
    unjudged = rendered(make_run(quality={"vs_reference": None}))
    assert "none was judged" in unjudged
    assert "No row has a result" in rendered(make_run(status="failed", latency_ms=None))


def test_machines_are_named_where_there_are_two(make_run: Make) -> None:
    assert "machine|" not in rendered(make_run())
    assert "Other, 8 cores" in rendered(make_run("a"), make_run("b", machine={"cpu": "Other"}))


def test_the_median_is_the_second_column_and_weakness_is_marked(make_run: Make) -> None:
    text = rendered(make_run("a", latency_ms={"ci95_of": "median within one process", "p50": 100.0}))
    assert text.index("|network and size|") < text.index("|median|") < text.index("|fastest that keeps it|")
    assert "one process" in text
    both = rendered(make_run("a"), make_run("b", contract={"threads": 1}))
    assert "threads 1" in both
    assert "threads 8" in both


def test_what_the_floor_costs_is_said(make_run: Make) -> None:
    runs = [make_run("a", 100.0)]
    for name, ms, psnr in (("int8", 25.0, 41.0), ("fp8", 20.0, 30.0), ("bf16", 30.0, 44.0)):
        run = make_run(name, ms, case={"precision": name})
        run["quality"]["vs_reference"]["psnr_db"] = psnr
        runs.append(run)
    text = rendered(*runs)
    assert "onnxruntime fp8 image (20.0 ms, 30.0 dB), onnxruntime int8 image (25.0 ms, 41.0 dB) …" in text
    assert "bf16" not in text
    assert "dB)" not in rendered(runs[0])

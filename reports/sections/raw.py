"""The runs themselves, inside the page: packed so that no browser takes them for markup, and to be saved as a file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

from bench.store import SCHEMA
from reports.markup import Html, joined, tag
from reports.report import MOST_BYTES as PAGE_BYTES
from reports.report import Report

TITLE = "Raw runs"
ORDER = 130
TURN = 1
"""Before the pictures when the rest of the page is given away."""
MOST_BYTES = 6_000_000
"""Of the packed text; beyond it the samples are left out."""
WORDS_BYTES = 1_000
"""Of what stands around it."""


def render(report: Report) -> str:
    if not report.rows:
        return ""
    packed, whole = pack([row.run for row in report.rows], report.room)
    if not packed:
        return tag("p", "The runs are left out: the page would be too large. They are in the runs files.")
    said = "All runs of this page with every sample, as one runs file."
    if not whole:
        said = "All runs of this page as one runs file, without the single samples: those are in the runs files."
    button = tag("button", "Save runs.json", type="button", id="save-runs")
    return joined((tag("p", said, " ", button), Html(f'<script type="text/plain" id="raw-runs">{packed}</script>')))


def pack(runs: Iterable[Mapping[str, Any]], room: int = PAGE_BYTES) -> tuple[str, bool]:
    """A runs file as base64 of gzip, and whether all samples are in it; empty where `room` bytes hold not even those.

    Args:
        room: bytes there are; MOST_BYTES at most are used for samples.
    """
    runs = list(runs)
    packed = _packed(runs)
    if len(packed) <= min(MOST_BYTES, room - WORDS_BYTES):
        return packed, True
    packed = _packed([_without_samples(run) for run in runs])
    return (packed if len(packed) <= room - WORDS_BYTES else ""), False


def _packed(runs: list[Mapping[str, Any]]) -> str:
    unique = list({run["id"]: run for run in runs}.values())
    text = json.dumps({"schema": SCHEMA, "runs": unique}, allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _without_samples(run: Mapping[str, Any]) -> dict[str, Any]:
    """The run with the median of each process in place of its samples: what intervals and comparisons need."""
    from reports.row import row_from_run

    latency = run.get("latency_ms")
    if not isinstance(latency, Mapping):
        return dict(run)
    medians = [[number] for number in row_from_run(dict(run)).medians_ms]
    return {**run, "latency_ms": {**latency, "samples": medians, "warmup": []}, "samples_left_out": True}

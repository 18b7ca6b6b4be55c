"""What the command says at the end of a video: every fault once, with its exit code, and the notes one needs."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import apply_video
from bench.apply_pictures import Work
from bench.apply_video import outcome_from
from bench.spawn import Interrupted

FACTS: dict[str, Any] = {
    "width": 64, "height": 48, "turns": 0, "rate": "25", "frames": 50, "duration_s": 2.0, "audio": ["aac"], "bits": 8,
    "interlaced": False, "left_out": [],
    "colours": {"matrix": 1, "full": False, "primaries": 2, "transfer": 2, "assumed": False},
}  # fmt: skip
RESULT: dict[str, Any] = {
    "found": {"frames": 50, "broken": 0, "damaged": 0, "end_s": 2.0, "first_error": ""}, "written": 50, "cut": False,
    "stopped": None, "path": "out.mp4", "size": [128, 96], "seconds": 10.0,
}  # fmt: skip


def video(**facts: Any) -> dict[str, Any]:
    return {"source": "in.mp4", "target": "out.mp4", "codec": "h264", "crf": 18, "audio": True,
            "facts": {**FACTS, **facts}}  # fmt: skip


def result(found: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {**RESULT, "found": {**RESULT["found"], **(found or {})}, **more}


def test_a_whole_video_has_no_faults() -> None:
    outcome = outcome_from(video(), RESULT, False)
    assert outcome.summary == "50 frames of 128x96 → out.mp4, 5 frames/s"
    assert (outcome.faults, outcome.interrupted) == ([], False)
    assert outcome.notes == ["h264 crf 18, BT.709, limited range, audio aac copied"]


FAULTS: list[tuple[dict[str, Any], str]] = [
    (result({"broken": 2, "first_error": "Invalid data"}), "2 frames cannot be decoded and are left out"),
    (result({"broken": 2, "first_error": "Invalid data"}), "(first: Invalid data)"),
    (result({"damaged": 3}), "3 frames are damaged"),
    (result({"end_s": 0.8}, cut=True), "ends at 0.80 s of 2.00 s: it is cut short"),
    (result(stopped="the disk is full: out.mp4", path=None), "nothing could be kept. Make room"),
    (result(stopped="MemoryError: x", path="out.partial.mp4"), "what was done so far is kept"),
]


@pytest.mark.parametrize(("told", "words"), FAULTS, ids=[words for _, words in FAULTS])
def test_every_fault_is_said(told: dict[str, Any], words: str) -> None:
    assert words in "\n".join(outcome_from(video(), told, False).faults)


NOTES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"turns": 3}, {}, "turned upright"),
    ({"bits": 10}, {}, "10 bits per value reduced to 8"),
    ({"interlaced": True}, {}, "deinterlace first"),
    ({"left_out": ["subtitle", "data", "data"]}, {}, "not copied: data, subtitle"),
    ({"audio": []}, {}, "no audio"),
    ({}, {"size": [127, 96]}, "127x96 has odd sides: the last row or column is repeated"),
]


@pytest.mark.parametrize(("facts", "more", "words"), NOTES, ids=[words for *_, words in NOTES])
def test_what_one_may_want_to_know_is_noted(facts: dict[str, Any], more: dict[str, Any], words: str) -> None:
    outcome = outcome_from(video(**facts), result(**more), False)
    assert words in "\n".join(outcome.notes)
    assert outcome.faults == []


@pytest.mark.parametrize("killed", [True, False])
def test_an_interrupted_video_says_what_is_left(killed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Reporter:
        @contextmanager
        def stage(self, *_: Any, **__: Any) -> Any:
            yield lambda *_: None

    def run_job(job: Any, _: Any, on_event: Any, __: float) -> Any:
        on_event({"event": "frame", "done": 3})
        raise Interrupted(None if killed else result(stopped="interrupted", path="out.partial.mp4", written=3))

    monkeypatch.setattr(apply_video, "run_job", run_job)
    outcome = apply_video.apply_to_video(Work({}, {}, Reporter()), {**video(), "target": str(tmp_path / "out.mp4")})
    assert outcome.interrupted
    assert outcome.faults == []
    assert ("nothing of in.mp4 is left" if killed else "3 frames of 128x96 → out.partial.mp4") in outcome.summary

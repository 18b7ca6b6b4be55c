"""`bench apply` on a video, as the command sees it: progress, and what there is to say at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.apply_pictures import GRACE_S, STOPPING, Work, no_leftovers, progress_words
from bench.preparing import told
from bench.spawn import Interrupted, JobFailed, run_job
from bench.video.colours import Colours


@dataclass
class VideoOutcome:
    """What became of a video."""

    summary: str
    faults: list[str] = field(default_factory=list)
    """What is not as it should be: the exit code says so too."""
    notes: list[str] = field(default_factory=list)
    """What one may want to know."""
    interrupted: bool = False


def apply_to_video(work: Work, video: dict[str, Any]) -> VideoOutcome:
    """
    Raises:
        UserError: the worker failed, with exit code 5.
    """
    total, start = video["facts"]["frames"], time.monotonic()
    interrupted = False
    with no_leftovers(Path(video["target"]).parent), work.reporter.stage("apply", total=total) as show:

        def follow(event: Mapping[str, Any]) -> None:
            if event["event"] == "frame":
                seconds, done = time.monotonic() - start, event["done"]
                show(done, progress_words("", seconds, done, total or done, "frames"))
            elif event["event"] == "stopping":
                show(0, STOPPING)

        try:
            result: dict[str, Any] | None = run_job(
                {**work.job, "job": "apply", "video": video}, work.environment, follow, GRACE_S
            )
        except Interrupted as end:
            result, interrupted = end.result, True
        except JobFailed as failure:
            raise told(failure) from None
    if result is None:
        return VideoOutcome(f"nothing of {video['source']} is left", interrupted=True)
    # A worker that was done when Ctrl-C came has nothing to stop.
    return outcome_from(video, result, interrupted and result["stopped"] is not None)


def outcome_from(video: Mapping[str, Any], result: Mapping[str, Any], interrupted: bool) -> VideoOutcome:
    """The words for what the worker says."""
    facts, found = video["facts"], result["found"]
    rate = f", {result['written'] / result['seconds']:.3g} frames/s" if result["written"] else ""
    size = "x".join(map(str, result["size"])) if result["size"] else "no size"
    outcome = VideoOutcome(
        f"{result['written']} frames of {size} → {result['path'] or 'nothing'}{rate}", interrupted=interrupted
    )
    why = f" (first: {found['first_error']})" if found["first_error"] else ""
    if found["broken"]:
        outcome.faults.append(
            f"{video['source']}: {found['broken']} frames cannot be decoded and are left out; the one before is shown "
            f"longer{why}"
        )
    if found["damaged"]:
        outcome.faults.append(f"{video['source']}: {found['damaged']} frames are damaged; the decoder patched them up")
    if result["cut"]:
        outcome.faults.append(
            f"{video['source']}: ends at {found['end_s']:.2f} s of {facts['duration_s']:.2f} s: it is cut short"
            + ("" if found["broken"] else why)
        )
    if result["stopped"] and not interrupted:
        todo = "Make room and run it again" if "disk is full" in result["stopped"] else "Nothing after it was done"
        kept = "what was done so far is kept" if result["path"] else "nothing could be kept"
        outcome.faults.append(f"stopped: {result['stopped']}; {kept}. {todo}")
    if not result["path"] and not outcome.faults and not interrupted:
        outcome.faults.append(f"{video['target']}: nothing was written")
    outcome.notes = list(_notes(video, result))
    return outcome


def _notes(video: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    facts, found = video["facts"], []
    crf = "" if video["crf"] is None else f" crf {video['crf']}"
    audio = "no audio"
    if facts["audio"]:
        audio = f"audio {', '.join(facts['audio'])} " + ("copied" if video["audio"] else "left out")
    found.append(f"{video['codec']}{crf}, {Colours(**facts['colours']).words}, {audio}")
    if facts["turns"]:
        found.append("turned upright: the source is stored rotated")
    if result["size"] and any(side % 2 for side in result["size"]) and video["codec"] != "ffv1":
        found.append(f"{'x'.join(map(str, result['size']))} has odd sides: the last row or column is repeated")
    if facts["bits"] > 8:
        found.append(f"{facts['bits']} bits per value reduced to 8")
    if facts["interlaced"]:
        found.append("interlaced frames were taken as they are: deinterlace first for moving pictures")
    if facts["left_out"]:
        found.append(f"not copied: {', '.join(sorted(set(facts['left_out'])))}")
    return found

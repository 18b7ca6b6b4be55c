"""Ways of use in words: how pictures come to a session, and what the contract of a run says of it. Measures nothing.

Back to back is what a queue of files sees; a player sees a picture every 1/30 s, and a device that has slept since the
last one; a server has several under way. Two ways are two contracts: nothing compares a number of one with one of the
other. bench/in_use.py measures them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from bench import picture_plan
from reference_models.errors import UserError

BACK_TO_BACK = "back to back"
MAX_FPS, MAX_IN_FLIGHT = 1000.0, 64
PICTURES = "picture to picture"


@dataclass(frozen=True)
class Way:
    """One way of use."""

    pace_fps: float | None = None
    """Pictures per second that come; None: the next comes when the one before is done."""
    in_flight: int = 1
    """Pictures under way at once, each in a session and a thread of its own."""
    pictures: bool = False
    """uint8 picture in, uint8 picture out; else network only."""

    @property
    def word(self) -> str:
        """What it is called in runs and tables; `way_from_word` reads it."""
        parts = [PICTURES] if self.pictures else []
        parts += [f"{self.pace_fps:g} fps"] if self.pace_fps else []
        parts += [f"{self.in_flight} in flight"] if self.in_flight > 1 else []
        return ", ".join(parts) or BACK_TO_BACK

    @property
    def contract(self) -> dict[str, Any]:
        """What it adds to the contract of a run."""
        found: dict[str, Any] = {"in_flight": self.in_flight}
        if self.word != BACK_TO_BACK:  # runs of earlier versions were back to back too, and do not say so
            found["way"] = self.word
        if self.pace_fps:
            found["pace"] = (
                f"a picture every {1e3 / self.pace_fps:.4g} ms; the process sleeps in between, a latency begins with "
                "the inference, and a picture that comes while one is under way is dropped"
            )
        if self.in_flight > 1:
            found["sessions"] = f"{self.in_flight}, each in a thread of its own; threads are those of one session"
        if self.pictures:
            found["transfers"] = "included: the picture's planes to where they are computed, and the output back"
            found["pre_post_processing"] = (
                "included: uint8 RGB in memory to the network's planes, and its output to uint8 RGB; without decoding "
                "and encoding"
            )
        return found

    def threads(self, threads: int) -> int:
        """Of each session: they share what the case was given."""
        return max(1, threads // self.in_flight)


def way_from_word(word: str) -> Way:
    """What a run's `case.way` says."""
    found = Way()
    for part in word.split(", "):
        if match := re.fullmatch(r"([\d.]+) fps", part):
            found = replace(found, pace_fps=float(match[1]))
        elif match := re.fullmatch(r"(\d+) in flight", part):
            found = replace(found, in_flight=int(match[1]))
        elif part == PICTURES:
            found = replace(found, pictures=True)
        elif part != BACK_TO_BACK:
            raise ValueError(f"{word!r} is no way of use")
    return found


def ways_from_words(pace: Sequence[str], in_flight: Sequence[str], pictures: bool) -> list[Way]:
    """What `--pace`, `--in-flight` and `--pictures` ask for; back to back where they ask for nothing.

    Raises:
        UserError: no such pace or number, or both at once.
    """
    if pace and in_flight:
        raise UserError(
            "`--pace` with `--in-flight`: a paced picture is alone", "one of them", "Measure them in two commands"
        )
    paces = [_pace(word) for word in pace] or [None]
    counts = [_count(word) for word in in_flight] or [1]
    return list(dict.fromkeys(Way(fps, count, pictures) for fps in paces for count in counts))


def _pace(word: str) -> float | None:
    try:
        fps = 0.0 if word == "off" else float(word)
    except ValueError:
        fps = -1.0
    if word == "off":
        return None
    if not 0.1 <= fps <= MAX_FPS:
        raise UserError(
            f"`--pace {word}`: not a pace", f"pictures per second from 0.1 to {MAX_FPS:.0f}, or off", "Try --pace 30"
        )
    return float(f"{fps:g}")  # as it is written in runs


def _count(word: str) -> int:
    if not re.fullmatch(r"\d{1,3}", word) or not 1 <= int(word) <= MAX_IN_FLIGHT:
        raise UserError(f"`--in-flight {word}`: not a number", f"1 to {MAX_IN_FLIGHT} pictures", "Try --in-flight 2")
    return int(word)


def summary(way: Way, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The run's `use`, from what its processes told: counts are added, rates are those of the median process."""
    found: dict[str, Any] = {}
    if way.pace_fps:
        due, late, dropped = (sum(each[key] for each in told) for key in ("due", "late", "dropped"))
        found |= {"pace_fps": way.pace_fps, "due": due, "late": late, "dropped": dropped}
        found["missed_share"] = (late + dropped) / due if due else None
        found["throughput_fps"] = way.pace_fps * (due - dropped) / due if due else None
    if way.in_flight > 1:
        found["throughput_fps"] = median(each["throughput_fps"] for each in told)
        found["throughput_fps_all"] = [each["throughput_fps"] for each in told]
    if apart := next((each["plan_picture"] for each in told if each.get("plan_picture")), None):
        found["plan_picture"] = apart
    ends = [each["ends_ms"] for each in told if each.get("ends_ms")]
    return found | ({"ends_ms": ends[0]} if ends else {})


def use_in_words(runs: Sequence[Mapping[str, Any]], label: Callable[[Any], str]) -> list[str]:
    """One line for every measured run whose way of use tells more than a latency.

    Args:
        label: what a run is called.
    """
    lines = []
    for run in runs:
        use, words = run.get("use") or {}, []
        if use.get("due"):
            missed = use["late"] + use["dropped"]
            words.append(
                f"{missed} of {use['due']} pictures missed at {use['pace_fps']:g} fps ({use['missed_share']:.1%}; "
                f"{use['late']} late, {use['dropped']} dropped)"
            )
        if use.get("throughput_fps_all"):
            least, most = min(use["throughput_fps_all"]), max(use["throughput_fps_all"])
            words.append(f"{use['throughput_fps']:.4g} pictures per second together ({least:.4g} to {most:.4g})")
        if apart := use.get("plan_picture"):
            words.append(picture_plan.in_words(apart))
        if ends := use.get("ends_ms"):
            said = ", ".join(f"{name.replace('_', ' ')} {ms:.3g} ms" for name, ms in ends.items())
            words.append(f"besides, not in it: {said} (input picture)")
        if words:
            lines.append(f"{label(run)}: {'; '.join(words)}")
    return lines

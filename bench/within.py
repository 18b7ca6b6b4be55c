"""`bench sweep --within`: as many cases as end in time, in an order in which a part says most; the rest is left.

Cases run size by size, sizes that lie far apart first, so that a sweep that is cut off has every network and engine at
the size in the middle before any at the next. Networks are prepared just before their cases, the processes of a case
follow one another, so that a short time completes some, and what is under way when the time is over is ended.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import forecast
from bench.spawn import TimeOver
from export.recipe import QUANTISED
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.run import Execution, Progress

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
CLOSING_S = 4.0
"""For what follows the last measurement, and for the start of the command: files, table, imports."""
LEFT = "left: the time of --within was over"


def parse_duration(word: str | None) -> float | None:
    """Seconds of `90s`, `9min`, `1.5h` or a plain number; None: no limit.

    Raises:
        UserError: another form, or nothing that could hold a measurement.
    """
    if word is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|)", word)
    seconds = float(match[1]) * UNITS[match[2] or "s"] if match else 0.0
    if not 10 <= seconds <= 7 * 86400:
        raise UserError(f"`--within {word}`: not a time", "seconds from 10 on, or such as 9min or 1.5h", "Try 9min")
    return seconds


def spread(count: int) -> list[int]:
    """Places 0 … count - 1, the one in the middle first, then always the one that lies furthest from those before."""
    if not count:
        return []
    found, left = [count // 2], set(range(count)) - {count // 2}
    while left:
        furthest = max(left, key=lambda place: (min(abs(place - other) for other in found), place))
        found.append(furthest)
        left.remove(furthest)
    return found


def batches(under_way: Sequence[Progress]) -> list[list[Progress]]:
    """The cases of one size of picture and one network, in the order in which they are to be measured.

    Those whose graph has to be calibrated come behind the others of their size: that can take minutes.
    """

    def size(progress: Progress) -> tuple[int, int]:
        return progress.case.width * progress.case.height, progress.case.width

    def calibrated(progress: Progress) -> bool:
        return progress.case.precision in {*QUANTISED, "auto"}

    sizes = sorted({size(p) for p in under_way})
    order = {sizes[place]: number for number, place in enumerate(spread(len(sizes)))}
    found: dict[tuple[int, bool, str], list[Progress]] = {}
    for progress in sorted(under_way, key=lambda p: (order[size(p)], calibrated(p))):
        key = order[size(progress)], calibrated(progress), progress.case.model
        found.setdefault(key, []).append(progress)
    return list(found.values())


def run_within(
    execution: Execution, under_way: Sequence[Progress], most: int, clock: Callable[[], float] = time.monotonic
) -> None:
    """Measures what ends before `execution.end`; marks the others as left, to be measured by the same command again.

    Args:
        most: processes of a case.
    """
    assert execution.end is not None
    start = clock()
    peaks = execution.peaks()
    execution.end -= (clock() - start) + CLOSING_S  # they are taken once more at the end
    preparing_s = 0.0

    def complete(progress: Progress) -> None:
        """All its processes, as long as those that are missing fit into the time."""
        while not progress.done and len(progress.results) < most:
            left_s = execution.end - clock()  # type: ignore[operator]
            if (most - len(progress.results)) * _expected_s(progress, under_way) >= left_s:
                return
            execution.turn(progress, peaks, _place(under_way, left_s))
        progress.done = True

    for batch in batches(under_way):
        if execution.end - clock() <= preparing_s:
            break
        begun = clock()
        try:
            execution.open(batch)
            preparing_s = clock() - begun
            for progress in batch:
                complete(progress)
        except TimeOver:
            break
    for progress in under_way:
        if not progress.done:
            leave(progress)
    execution.close(under_way, peaks)


def _expected_s(progress: Progress, under_way: Sequence[Progress]) -> float:
    """What one more process of this case may take, by those that its engine has had; 0 where it has had none."""
    own = progress.seconds or [s for p in under_way if p.case.variant == progress.case.variant for s in p.seconds]
    return max(own, default=0.0)


def _place(under_way: Sequence[Progress], left_s: float) -> str:
    done = sum(p.done for p in under_way)
    return f"{done} of {len(under_way)} cases done, {forecast.in_words(left_s, left_s)} of --within"


def leave(progress: Progress) -> None:
    """Marks a case that is not done: too few processes are no result, and it is measured again later."""
    progress.run |= {"status": "skipped", "reason": LEFT}
    progress.done = True


def left_in_words(runs: Sequence[Mapping[str, Any]], held: int) -> str | None:
    """What a cut-off sweep says at its end; None where nothing is left.

    Args:
        held: cases that earlier calls had completed.
    """
    left = sum(run["reason"] == LEFT for run in runs)
    if not left:
        return None
    words = "1 case is left" if left == 1 else f"{left} cases are left"
    if any(run["status"] == "ok" for run in runs):
        return f"{words}: the same command goes on with them"
    found = f"{words}, and this call completed none: give it more time, or shorter cases (--budget, --processes 1)"
    return f"{found}; {held} were there before" if held else found

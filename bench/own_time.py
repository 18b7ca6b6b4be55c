"""Own times of processes (bench/waiting.py) → what a run holds of them, and a verdict on latency that neighbours on the
machine cannot make. Starts nothing and reads no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from bench import judge

Run = Mapping[str, Any]
NOTED = 0.01
"""A share of waiting up to this is not worth a word."""


def of_processes(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`own_ms` and `waited_share` of every process, for a run's `latency_ms`; None, with the reason, where one process
    has none."""
    told = [result.get("own") or {} for result in results]
    reasons = [each.get("why") or "not told by the worker" for each in told if each.get("own_ms") is None]
    if reasons:
        return {"own_ms": None, "waited_share": None, "own_missing": reasons[0]}
    return {
        "own_ms": [each["own_ms"] for each in told],
        "waited_share": [each["waited_share"] for each in told],
        "own_missing": None,
    }


def own_units(run: Run) -> list[float]:
    """Own time of every process in ms; empty where one of them has none, or what it waited is not told."""
    latency = run.get("latency_ms") or {}
    found, shares = latency.get("own_ms"), latency.get("waited_share")
    told = all(isinstance(each, list) and all(isinstance(x, int | float) for x in each) for each in (found, shares))
    return list(found) if told and found and shares and min(found) > 0 else []


def judged(wall: Any, runs: tuple[Run, Run], rule: Any, confidence: float) -> Any:
    """The outcome that a rule on latency gave by the wall clock, made anew by own time where both runs have one.

    Args:
        wall: a bench.gate.Outcome.
        rule: a bench.rules.Rule.
    """
    units = [own_units(run) for run in runs]
    if wall.interval is None or not all(units):
        return wall
    ratio = judge.ratio_of(units[0], units[1], confidence)
    if ratio.interval is None:
        return wall
    middles = [median(each) for each in units]
    margin = rule.margin if rule.relative else rule.margin / middles[0]
    own = judge.verdict_of(ratio, margin)
    why = in_words(runs, (wall.baseline, wall.candidate), (wall.verdict, own))
    return replace(
        wall,
        verdict=verdict(wall.verdict, own),
        baseline=middles[0],
        candidate=middles[1],
        change=ratio.value - 1,
        interval=(ratio.interval[0] - 1, ratio.interval[1] - 1),
        why="; ".join(filter(None, (wall.why, why))),
    )


def agreed(
    wall: Any, runs: tuple[Run, Run], rule: Any, confidence: float, widened: Callable[[judge.Ratio], judge.Ratio]
) -> Any:
    """The outcome by the wall clock of two runs that were measured at different times, its verdict taken back where own
    time does not bear it out: what one of them waited for a core says nothing about its program. Where neither waited
    the wall clock is right, and so it is where own time is worse by more than the margin, too, if less surely.

    Args:
        wall: a bench.gate.Outcome.
        rule: a bench.rules.Rule.
        widened: what disturbed the sides widens this interval, too.
    """
    units = [own_units(run) for run in runs]
    if wall.interval is None or not all(units):
        return wall
    ratio = judge.ratio_of(units[0], units[1], confidence)
    shares = [median(run["latency_ms"]["waited_share"]) for run in runs]
    if ratio.interval is None or max(shares) < NOTED:
        return wall
    ratio = widened(ratio)
    margin = rule.margin if rule.relative else rule.margin / median(units[0])
    own = judge.verdict_of(ratio, margin)
    kept = _AGREED.get((wall.verdict, own), wall.verdict)
    if kept == wall.verdict or (own == "inconclusive" and ratio.value - 1 > margin):
        return wall
    said = (
        f"the wall clock is {wall.verdict}, own time {own} ({ratio.value - 1:+.1%}): {shares[0]:.0%} and "
        f"{shares[1]:.0%} of the wall clock were spent waiting for a core"
    )
    return replace(wall, verdict=kept, why="; ".join(filter(None, (wall.why, said))))


_AGREED: Mapping[tuple[judge.Verdict, judge.Verdict], judge.Verdict] = {
    **{("worse", own): "inconclusive" for own in ("same", "better", "inconclusive")},
    **{(wall, "worse"): "inconclusive" for wall in ("same", "better")},
    ("better", "same"): "same",
}
"""Verdicts by the wall clock and by own time → what may be said of both; elsewhere it is what the wall clock says. More
waiting may be the candidate's own doing: that is never green, and what others did is never red."""


def verdict(wall: judge.Verdict, own: judge.Verdict) -> judge.Verdict:
    """Own time decides, unless the wall clock alone says that B is worse: a candidate may wait more because it makes
    itself wait, and that is never green."""
    return "inconclusive" if wall == "worse" and own in {"same", "better"} else own


def in_words(runs: Sequence[Run], walls: Sequence[float], verdicts: tuple[judge.Verdict, judge.Verdict]) -> str:
    """What the reader of a verdict by own time has to know; empty where nobody waited."""
    shares = [median(run["latency_ms"]["waited_share"]) for run in runs]
    if max(shares) < NOTED:
        return ""
    wall, own = verdicts
    said = (
        f"judged by own time: of the wall clock ({walls[0]:.4g} and {walls[1]:.4g} ms) {shares[0]:.0%} and "
        f"{shares[1]:.0%} were spent waiting for a core"
    )
    if wall == "worse" and own in {"same", "better"}:
        said += (
            f"; own time is {own}, but the wall clock is worse: more waiting, by the candidate's own doing or others'"
        )
    return said

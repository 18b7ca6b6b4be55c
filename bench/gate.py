"""Baseline and candidate runs, and rules → one outcome per case and rule, and the exit code. Prints nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from bench import judge, own_time, pairing
from bench.exit_codes import COULD_NOT_MEASURE, INCONCLUSIVE, OK, REGRESSION
from bench.metrics import value
from bench.record import Run, matrix_peak
from bench.rules import Rule
from bench.stats import CONFIDENCE

Verdict = Literal["worse", "could not measure", "inconclusive", "better", "same", "not judged"]
VERDICTS: Sequence[Verdict] = ("worse", "could not measure", "inconclusive", "better", "same", "not judged")
"""In the order in which they are shown, and in which they decide."""
CODES = {"worse": REGRESSION, "could not measure": COULD_NOT_MEASURE, "inconclusive": INCONCLUSIVE}

ALIKE_DB = 120.0
"""PSNR above this counts as this: a root mean square error of 1e-6 is how FP32 sums in another order differ."""
RATE_NOISE = 0.03
"""The machine's own rate, taken beside each process, varies by this much on a machine that does not change."""
YARDSTICK = 0.10
"""How far two machines' peaks may mislead about one network; added to the interval on both sides by `--normalise`."""


@dataclass(frozen=True)
class Outcome:
    """What one rule says of one case. Figures in the rule's unit; None where there are none."""

    title: str
    rule: Rule | None
    """None where the case as a whole could not be judged."""
    verdict: Verdict
    baseline: float | None = None
    candidate: float | None = None
    change: float | None = None
    """A share of the baseline for rules that compare ratios, else in the unit."""
    interval: tuple[float, float] | None = None
    """Of `change`, 95 %; None where the figures are compared as they are."""
    why: str = ""
    """What the verdict rests on or lacks; empty where nothing needs to be said."""
    runs: tuple[Run | None, Run | None] = (None, None)


@dataclass(frozen=True)
class Terms:
    """How the two sides were measured, and how sure one wants to be."""

    interleaved: bool = False
    """The processes of both sides took turns in random order: what disturbs the machine disturbs both alike."""
    normalise: bool = False
    """Compare across machines, in units of each machine's own measured peaks."""
    confidence: float = CONFIDENCE
    sides: tuple[str, str] = ("baseline", "candidate")
    """What a sentence calls them."""


@dataclass(frozen=True)
class Gate:
    """The result."""

    names: tuple[str, str]
    rules: Sequence[Rule]
    outcomes: Sequence[Outcome]
    """What decides first stands first."""
    differences: Sequence[tuple[str, str, str]]
    terms: Terms = Terms()

    @property
    def counts(self) -> dict[Verdict, int]:
        found = Counter(outcome.verdict for outcome in self.outcomes)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    @property
    def verdict(self) -> Verdict:
        """Of the whole: the first in VERDICTS that any outcome has. Nothing judged is nothing measured."""
        found = set(self.counts) - {"not judged"}
        return next((verdict for verdict in VERDICTS if verdict in found), "could not measure")

    @property
    def exit_code(self) -> int:
        return CODES.get(self.verdict, OK)


def judge_runs(
    baseline: Sequence[Run],
    candidate: Sequence[Run],
    rules: Sequence[Rule],
    names: tuple[str, str] = ("baseline", "candidate"),
    terms: Terms = Terms(),
) -> Gate:
    """Judges every like case of two sets of runs.

    A case of the baseline that the candidate has not measured is `could not measure`; one that only the candidate has
    is `not judged`.

    Raises:
        UserError: a run was changed by hand.
    """
    sides = [pairing.check_runs(runs, name) for runs, name in zip((baseline, candidate), names, strict=True)]
    found = pairing.pair_runs(*sides)
    outcomes = [o for a, b in found.pairs for o in judge_pair(a, b, rules, terms)]
    outcomes += [_unmeasured(run, reason) for run, reason in found.missing]
    outcomes += [
        Outcome(pairing.title_of(run), None, "not judged", why=reason, runs=(None, run)) for run, reason in found.extra
    ]
    return collected(outcomes, rules, names, found.pairs, terms)


def collected(
    outcomes: Sequence[Outcome],
    rules: Sequence[Rule],
    names: tuple[str, str],
    pairs: Sequence[tuple[Run, Run]],
    terms: Terms,
) -> Gate:
    """The outcomes as one result: sorted, and with a fault for every rule asked for that no case has a figure for."""
    told = {outcome.rule.figure.name for outcome in outcomes if outcome.rule}
    blamed = [outcome for outcome in outcomes if outcome.rule is None and outcome.verdict == "could not measure"]
    refused = sum(None not in outcome.runs for outcome in blamed)
    judged = not blamed or refused < len(pairs)  # else every case has its own reason, and no figure is to blame
    silent = [rule for rule in rules if rule.asked and rule.figure.name not in told and judged]
    reason = "no case of the baseline has this figure"
    outcomes = [*outcomes, *(Outcome("every case", rule, "could not measure", why=reason) for rule in silent)]
    outcomes.sort(key=lambda o: VERDICTS.index(o.verdict))
    return Gate(names, rules, outcomes, pairing.differences(pairs), terms)


def judge_pair(a: Run, b: Run, rules: Sequence[Rule], terms: Terms = Terms()) -> list[Outcome]:
    """What the rules say of two runs of one case; a rule whose figure neither run has says nothing."""
    title = pairing.title_of(b)
    if reasons := pairing.refusals(a, b, across_machines=terms.normalise):
        return [Outcome(title, None, "could not measure", why="; ".join(reasons), runs=(a, b))]
    outcomes = []
    for rule in rules:
        outcome = _judged(a, b, rule, terms)
        if outcome:
            outcomes.append(replace(outcome, title=title, runs=(a, b)))
    return outcomes


def _unmeasured(run: Run, reason: str) -> Outcome:
    return Outcome(pairing.title_of(run), None, "could not measure", why=reason, runs=(run, None))


def _judged(a: Run, b: Run, rule: Rule, terms: Terms) -> Outcome | None:
    figure = rule.figure
    if figure.key.startswith("quality."):
        return _quality(a, b, rule)
    before, after = value(a, figure.key), value(b, figure.key)
    if before is None and after is None:
        return None
    if before is None or after is None:
        return _one_sided(rule, before, after)
    if figure.measured:
        wall = judge_latency(a, b, rule, terms)
        return own_time.judged(wall, (a, b), rule, terms.confidence) if terms.interleaved else wall
    return _as_they_are(a, b, rule, before, after)


def _one_sided(rule: Rule, before: float | None, after: float | None) -> Outcome:
    if before is None:
        return Outcome("", rule, "not judged", None, after, why="the baseline has no such figure")
    return Outcome("", rule, "could not measure", before, None, why="the candidate has no such figure")


# Latency: an interval over processes


def judge_latency(a: Run, b: Run, rule: Rule, terms: Terms = Terms()) -> Outcome:
    """What a rule on latency says of two runs that may be compared; `bench compare` and the report say it too."""
    sides = [judge.unit_medians(run["latency_ms"]["samples"], run["latency_ms"].get("builds")) for run in (a, b)]
    p50s = value(a, rule.figure.key), value(b, rule.figure.key)
    if not all(sides):
        return Outcome("", rule, "could not measure", *p50s, why="a side has no samples")
    ratio = judge.ratio_of(sides[0], sides[1], terms.confidence)
    across = pairing.machine_of(a) != pairing.machine_of(b)  # only where that was asked for: else `refusals` had it
    ratio, doubts = (ratio, []) if terms.interleaved else _widened(ratio, (a, b), across, terms.sides)
    if terms.normalise and across:
        normalised = _in_units_of_peaks(ratio, a, b)
        if isinstance(normalised, str):
            return Outcome("", rule, "could not measure", *p50s, why=normalised)
        ratio = normalised
        doubts.append(
            f"in units of each machine's own peaks, which may mislead by {YARDSTICK:.0%} and their own spread"
        )
    margin = rule.margin if rule.relative else rule.margin / median(sides[0])
    verdict = judge.verdict_of(ratio, margin)
    interval = None if ratio.interval is None else (ratio.interval[0] - 1, ratio.interval[1] - 1)
    why = _too_few(sides, terms) if interval is None else "; ".join(doubts)
    outcome = Outcome("", rule, verdict, *p50s, ratio.value - 1, interval, why)
    if terms.interleaved or across:
        return outcome
    return own_time.agreed(
        outcome, (a, b), rule, terms.confidence, lambda own: _widened(own, (a, b), False, terms.sides)[0]
    )


def _too_few(sides: Sequence[Sequence[float]], terms: Terms) -> str:
    most = max(map(len, sides))
    needed = judge.least_units(most, terms.confidence)
    counts = " and ".join(str(len(side)) for side in sides)
    where = "each side" if most <= needed else "the smaller side"
    return (
        f"{counts} processes may all have fallen to their side by chance: a verdict needs {needed} or more on {where} "
        f"(`--processes {max(5, needed)}`)"
    )


def _widened(
    ratio: judge.Ratio, runs: tuple[Run, Run], across: bool, names: tuple[str, str]
) -> tuple[judge.Ratio, list[str]]:
    """The ratio with its interval widened by what disturbed the sides, which were measured at different times."""
    doubts = []
    unstable = [(name, run["unstable"]) for name, run in zip(names, runs, strict=True) if run.get("unstable")]
    if unstable:
        ratio = ratio.stretched()
        texts = (f"{name} unstable ({'; '.join(map(str, reasons))})" for name, reasons in unstable)
        doubts.append(f"interval widened {judge.STRETCH:g} times: {', '.join(texts)}")
    rates = [run.get("machine_gflop_s") or [] for run in runs]
    if all(rates) and not across:
        slowdown = median(rates[0]) / median(rates[1])
        if abs(math.log(slowdown)) > math.log1p(RATE_NOISE):
            ratio = ratio.reaching(1 / slowdown, 1 / slowdown)
            change = f"{1 / slowdown - 1:+.0%} from {names[0]} to {names[1]}"
            doubts.append(f"the machine's own rate changed by {change}: interval extended")
    return ratio, doubts


def _in_units_of_peaks(ratio: judge.Ratio, a: Run, b: Run) -> judge.Ratio | str:
    """The ratio of latencies, each in units of the least time that its machine's peaks allow; or why not."""
    limits = [_limit_s(run) for run in (a, b)]
    if limits[0] is None or limits[1] is None:
        return "another machine, and a side has no measured peak in this precision to compare in units of"
    factor = limits[0] / limits[1]
    spreads = [max(rates) / min(rates) for run in (a, b) if (rates := run.get("machine_gflop_s"))]
    loss = (1 + YARDSTICK) * math.prod(spreads)
    scaled = judge.Ratio(
        ratio.value * factor,
        None if ratio.interval is None else (ratio.interval[0] * factor, ratio.interval[1] * factor),
    )
    return scaled.reaching(1 / loss, loss)


def _limit_s(run: Run) -> float | None:
    """Least time in s that the peaks allow for the case's work (roofline); None where a peak is unknown."""
    work: dict[str, Any] = run.get("work") or {}
    peaks = work.get("peaks") or {}
    peak, copy = matrix_peak(peaks, run["case"]["precision"]), peaks.get("copy_gb_s")
    if not peak or not copy or not work.get("gmac") or not work.get("min_bytes"):
        return None
    return max(2 * work["gmac"] / peak, work["min_bytes"] / 1e9 / copy)


# Figures that are compared as they are


def _as_they_are(a: Run, b: Run, rule: Rule, before: float, after: float) -> Outcome:
    """Of figures that less is better of: those of the typical process where each is known, else the ones stored."""
    each = [_each(run, rule.figure.each_key) for run in (a, b)]
    if all(each):
        before, after = median(each[0]), median(each[1])
    margin = rule.margin * before if rule.relative else rule.margin
    verdict: Verdict = "worse" if after > before + margin else "better" if after < before - margin else "same"
    change = (after / before - 1 if before else math.copysign(after > 0, after)) if rule.relative else after - before
    return Outcome("", rule, verdict, before, after, change)


def _each(run: Run, key: str | None) -> list[float]:
    """The figure of every process; empty where they were not stored."""
    found = _at(run, key) if key else None
    return found if isinstance(found, list) and all(isinstance(x, int | float) for x in found) else []


def _quality(a: Run, b: Run, rule: Rule) -> Outcome | None:
    owners = [_owner(run, rule) for run in (a, b)]
    if not any(owners):
        return None
    if not all(owners):
        return _one_sided(rule, value(a, rule.figure.key), value(b, rule.figure.key))
    for key, what in (("pictures_sha256", "on other pictures"), ("quality.convention", "by another convention")):
        if _at(a, key) != _at(b, key):
            return Outcome("", rule, "could not measure", why=f"quality was judged {what}")
    finite = [bool(owner.get("finite")) for owner in owners]
    if not finite[1]:
        verdict: Verdict = "worse" if finite[0] else "could not measure"
        return Outcome("", rule, verdict, why="the candidate's output holds a NaN or an infinity")
    if not finite[0]:
        return Outcome("", rule, "better", why="the baseline's output holds a NaN or an infinity, the candidate's none")
    return _fallen(rule, *(_quality_figure(run, owner, rule) for run, owner in zip((a, b), owners, strict=True)))


def _fallen(rule: Rule, before: float | None, after: float | None) -> Outcome | None:
    """Of figures that more is better of."""
    if before is None:
        return None
    if after is None:
        return _one_sided(rule, before, None)
    ceiling = ALIKE_DB if rule.figure.unit == "dB" else math.inf
    change = min(after, ceiling) - min(before, ceiling)
    edge = rule.margin + 1e-12  # a fall of exactly the margin is allowed, and decimals are not exact
    verdict: Verdict = "worse" if change < -edge else "better" if change > edge else "same"
    capped = before != after and min(before, after) > ceiling
    why = f"above {ALIKE_DB:g} dB all are alike" if capped else ""
    return Outcome("", rule, verdict, before, after, change, why=why)


def _owner(run: Run, rule: Rule) -> dict[str, Any]:
    """The part of `quality` that the rule's figure is of; empty where it was not judged."""
    found = _at(run, rule.figure.key.rpartition(".")[0])
    return found if isinstance(found, dict) else {}


def _quality_figure(run: Run, owner: dict[str, Any], rule: Rule) -> float | None:
    """The figure; infinite dB where outputs are equal bit by bit."""
    if owner.get("identical") and rule.figure.unit == "dB":
        return math.inf
    return value(run, rule.figure.key)


def _at(run: Run, key: str) -> Any:
    """What stands at a dotted path into a run; None where nothing does."""
    found: Any = run
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found

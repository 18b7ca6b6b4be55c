"""Runs → the lines below the terminal's table: what one must know to believe it. Rich markup; prints nothing by itself.

A sentence that several rows share is said once; every number in it stands with the rows that it belongs to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from bench.fit import fits_in_words
from bench.ways import use_in_words
from export.lowering_words import lowering_in_words

Run = dict[str, Any]
Label = Callable[[Run], str]
NUMBER = re.compile(r"(?<![\w.])[±+-]?\d+(?:\.\d+)?%?(?!\w)")
"""What may differ in a sentence that several rows share; not the digits of `fp32`."""
COLOURS = {"failed": "red", "skipped": "yellow"}
FEW = 3
"""Rows whose numbers stand with their names; those of more stand in the table's order where all rows have one."""
ABOVE = 1.005
"""Share of the limit from which the table shows more than 100 %."""
CHANGED = 1.25
"""A rate beside a row of this many times the peak: the machine was slower when peaks were measured."""

_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda case: case["model"],
    "resolution": lambda case: case["resolution"],
    "engine": lambda case: case.get("variant", case["engine"]),
    "precision": lambda case: case["precision"],
    "statistics": lambda case: case["statistics"] or "",
    "way": lambda case: case.get("way", "back to back"),
    "tile": lambda case: "" if case.get("tile", "off") == "off" else f"tile {case['tile']}",
}


def notes(runs: Sequence[Run]) -> list[str]:
    """Lines of markup, the first one empty: what is not told apart, failed or unstable, then what the figures mean."""
    ok = [run for run in runs if run["status"] == "ok"]
    label = _label_of(runs)
    lines = ["", *_not_told_apart(ok, runs)]
    for status, colour in COLOURS.items():
        chosen = [run for run in runs if run["status"] == status]
        lines += [f"[{colour}]{status}[/]: {line}" for line in _by_reason(chosen, "reason", label)]
    measured = [(label(run), run["unstable"]) for run in runs if run["status"] == "ok" or run["unstable"]]
    every = "all rows" if len(measured) == len(runs) else "all measured rows"
    lines += [f"[yellow]! unstable[/]: {escape(line)}" for line in unstable(measured, every)]
    without = [run for run in runs if run.get("picture_failed")]
    lines += [f"[yellow]no picture[/]: {line}" for line in _by_reason(without, "picture_failed", label)]
    untold = [run for run in runs if run.get("layers_failed")]
    lines += _longest_layers(ok, label)
    lines += [f"[yellow]no times of layers[/]: {line}" for line in _by_reason(untold, "layers_failed", label)]
    if any(not run["case"]["trained"] for run in runs):
        lines.append(
            "[yellow]untrained[/]: weights as the network starts out; CAN's leave most planes zero, and a device that "
            "saves power on zeros may look faster. PSNR and SSIM say only that engines agree. Measure with --weights."
        )
    lines += _shipped(ok)
    lines += [f"[dim]{escape(line)}[/]" for line in (*use_in_words(ok, label), *fits_in_words(ok))]
    return lines + _originals(ok, label) + _tiled(ok, label) + _quantised(ok, label) + (_contract(ok) if ok else [])


# Rows in words


def _varied(runs: Sequence[Run], names: Iterable[str] = _WORDS) -> list[str]:
    return [name for name in names if len({_WORDS[name](run["case"]) for run in runs}) > 1]


def _words(run: Run, names: Iterable[str]) -> str:
    return " ".join(filter(None, (_WORDS[name](run["case"]) for name in names)))


def _label_of(runs: Sequence[Run]) -> Label:
    """What calls a row by the choices in which rows differ; by all of them where none differs."""
    names = _varied(runs) or [name for name in _WORDS if name != "way"]
    return lambda run: _words(run, names) or "whole pictures"  # all that differs is the tile, and this row has none


def _by_reason(runs: Sequence[Run], key: str, label: Label) -> list[str]:
    """`row, row: reason`, escaped."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(run[key], []).append(label(run))
    return [escape(f"{', '.join(labels)}: {reason}") for reason, labels in groups.items()]


# What is not told apart


def overlapping(intervals: Sequence[tuple[float, float]]) -> list[list[int]]:
    """The largest groups, of two or more, of intervals that all overlap each other; by index, in the order given.

    Each group shares a point, and the lowest such point is the lower end of one of its intervals.
    """
    groups = [[i for i, (low, high) in enumerate(intervals) if low <= point <= high] for point, _ in intervals]
    largest = [group for group in groups if not any(set(group) < set(other) for other in groups)]
    return sorted(list(group) for group in {tuple(group) for group in largest if len(group) > 1})


def _not_told_apart(ok: Sequence[Run], runs: Sequence[Run]) -> list[str]:
    """One line, or none. Only rows of one network, size and kind of statistics are compared."""
    subjects: dict[str, list[Run]] = {}
    for run in ok:
        case = run["case"]
        keys = ("model", "options", "trained", "weights_sha256", "resolution", "statistics", "way")
        if run["latency_ms"]["ci95"]:
            subjects.setdefault(repr([case.get(key) for key in keys]), []).append(run)
    subject = _varied(runs, ("model", "statistics"))
    found: dict[str, list[str]] = {}
    for group in subjects.values():
        for members in overlapping([(low, high) for low, high in (run["latency_ms"]["ci95"] for run in group)]):
            rows = [group[i] for i in members]
            names = _varied(rows, ("engine", "precision")) or ["engine"]
            *most, last = (_words(row, names) for row in rows)
            of = f" of {_words(rows[0], subject)}" if subject else ""
            found.setdefault(f"{', '.join(most)} and {last}", []).append(f"{rows[0]['case']['resolution']}{of}")
    said = "; ".join(f"{names} at {', '.join(places)}" for names, places in found.items())
    return [f"[yellow]not told apart[/]: {escape(said)} (intervals overlap)"] if found else []


# What is unstable


def unstable(rows: Sequence[tuple[str, Sequence[str]]], every: str = "all rows") -> list[str]:
    """Sentences that several rows share, each once with its rows, then those of one row alone.

    Args:
        rows: a row's name, and its reasons for being unstable.
        every: what all of them together are called.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for label, reasons in rows:
        for reason in reasons:
            groups.setdefault(NUMBER.sub("#", reason), []).append((label, reason))
    shared = {sentence for sentence, group in groups.items() if len(group) > 1}
    lines = [
        _once(groups[sentence], every if len(groups[sentence]) == len(rows) else None)
        for sentence in groups
        if sentence in shared
    ]
    for label, reasons in rows:
        if own := [reason for reason in reasons if NUMBER.sub("#", reason) not in shared]:
            lines.append(f"{label}: {'; '.join(own)}")
    return lines


def _once(group: Sequence[tuple[str, str]], every: str | None) -> str:
    """Sentences that differ in their numbers only → one, with the rows behind each of the numbers that differ.

    Args:
        every: what the rows are called where they are all there are.
    """
    matches = [list(NUMBER.finditer(reason)) for _, reason in group]
    differing = [i for i, column in enumerate(zip(*matches, strict=True)) if len({m[0] for m in column}) > 1]
    reason = group[0][1]
    if not differing:
        return f"{reason} ({every or ', '.join(label for label, _ in group)})"
    first, last = differing[0], differing[-1]
    numbers = [text[m[first].start() : m[last].end()] for (_, text), m in zip(group, matches, strict=True)]
    said = f"{', '.join(numbers)} ({every}, in this order)" if every and len(group) > FEW else _named(numbers, group)
    return reason[: matches[0][first].start()] + said + reason[matches[0][last].end() :]


def _named(numbers: Sequence[str], group: Sequence[tuple[str, str]]) -> str:
    """`2 of 3 (row, row), 1 of 3 (row)`."""
    found: dict[str, list[str]] = {}
    for number, (label, _) in zip(numbers, group, strict=True):
        found.setdefault(number, []).append(label)
    return ", ".join(f"{number} ({', '.join(labels)})" for number, labels in found.items())


# What the network replaces


def _shipped(ok: Sequence[Run]) -> list[str]:
    """Which weights ran that nobody named a file for."""
    found = {(run["case"]["model"], run["case"]["weights"]) for run in ok if run["case"].get("trained")}
    words = [
        f"{model} {weights}" for model, weights in sorted(found) if not Path(weights).suffix and weights != "its own"
    ]
    if not words:
        return []
    return [f"[bold]weights[/] that ship: {escape(', '.join(words))} (`bench weights list`; --weights none: untrained)"]


def _originals(ok: Sequence[Run], label: Label) -> list[str]:
    """Per original one line: the operator's own time, and how many times as fast each network is; or, for a ground
    truth, what one has without the network."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in ok:
        if original := run.get("original"):
            size = tuple(run["case"]["output_shape"])
            groups.setdefault((original["task"], original["p50_ms"], size), []).append(run)
    lines = [f"[bold]original[/]: {escape(_original(runs, label))}" for runs in groups.values()]
    failed = dict.fromkeys(run["original_failed"] for run in ok if run.get("original_failed"))
    return lines + [f"[bold]original[/]: [red]could not be made[/]: {escape(reason)}" for reason in failed]


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _original(runs: Sequence[Run], label: Label) -> str:
    original, quality = runs[0]["original"], runs[0]["quality"]["vs_original"] or {}
    beside = quality.get("baseline")
    plain = f"; {beside['name']} {_decibels(beside)}" if beside else ""
    if not original["p50_ms"]:
        return f"{original['task']}: against the ground truth{plain}"
    time = original["p50_ms"]
    name = label if len(runs) > 1 else lambda run: _words(run, ("model", "engine"))
    count = len(original["samples_ms"])
    faster = ", ".join(f"{name(run)} {time / run['latency_ms']['p50']:.3g} times as fast" for run in runs)
    return (
        f"operator {original['operator']} takes {time:.0f} ms ({count} run{'s' * (count > 1)}, "
        f"{_threads(original['threads'])}): {faster}{plain}"
    )


# What quantising cost


def _tiled(ok: Sequence[Run], label: Label) -> list[str]:
    """Where tiles lie, what their halos cost, whether one sees their borders, and how well memory was predicted."""
    found = []
    for run in ok:
        tiling = run.get("tiling")
        if not tiling:
            continue
        words = ["whole picture"]
        if tiling["count"] > 1:
            halo = max(tiling["halo"].values())
            share = tiling["work_share"]
            words = [f"{tiling['count']} of {'x'.join(map(str, tiling['window']))}, halo {halo} px, {share:.2f} x work"]
            words.append(_seam_in_words(run["quality"].get("seam")))
        memory = run["memory"]
        if memory.get("host_predicted_mib"):
            off = memory["host_predicted_mib"] / memory["host_peak_mib"] - 1
            words.append(f"predicted {memory['host_predicted_mib']:.0f} MiB ({off:+.0%})")
        words += [f"ran out of memory first with {tiles}" for tiles in tiling["too_large"]]
        found.append(f"tiles: {label(run)}: {', '.join(filter(None, words))}")
    return [f"[dim]{escape(line)}[/]" for line in found]


def _seam_in_words(seam: dict[str, Any] | None) -> str:
    if seam is None:
        return ""
    if seam["db"] is None:
        return "an error at seams only" if seam["elsewhere_db"] is None else "no error at seams"
    return f"error at seams {seam['db']:+.1f} dB"


def _quantised(ok: Sequence[Run], label: Label) -> list[str]:
    """How many layers are quantised and by which way of rounding; and, where PSNR also counts other statistics than the
    published, what the precision alone costs."""
    lines: dict[str, list[str]] = {}
    alone = []
    for run in ok:
        lowering = run.get("lowering")
        if not lowering:
            continue
        if lowering.get("layers"):
            words = lowering_in_words(lowering)
            said = "; ".join([words[0], *(line for line in words if line.startswith("taken: ")), *_floor_in_words(run)])
            lines.setdefault(said, []).append(label(run))
        same, published = (run["quality"].get(key) for key in ("vs_same_statistics", "vs_reference"))
        if same and published and _decibels(same) != _decibels(published):
            alone.append(f"{label(run)} {_decibels(same)}")
    found = [f"quantised: {', '.join(labels)}: {said}" for said, labels in lines.items()]
    found += [f"same statistics in FP32: {', '.join(alone)}"] if alone else []
    return [f"[dim]{escape(line)}[/]" for line in found]


def _floor_in_words(run: Run) -> list[str]:
    """What a search was asked to keep, and what it kept; nothing where there was none."""
    if not (search := run["lowering"].get("search")):
        return []
    asked, kept, count = search["floor_db"], search["psnr_db"], search["held_back"]
    pictures = f"{count} held-back picture{'s' * (count > 1)}"
    return [f"floor {asked:g} dB against FP32 of the same statistics kept on {pictures}: {kept:.1f} dB"]


def _decibels(quality: dict[str, Any]) -> str:
    if not quality["finite"]:
        return "NaN"
    return "identical" if quality["psnr_db"] is None else f"{quality['psnr_db']:.1f} dB"


# What the figures mean


def _contract(ok: Sequence[Run]) -> list[str]:
    run = ok[0]
    machine, peaks = run["machine"], run["work"]["peaks"]
    counts = sorted({len(r["latency_ms"]["samples"]) for r in ok})
    processes = "/".join(map(str, counts)) + (" process" if counts == [1] else " processes")
    of = "of the samples of one process" if counts == [1] else "of that median over processes"
    published = " with the network's published statistics" if any(r["case"]["statistics"] for r in ok) else ""
    lines = [
        f"median ms: one picture, {_ends(ok)}, "
        f"{_threads(run['contract']['threads'])}, {processes} a case; ±: 95 % interval {of}.",
        f"PSNR, SSIM: against {_references(ok)}{published}, same weights and picture, "
        f"planes in \\[0, 1], not clipped{_made_on(ok)}. MiB: peak of the whole process.",
        f"device {escape(run['case']['device'])}{_gpus(run)}; machine: {escape(machine['cpu'])}, "
        f"{machine['cores_usable']} cores, {machine['memory_mib'] / 1024:.0f} GiB",
    ]
    if peaks.get("fp32_gflop_s"):
        known = [(word, peaks.get(f"{word}_gflop_s")) for word in ("bf16", "int8", "fp8")]
        others = "".join(f", {word} {rate:.0f}" for word, rate in known if rate)
        lines[-1] += (
            f"; measured peaks: fp32 {peaks['fp32_gflop_s']:.0f}{others} GFLOP/s ({peaks['fp32_by']}), "
            f"copy {peaks['copy_gb_s']:.0f} GB/s."
        )
        if any(r["work"].get("limit_share") is not None for r in ok):
            lines[-1] += " of limit: share of what these allow."
    if above := [r for r in ok if (r["work"].get("limit_share") or 0) >= ABOVE]:
        lines.append(f"of limit above 100 %: {_above_in_words(above)}")
    return [f"[dim]{line}[/]" for line in lines]


def _longest_layers(runs: Sequence[Run], label: Label) -> list[str]:
    """Of every profiled run the layers that take longest; all of them are in the report."""
    lines = []
    for run in runs:
        if not (layers := run.get("layers")):
            continue
        longest = sorted(layers, key=lambda layer: -layer["ms"])[:3]
        named = ", ".join(f"{layer['layer']} {layer['ms']:.3g} ms" for layer in longest)
        total = sum(layer["ms"] for layer in layers)
        lines.append(f"{len(layers)} layers of {label(run)}, {total:.3g} ms together; longest: {named}")
    return [f"[dim]{escape(line)}[/]" for line in lines] + (["[dim]`bench report` draws them[/]"] if lines else [])


def _made_on(runs: Sequence[Run]) -> str:
    """Where references came from, where that was not the CPU alone."""
    found = dict.fromkeys((run["quality"].get("vs_reference") or {}).get("made_on") for run in runs)
    words = [word for word in found if word]
    return f"; torch on {' and '.join(words)}, as exact as the CPU on a part" if any(w != "cpu" for w in words) else ""


def _above_in_words(runs: Sequence[Run]) -> str:
    """Why rows may exceed the limit: the machine was slower when it was measured, else they need fewer products."""
    for run in runs:
        case, machine = run["case"], run["machine"]
        peak = run["work"]["peaks"].get("fp32_gflop_s") or math.inf
        beside = max(run.get("machine_gflop_s") or [0.0])  # on all cores, in FP32
        alike = (
            case["device"] == "cpu" and case["precision"] == "fp32" and case.get("threads") == machine["cores_usable"]
        )
        if alike and beside > CHANGED * peak:
            return (
                f"the peaks were measured while the machine was slower ({peak:.0f} GFLOP/s, beside a row up to "
                f"{beside:.0f}): the share says nothing here."
            )
    return (
        "the peak is that of a plain matrix product; kernels that need fewer products (Winograd), or that compute more "
        "coarsely inside, can exceed it."
    )


def _ends(ok: Sequence[Run]) -> str:
    """What a latency begins and ends with."""
    pictures = {str(run["contract"].get("pre_post_processing", "")).startswith("included") for run in ok}
    only, whole = "network only (no decoding, no colour conversion)", "uint8 to uint8 with colour conversion"
    if pictures == {True}:
        return f"{whole} (no decoding)"
    return only if pictures == {False} else f"{only}, but {whole} where the way is picture to picture"


def _references(ok: Sequence[Run]) -> str:
    return escape(" or ".join(dict.fromkeys(run["quality"].get("reference", "FP32 torch") for run in ok)))


def _gpus(run: Run) -> str:
    gpus = run["machine"]["gpus"] if run["case"]["device"].startswith("cuda") else []
    return ": " + escape(" / ".join(gpu["name"] for gpu in gpus)) if gpus else ""
